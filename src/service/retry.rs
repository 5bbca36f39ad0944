//! Retries that do not retry rejections.

use std::error::Error as StdError;

use tower::retry::Policy;

use crate::circuit::{Error, Rejected};
use crate::classify::classifier::is_rejection;

/// Wraps a retry policy so that rejections are not retried.
///
/// A retry is for a call that failed. A rejected call was not made, and is rejected again until the
/// open interval ends: to retry it only uses up the attempts and the budget that are needed when
/// the upstream recovers. So this type does not ask the policy about a rejection, and the caller
/// gets the rejection at once.
///
/// The rejection says that the last attempt was not made. It says nothing about the attempts before
/// it: these may have reached the upstream and changed something there. So a rejection under a
/// retry does not mean that the request can be repeated without harm.
///
/// # Retries, budgets, and circuit breakers
///
/// They answer different questions. A circuit breaker: does the upstream work, over all calls? A
/// retry: is *this* call worth another attempt? A [budget](tower::retry::budget): how much load may
/// retries add, over all calls? So put the circuit breaker *inside* the retry. Each attempt is then
/// a call that the circuit counts, and when it opens, the remaining attempts are not made. Outside
/// the retry, the circuit would see one result for many attempts, and admit all of them.
///
/// We recommend this order, from the outside in: trace, respond, retry, circuit breaker, load shed,
/// concurrency limit, timeout of each attempt, client.
///
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use tower::load_shed::error::Overloaded;
/// use tower::{BoxError, ServiceBuilder, service_fn};
/// use tower_breaker::service::{RespondToRejectedLayer, RetryUnlessRejected};
/// use tower_breaker::{CircuitBreakerLayer, Classify, HttpStatus, Outcome, Store};
/// # #[derive(Clone)] struct Attempts(u32);
/// # impl<R: Clone, T, E> tower::retry::Policy<R, T, E> for Attempts {
/// #     type Future = std::future::Ready<()>;
/// #     fn retry(&mut self, _: &mut R, result: &mut Result<T, E>) -> Option<Self::Future> {
/// #         self.0 = self.0.checked_sub(1)?;
/// #         result.is_err().then(|| std::future::ready(()))
/// #     }
/// #     fn clone_request(&mut self, request: &R) -> Option<R> { Some(request.clone()) }
/// # }
///
/// let breaker = CircuitBreakerLayer::new(Store::in_memory())
///     .named("users")
///     .reject_in_call()
///     .classify_fn(|result: Result<&Response<String>, &BoxError>| match result {
///         // Turned away by the load shed: that is our limit, and says nothing of the upstream.
///         Err(error) if error.is::<Overloaded>() => Outcome::Ignored,
///         result => HttpStatus.classify(result),
///     });
/// let client = service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::<String>::default()));
/// let users = ServiceBuilder::new()
///     // .layer(TraceLayer::new_for_http())
///     .layer(RespondToRejectedLayer::new())
///     .retry(RetryUnlessRejected::new(Attempts(3)))
///     .layer(breaker)
///     .load_shed()
///     .concurrency_limit(100)
///     .timeout(Duration::from_secs(2))
///     .service(client);
/// # fn is_service(_: impl tower::Service<Request<String>, Response = Response<String>> + Clone) {}
/// # is_service(users);
/// ```
///
/// The retry must distinguish a rejection from a response of the upstream. So the circuit breaker
/// rejects with an error, and the [`RespondToRejectedLayer`] outside turns it into a response. The
/// timeout is inside the circuit breaker, so that a call that hangs fails and is not dropped: see
/// [Where does my timeout go?](super#where-does-my-timeout-go). Load shed and limit are inside too,
/// since they guard the calls that are made; the classifier ignores the calls that they turn away.
///
/// [`RespondToRejectedLayer`]: super::RespondToRejectedLayer
///
/// # The last real error
///
/// A circuit often opens during the attempts of one call, and the caller then gets the rejection
/// instead of the error that led to it.
/// [docs/recipes.md](https://github.com/tower-breaker/tower-breaker/blob/main/docs/recipes.md#retries-that-return-the-last-real-error)
/// has a retry policy that keeps that error.
///
/// # Which rejections it finds
///
/// It finds a rejection in this crate's [`Error`](crate::Error), and in a boxed error wherever
/// [`Rejected::find_in`] finds it. In an `Error<BoxError>` it also finds the rejection of a nested
/// circuit breaker. It finds none in other error types: box them first, with
/// `.map_err(BoxError::from)`, or implement [`MaybeRejected`].
///
/// A circuit breaker that [responds](crate::CircuitBreakerLayer::respond) returns no error: your own
/// policy can check for the [`Rejected`] in the extensions of its response.
#[derive(Clone, Copy, Debug)]
pub struct RetryUnlessRejected<P> {
    policy: P,
}

impl<P> RetryUnlessRejected<P> {
    /// Returns a policy that asks `policy` about every result except rejections.
    pub const fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<P, Req, Res, E> Policy<Req, Res, E> for RetryUnlessRejected<P>
where
    P: Policy<Req, Res, E>,
    E: MaybeRejected,
{
    type Future = P::Future;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, E>) -> Option<Self::Future> {
        match result {
            Err(error) if error.is_rejected() => None,
            result => self.policy.retry(request, result),
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        self.policy.clone_request(request)
    }
}

/// An error that may be a rejection. Implement it for an error type of your own that wraps one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether it is a rejection",
    note = "inside a retry use `.reject_in_call()`, and put `RespondToRejectedLayer` outside",
    note = "box other errors: `.map_err(BoxError::from)`"
)]
pub trait MaybeRejected {
    /// Returns whether the error is a rejection.
    fn is_rejected(&self) -> bool;
}

/// Finds its own rejection, and the rejection of a circuit breaker further in if the inner error is
/// a `BoxError`.
impl<E: 'static> MaybeRejected for Error<E> {
    fn is_rejected(&self) -> bool {
        match self {
            Self::Rejected(_) => true,
            Self::Inner(error) => is_rejection(error),
        }
    }
}

impl MaybeRejected for Box<dyn StdError + Send + Sync> {
    fn is_rejected(&self) -> bool {
        Rejected::find_in(&**self).is_some()
    }
}
