//! Classifiers of the crate `tower-http` as classifiers of a circuit breaker.

use ::http::Response;
use tower_http::classify::{ClassifiedResponse, ClassifyResponse};

use super::classifier::{Classify, error_outcome};
use crate::outcome::Outcome;

/// Classifies with one of tower-http's classifiers, so that what its `TraceLayer` logs as a failure
/// also counts as one.
///
/// What the classifier calls a failure is a failure without a hint. An error is a failure too,
/// unless it is another circuit breaker's
/// [rejection](Classify#rejections-of-other-circuit-breakers).
///
/// It classifies the head of a response. If it wants to see the end of the stream, the head counts
/// as a success, and [`observe_body`](crate::CircuitBreakerLayer::observe_body) classifies the end
/// as it does for every classifier.
///
/// Per-request `MakeClassifier`s are not supported; pass the classifier of a response. For those of
/// tower-http this makes no difference.
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
