//! tower-http's classifiers as ours.

use ::http::Response;
use tower_http::classify::{ClassifiedResponse, ClassifyResponse};

use super::classifier::{Classify, error_outcome};
use crate::outcome::Outcome;

/// One of tower-http's classifiers, as its `TraceLayer` has them; so that what is logged as a failure
/// counts as one.
///
/// What it takes for a failure is one, without a hint when to come back; so is an error, unless it is
/// another circuit breaker's [rejection](Classify#rejections-of-other-circuit-breakers).
/// It is asked about the head of a response. Where it wants to see how the stream ends, that is a
/// success until then, and [`observe_body`](crate::CircuitBreakerLayer::observe_body) judges the end
/// as it does for every classifier. A classifier that is made for each request is not to be had: give
/// the one for a response, which for tower-http's own is the same.
///
/// ```
/// use tower_breaker::classify::TowerHttp;
/// use tower_breaker::{CircuitBreakerLayer, Store};
/// use tower_http::classify::StatusInRangeAsFailures;
///
/// let layer = CircuitBreakerLayer::new(Store::in_memory())
///     .classify(TowerHttp(StatusInRangeAsFailures::new(400..=599)));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TowerHttp<C>(pub C);

impl<C, B, E: 'static> Classify<Response<B>, E> for TowerHttp<C>
where
    C: ClassifyResponse + Clone,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        result.map_or_else(error_outcome, |response| {
            match self.0.clone().classify_response(response) {
                ClassifiedResponse::Ready(Err(_)) => Outcome::failure(),
                ClassifiedResponse::Ready(Ok(())) | ClassifiedResponse::RequiresEos(_) => {
                    Outcome::Success
                }
            }
        })
    }
}
