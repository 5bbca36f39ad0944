//! Rejections as responses, further out than the circuit breaker.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::macros::inner_accessors;
use super::on_rejected::{DefaultBody, Protocol, RejectionBody, Respond};
use crate::circuit::Rejected;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Turns the rejections of a circuit breaker further in into responses, as the circuit breaker
/// itself does if it [responds](crate::CircuitBreakerLayer::respond): 503 with `Retry-After`, and
/// in gRPC `UNAVAILABLE`.
///
/// Use it if a layer between must distinguish a rejection from an answer of the upstream: a retry,
/// for example, with the circuit breaker [inside](crate::service::RetryUnlessRejected). With no
/// such layer, let the circuit breaker respond.
///
/// It finds a rejection in the error of the call, or of `poll_ready`, with
/// [`Rejected::find_in`](crate::Rejected::find_in). It passes other errors on, boxed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use std::convert::Infallible;
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_breaker::service::RespondToRejectedLayer;
/// use tower_breaker::{CircuitBreakerLayer, Store};
///
/// let store = Store::in_memory();
/// let users = ServiceBuilder::new()
///     .layer(RespondToRejectedLayer::new())
///     // A layer here sees an error.
///     .layer(CircuitBreakerLayer::new(store.clone()).named("users"))
///     .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
///
/// store.circuit("users").force_open("an example");
/// assert_eq!(users.oneshot(Request::new(())).await?.status(), 503);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct RespondToRejectedLayer<F = DefaultBody> {
    mode: Respond<F>,
}

impl RespondToRejectedLayer {
    /// Returns a layer that responds with an empty body: the `Default` of its type.
    pub const fn new() -> Self {
        Self { mode: Respond(DefaultBody) }
    }

    /// Returns a layer that responds with the body that `body` makes, as
    /// [`respond_with`](crate::CircuitBreakerLayer::respond_with) does.
    pub const fn with<F, B>(body: F) -> RespondToRejectedLayer<F>
    where
        F: Fn(&Rejected, Response<()>) -> Response<B>,
    {
        RespondToRejectedLayer { mode: Respond(body) }
    }
}

impl Default for RespondToRejectedLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, F: Clone> Layer<S> for RespondToRejectedLayer<F> {
    type Service = RespondToRejected<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RespondToRejected { inner, mode: self.mode.clone(), rejected: None }
    }
}

/// A service that responds to rejections. A [`RespondToRejectedLayer`] makes it.
#[derive(Debug)]
pub struct RespondToRejected<S, F = DefaultBody> {
    inner: S,
    mode: Respond<F>,
    /// The next call was rejected before there was one: the inner service is not ready.
    rejected: Option<Rejected>,
}

impl<S, F> RespondToRejected<S, F> {
    inner_accessors!();
}

impl<S: Clone, F: Clone> Clone for RespondToRejected<S, F> {
    fn clone(&self) -> Self {
        // Not the rejection: the clone asks for itself.
        Self { inner: self.inner.clone(), mode: self.mode.clone(), rejected: None }
    }
}

impl<S, F, Req, Res> Service<Request<Req>> for RespondToRejected<S, F>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Error: Into<BoxError>,
    F: RejectionBody<Res> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = RespondToRejectedFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.rejected = match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => None,
            Err(error) => Some(rejection(error)?),
        };
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let (mode, protocol) = (self.mode.clone(), Protocol::of(&request));
        let step = match self.rejected.take() {
            Some(rejected) => Step::Rejected { rejected: Some(rejected) },
            None => Step::Calling { call: self.inner.call(request) },
        };
        RespondToRejectedFuture { step, mode, protocol }
    }
}

/// The rejection, or else the error.
fn rejection(error: impl Into<BoxError>) -> Result<Rejected, BoxError> {
    let error = error.into();
    Rejected::find_in(&*error).cloned().ok_or(error)
}

pin_project! {
    /// The future of a [`RespondToRejected`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RespondToRejectedFuture<Fut, F> {
        #[pin]
        step: Step<Fut>,
        mode: Respond<F>,
        protocol: Protocol,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<Fut> {
        Calling {
            #[pin]
            call: Fut,
        },
        Rejected {
            rejected: Option<Rejected>,
        },
    }
}

impl<Fut, F, B, E> Future for RespondToRejectedFuture<Fut, F>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    F: RejectionBody<B>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejected = match this.step.project() {
            StepProj::Calling { call } => match ready!(call.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => rejection(error)?,
            },
            StepProj::Rejected { rejected } => {
                rejected.take().expect("not polled after it was ready")
            }
        };
        Poll::Ready(Ok(this.mode.response(rejected, *this.protocol, Response::new(()))))
    }
}

impl<Fut, F> fmt::Debug for RespondToRejectedFuture<Fut, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondToRejectedFuture").finish_non_exhaustive()
    }
}
