//! The peers, each around [`Plain`] as its documentation has it, with its default policy.

use std::io::Error;
use std::task::{Context, Poll};
use std::time::Duration;

use breaker::{BreakerLayer, BreakerService, CircuitBreakerConfig};
use failsafe::backoff::{self, EqualJittered};
use failsafe::failure_policy::{self, ConsecutiveFailures, OrElse, SuccessRateOverTimeWindow};
use failsafe::futures::CircuitBreaker as _;
use failsafe::{FailurePolicy, StateMachine};
use recloser::{AnyError, AsyncRecloser, RecloserFuture};
use tower::{Layer, Service};
use tower_resilience_circuitbreaker as resilience;

use crate::services::Plain;

/// Longer than any run: what is open stays so.
pub const LONG: Duration = Duration::from_secs(3_600);

/// `tower-resilience-circuitbreaker`: its own layer.
#[must_use]
pub fn tower_resilience() -> resilience::CircuitBreaker<Plain, resilience::DefaultClassifier> {
    let layer = resilience::CircuitBreakerLayer::builder().wait_duration_in_open(LONG).build();
    layer.expect("a policy that can work").layer(Plain)
}

/// `breaker`: its own layer.
#[must_use]
pub fn breaker_layer() -> BreakerService<Plain> {
    BreakerLayer::new(breaker()).layer(Plain)
}

/// `breaker`, for its own `call`.
#[must_use]
pub fn breaker() -> breaker::CircuitBreaker {
    let standard = CircuitBreakerConfig::standard();
    let config = CircuitBreakerConfig::builder()
        .failure_rate_threshold(standard.failure_rate_threshold)
        .consecutive_failures(standard.consecutive_failures)
        .sliding_window_size(standard.sliding_window_size)
        .half_open_max_calls(standard.half_open_max_calls)
        .wait_duration(LONG);
    breaker::CircuitBreaker::new(config.build())
}

/// `recloser`: its future, named, without a box.
#[derive(Clone)]
pub struct Recloser<S> {
    inner: S,
    recloser: AsyncRecloser,
}

/// `recloser` around [`Plain`].
#[must_use]
pub fn recloser() -> Recloser<Plain> {
    let recloser = recloser::Recloser::custom().open_wait(LONG).build();
    Recloser { inner: Plain, recloser: recloser.into() }
}

impl<S: Service<u64>> Service<u64> for Recloser<S> {
    type Response = S::Response;
    type Error = recloser::Error<S::Error>;
    type Future = RecloserFuture<S::Future, AnyError>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(recloser::Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.recloser.call(self.inner.call(request))
    }
}

/// `failsafe`: its future, named, without a box.
pub struct Failsafe<S, P> {
    inner: S,
    breaker: StateMachine<P, ()>,
}

/// The policy of `failsafe` by default.
pub type FailsafeDefault =
    OrElse<SuccessRateOverTimeWindow<EqualJittered>, ConsecutiveFailures<EqualJittered>>;

/// `failsafe` around [`Plain`].
#[must_use]
pub fn failsafe() -> Failsafe<Plain, FailsafeDefault> {
    Failsafe { inner: Plain, breaker: failsafe::Config::new().build() }
}

/// `failsafe` around [`Plain`], without a window and so without a clock.
#[must_use]
pub fn failsafe_consecutive() -> Failsafe<Plain, impl FailurePolicy + Send + Sync + 'static> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(LONG));
    Failsafe { inner: Plain, breaker: failsafe::Config::new().failure_policy(policy).build() }
}

impl<S: Clone, P> Clone for Failsafe<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), breaker: self.breaker.clone() }
    }
}

impl<S, P> Service<u64> for Failsafe<S, P>
where
    S: Service<u64, Error = Error>,
    S::Future: Future<Output = Result<S::Response, S::Error>>,
    P: FailurePolicy + Send + Sync,
{
    type Response = S::Response;
    type Error = failsafe::Error<S::Error>;
    type Future = failsafe::futures::ResponseFuture<S::Future, P, (), failsafe::Any>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(failsafe::Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.breaker.call(self.inner.call(request))
    }
}
