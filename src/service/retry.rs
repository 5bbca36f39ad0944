//! Retries that leave open circuits alone.

use std::error::Error as StdError;

use tower::retry::Policy;

use crate::circuit::{Error, find_open};

/// Makes a retry policy leave rejections alone.
///
/// A retry is for a call that failed. A rejected one was never made, and will be rejected again until
/// the open interval is over: retrying it only spends the attempts, the waits, and the budget that
/// should be there when the upstream is back. With this around it, the policy is not asked about a
/// rejection: it is not retried, and costs nothing.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, RetryUnlessOpen, Store};
/// # #[derive(Clone)] struct Attempts(u32);
/// # type Failed = tower_breaker::Error<std::io::Error>;
/// # impl tower::retry::Policy<u32, u32, Failed> for Attempts {
/// #     type Future = std::future::Ready<()>;
/// #     fn retry(&mut self, _: &mut u32, result: &mut Result<u32, Failed>) -> Option<Self::Future> {
/// #         self.0 = self.0.checked_sub(1)?;
/// #         result.is_err().then(|| std::future::ready(()))
/// #     }
/// #     fn clone_request(&mut self, request: &u32) -> Option<u32> { Some(*request) }
/// # }
///
/// let service = ServiceBuilder::new()
///     .retry(RetryUnlessOpen::new(Attempts(3)))
///     .layer(
///         CircuitBreakerLayer::new(Store::in_memory())
///             .named("payments")
///             .classify(ErrorsAsFailures)
///             .reject_in_call(),
///     )
///     .service_fn(|order: u32| async move { Ok::<_, std::io::Error>(order) });
/// # fn is_service(_: impl tower::Service<u32>) {}
/// # is_service(service);
/// ```
///
/// # Retries, budgets, and circuit breakers
///
/// They answer different questions. A circuit breaker asks whether the upstream is well, over all
/// calls; a retry whether *this* call is worth another attempt; a
/// [budget](tower::retry::budget) how much load retries may add, over all calls. So the breaker is
/// *inside* the retry: each attempt is a call that the circuit should count, and when it opens, the
/// remaining attempts are not made. Outside of it, the breaker would see one result for many attempts,
/// and go on letting each of them through.
///
/// The order that we recommend, from the outside in: trace, [`respond`], retry, circuit breaker, load
/// shed, concurrency limit, timeout of each attempt, client. The timeout is inside the breaker so that a
/// call that hangs ends as an error, a failure, and is not dropped, which says less
/// ([`Cancelled`](crate::Cancelled)). Load shed and limits are inside too: what they turn away are
/// calls, which a [classifier](crate::Classify) should ignore.
///
/// [`respond`]: crate::CircuitBreakerLayer::respond
///
/// # Which rejections it knows
///
/// Those in errors: of this crate's [`Error`](crate::Error), and in boxed errors wherever
/// [`find_open`] finds them. A circuit breaker that [responds](crate::CircuitBreakerLayer::respond) has no
/// errors for this; its responses bear the [`OpenCircuit`](crate::OpenCircuit) as an extension, which a
/// policy of your own can look at.
#[derive(Clone, Copy, Debug)]
pub struct RetryUnlessOpen<P> {
    policy: P,
}

impl<P> RetryUnlessOpen<P> {
    /// Around `policy`.
    pub const fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<P, Req, Res, E> Policy<Req, Res, E> for RetryUnlessOpen<P>
where
    P: Policy<Req, Res, E>,
    E: MaybeOpen,
{
    type Future = P::Future;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, E>) -> Option<Self::Future> {
        match result {
            Err(error) if error.is_open() => None,
            result => self.policy.retry(request, result),
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        self.policy.clone_request(request)
    }
}

/// An error that may be a rejection. Implement it for an error type of your own that wraps one.
pub trait MaybeOpen {
    /// Whether it is.
    fn is_open(&self) -> bool;
}

impl<E> MaybeOpen for Error<E> {
    fn is_open(&self) -> bool {
        Error::is_open(self)
    }
}

impl MaybeOpen for Box<dyn StdError + Send + Sync> {
    fn is_open(&self) -> bool {
        find_open(&**self).is_some()
    }
}
