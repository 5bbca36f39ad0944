//! Retries that leave open circuits alone.

use std::error::Error as StdError;

use tower::retry::Policy;

use crate::circuit::{Error, Rejected};
use crate::classify::classifier::is_rejection;

/// Makes a retry policy leave rejections alone.
///
/// A retry is for a call that failed. A rejected one was not made, and will be rejected again until
/// the open interval is over: retrying it only spends the attempts, the waits, and the budget that
/// should be there when the upstream is back. With this around it, the policy is not asked about a
/// rejection: it is not retried, and costs nothing.
///
/// What the caller then gets is the rejection. It says that the last attempt was not made, and nothing
/// of the attempts before it: these may have reached the upstream, and have done their work there. So a
/// rejection under a retry is no promise that the request may be repeated without harm. See
/// [below](#the-last-real-error) how to return the error of the last attempt that was made instead.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_breaker::service::RetryUnlessRejected;
/// use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
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
///     .retry(RetryUnlessRejected::new(Attempts(3)))
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
/// The order that we recommend, from the outside in: trace, respond, retry, circuit breaker, load shed,
/// concurrency limit, timeout of each attempt, client.
///
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use tower::load_shed::error::Overloaded;
/// use tower::{BoxError, ServiceBuilder, service_fn};
/// use tower_breaker::service::RespondToRejectedLayer;
/// use tower_breaker::service::RetryUnlessRejected;
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
/// The retry has to know a rejection from a response of the upstream's, so the circuit breaker makes an
/// error of it, and [`RespondToRejectedLayer`] the response, outside. The timeout is inside the breaker so
/// that a call that hangs ends as an error, a failure, and is not dropped, which says less: see
/// [Where does my timeout go?](super#where-does-my-timeout-go). Load shed and limit are inside too, as they guard what calls
/// there are; what they turn away, the classifier ignores.
///
/// [`RespondToRejectedLayer`]: super::RespondToRejectedLayer
///
/// # The last real error
///
/// A circuit often opens on the very attempts of one call, and the caller then gets the rejection in
/// place of the error that led to it. A policy can keep that error. As it looks at rejections itself,
/// it needs no `RetryUnlessRejected` around it; as tower drops the result of an attempt that is retried, it
/// keeps a clone, here of an `Arc`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_breaker::PolicyError> {
/// use std::future::{Ready, ready};
/// use std::io;
/// use std::sync::Arc;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_breaker::{CircuitBreakerLayer, Error, ErrorsAsFailures, Policy, Store};
///
/// type Failed = Error<Arc<io::Error>>;
///
/// /// Retries `left` times, and returns the last real error where an attempt is rejected.
/// #[derive(Clone)]
/// struct Attempts {
///     left: u32,
///     last: Option<Arc<io::Error>>,
/// }
///
/// impl<Req: Clone, Res> tower::retry::Policy<Req, Res, Failed> for Attempts {
///     type Future = Ready<()>;
///
///     fn retry(&mut self, _: &mut Req, result: &mut Result<Res, Failed>) -> Option<Ready<()>> {
///         match result {
///             Ok(_) => None,
///             Err(Error::Rejected(_)) => {
///                 if let Some(error) = self.last.take() {
///                     *result = Err(Error::Inner(error));
///                 }
///                 None
///             }
///             Err(Error::Inner(error)) => {
///                 self.left = self.left.checked_sub(1)?;
///                 self.last = Some(error.clone());
///                 Some(ready(()))
///             }
///         }
///     }
///
///     fn clone_request(&mut self, request: &Req) -> Option<Req> {
///         Some(request.clone())
///     }
/// }
///
/// let store = Store::in_memory();
/// let layer = CircuitBreakerLayer::new(store.clone())
///     .named("payments")
///     .policy(Policy::builder().consecutive_failures(2).build()?)
///     .classify(ErrorsAsFailures)
///     .reject_in_call();
/// let payments = ServiceBuilder::new()
///     .retry(Attempts { left: 9, last: None })
///     .layer(layer)
///     .map_err(Arc::new)
///     .service(service_fn(async |_: u32| Err::<u32, _>(io::Error::other("no route"))));
///
/// // Two attempts fail and open the circuit; the third is rejected.
/// let error = payments.clone().oneshot(7).await.unwrap_err();
/// assert_eq!(error.to_string(), "no route");
/// assert!(!store.circuit("payments").is_available());
/// // No attempt of this call was made, so the rejection is all there is to say.
/// assert!(payments.oneshot(7).await.unwrap_err().is_rejected());
/// # Ok(()) }
/// ```
///
/// # Which rejections it knows
///
/// Those of this crate's [`Error`](crate::Error), and in boxed errors wherever [`Rejected`] finds
/// them; also where circuit breakers are nested, and the inner one's rejection is boxed in the outer
/// one's `Error<BoxError>`. Not those in other error types: box them first, with
/// `.map_err(BoxError::from)`, or implement [`MaybeRejected`].
///
/// A circuit breaker that [responds](crate::CircuitBreakerLayer::respond) has no errors for this; its
/// responses bear the [`Rejected`](crate::Rejected) as an extension, which a policy of your own
/// can look at.
#[derive(Clone, Copy, Debug)]
pub struct RetryUnlessRejected<P> {
    policy: P,
}

impl<P> RetryUnlessRejected<P> {
    /// Around `policy`.
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
pub trait MaybeRejected {
    /// Whether it is.
    fn is_rejected(&self) -> bool;
}

/// Its own rejection, or that of a circuit breaker further in, if the inner error is a box.
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
