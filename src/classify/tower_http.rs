//! tower-http's classifiers as ours, for each version of tower-http that stacks have today.

use ::http::Response;

use super::classifier::{Classify, error_kind, error_outcome, error_text};
use super::http;
use crate::outcome::{FailureKind, Outcome};

/// Judges responses with one of tower-http's classifiers: what its `TraceLayer` logs as a failure
/// counts as one. For tower-http 0.7; feature `tower-http`.
///
/// | result | counts as |
/// | --- | --- |
/// | a response that the classifier calls a failure | failure, without a retry hint |
/// | an error | failure, unless it is a circuit breaker's [rejection](Classify#rejections-of-other-circuit-breakers) |
/// | any other response | success |
///
/// The classifier judges the head of a response. Where it waits for the end of the stream, as
/// `GrpcErrorsAsFailures` does, the head is a success, and
/// [`observe_body`](crate::CircuitBreakerLayer::observe_body) judges the end by its own rule.
///
/// Pass the classifier of a response, not a `MakeClassifier`: a classifier for each request is not
/// supported.
///
/// ```
/// use tower_breaker::classify::TowerHttp;
/// use tower_breaker::{CircuitBreakerLayer, Store};
/// use tower_http::classify::StatusInRangeAsFailures;
///
/// let layer = CircuitBreakerLayer::new(Store::in_memory())
///     .named("users")
///     .classify(TowerHttp(StatusInRangeAsFailures::new(400..=599)));
/// # let _ = layer;
/// ```
///
/// # Other versions of tower-http
///
/// A classifier of tower-http 0.6 goes into `TowerHttp06` (feature `tower-http-06`). In this type
/// it does not compile: rustc says `` the trait bound `StatusInRangeAsFailures: ClassifyResponse`
/// is not satisfied ``, and notes that there are multiple versions of the crate. `cargo tree -i
/// tower-http` shows which of them your stack has.
#[cfg(feature = "tower-http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TowerHttp<C>(pub C);

#[cfg(feature = "tower-http")]
impl<C, B, E: 'static> Classify<Response<B>, E> for TowerHttp<C>
where
    C: tower_http::classify::ClassifyResponse + Clone,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        use tower_http::classify::ClassifiedResponse::Ready;

        judge(result, |head| matches!(self.0.clone().classify_response(head), Ready(Err(_))))
    }

    fn failure_kind(&self, result: Result<&Response<B>, &E>) -> FailureKind {
        kind(result)
    }

    fn describe(&self, result: Result<&Response<B>, &E>) -> Option<String> {
        result.map_or_else(error_text, |head| http::describe(head.status()))
    }
}

/// Judges responses with one of tower-http 0.6's classifiers; feature `tower-http-06`.
///
/// For tower-http 0.7 use `TowerHttp` (feature `tower-http`), whose documentation applies to this
/// type too.
///
/// ```
/// use tower_breaker::classify::TowerHttp06;
/// use tower_breaker::{CircuitBreakerLayer, Store};
/// use tower_http_06::classify::StatusInRangeAsFailures; // yours may be called `tower_http`
///
/// let layer = CircuitBreakerLayer::new(Store::in_memory())
///     .named("users")
///     .classify(TowerHttp06(StatusInRangeAsFailures::new(400..=599)));
/// # let _ = layer;
/// ```
#[cfg(feature = "tower-http-06")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TowerHttp06<C>(pub C);

#[cfg(feature = "tower-http-06")]
impl<C, B, E: 'static> Classify<Response<B>, E> for TowerHttp06<C>
where
    C: tower_http_06::classify::ClassifyResponse + Clone,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        use tower_http_06::classify::ClassifiedResponse::Ready;

        judge(result, |head| matches!(self.0.clone().classify_response(head), Ready(Err(_))))
    }

    fn failure_kind(&self, result: Result<&Response<B>, &E>) -> FailureKind {
        kind(result)
    }

    fn describe(&self, result: Result<&Response<B>, &E>) -> Option<String> {
        result.map_or_else(error_text, |head| http::describe(head.status()))
    }
}

fn judge<R, E: 'static>(result: Result<&R, &E>, failed: impl FnOnce(&R) -> bool) -> Outcome {
    match result {
        Ok(head) if failed(head) => Outcome::failure(),
        Ok(_) => Outcome::Success,
        Err(error) => error_outcome(error),
    }
}

fn kind<B, E: 'static>(result: Result<&Response<B>, &E>) -> FailureKind {
    result.map_or_else(error_kind, |head| http::kind(head.status(), Some(head.headers())))
}
