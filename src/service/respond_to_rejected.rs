//! A rejection as a response, further out than the circuit breaker.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::respond::{DefaultBody, RejectionBody, Respond, is_grpc};
use crate::circuit::Rejected;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Answers the rejections of a circuit breaker further in, as it would itself if it
/// [responded](crate::CircuitBreakerLayer::respond): 503 with `Retry-After`, and in gRPC `UNAVAILABLE`.
///
/// For stacks in which something between needs to know a rejection from an answer of the upstream's:
/// a retry, say, [inside](crate::service::RetryUnlessRejected) of which the circuit breaker is. Where there is
/// nothing between, let the circuit breaker respond.
///
/// A rejection is found in the error of the call, or of `poll_ready`, wherever
/// [`Rejected`] finds it. Other errors pass, in a box.
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
///     // What is between sees an error.
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
    /// Answers with an empty body: its type's `Default`.
    pub const fn new() -> Self {
        Self { mode: Respond(DefaultBody) }
    }

    /// Answers with the body that `body` makes, as
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

/// A service that answers rejections. Made by a [`RespondToRejectedLayer`].
#[derive(Debug)]
pub struct RespondToRejected<S, F = DefaultBody> {
    inner: S,
    mode: Respond<F>,
    /// The next call was rejected before there was one: the inner service is not ready.
    rejected: Option<Rejected>,
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
        let (mode, in_grpc) = (self.mode.clone(), is_grpc(&request));
        let step = match self.rejected.take() {
            Some(open) => Step::Rejected { open: Some(open) },
            None => Step::Calling { call: self.inner.call(request) },
        };
        RespondToRejectedFuture { step, mode, in_grpc }
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
        in_grpc: bool,
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
            open: Option<Rejected>,
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
        let open = match this.step.project() {
            StepProj::Calling { call } => match ready!(call.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => rejection(error)?,
            },
            StepProj::Rejected { open } => open.take().expect("not polled after it was ready"),
        };
        Poll::Ready(Ok(this.mode.response(open, *this.in_grpc)))
    }
}

impl<Fut, F> fmt::Debug for RespondToRejectedFuture<Fut, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondToRejectedFuture").finish_non_exhaustive()
    }
}
