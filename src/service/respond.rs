//! An open circuit as a response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::Classified;
use super::service::CircuitBreaker;
use crate::circuit::Rejected;
use crate::classify::Classify;

/// An open circuit is a response: the mode of
/// [`respond`](crate::CircuitBreakerLayer::respond) and
/// [`respond_with`](crate::CircuitBreakerLayer::respond_with).
#[derive(Clone, Copy)]
pub struct Respond<F>(pub(super) F);

/// The body of a rejection is the body type's `Default`.
#[derive(Clone, Copy, Debug)]
pub struct DefaultBody;

/// Gives a rejection its body. Closures do, and [`DefaultBody`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no body of type `{B}` for a rejection",
    note = "`.respond()` is for bodies with a `Default`",
    note = "otherwise: `.respond_with(|open, response| response.map(|()| MyBody::empty()))`"
)]
pub trait RejectionBody<B> {
    /// The whole response to a rejected call, made from what it would be without a body.
    fn response(&self, open: &Rejected, response: Response<()>) -> Response<B>;
}

impl<B: Default> RejectionBody<B> for DefaultBody {
    fn response(&self, _: &Rejected, response: Response<()>) -> Response<B> {
        response.map(|()| B::default())
    }
}

impl<B, F: Fn(&Rejected, Response<()>) -> Response<B>> RejectionBody<B> for F {
    fn response(&self, open: &Rejected, response: Response<()>) -> Response<B> {
        self(open, response)
    }
}

impl<S, C, F, Req, Res> Service<Request<Req>> for CircuitBreaker<S, C, Respond<F>>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: RejectionBody<Res>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RespondFuture<S::Future, C, Res>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_admit(cx).map_ok(|_| ())
    }

    #[inline]
    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let step = match self.admit() {
            Ok(permit) => Step::Calling { call: self.attempt(permit, request) },
            Err(open) => {
                let response = self.mode().response(open, is_grpc(&request));
                Step::Responding { response: Some(response) }
            }
        };
        RespondFuture { step }
    }
}

impl<F> Respond<F> {
    pub(super) fn response<B>(&self, open: Rejected, in_grpc: bool) -> Response<B>
    where
        F: RejectionBody<B>,
    {
        let head = if in_grpc { grpc(&open) } else { http(&open) };
        let mut response = self.0.response(&open, head);
        response.extensions_mut().insert(open);
        response
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker) that
    /// [responds](crate::CircuitBreakerLayer::respond).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RespondFuture<F, C, B> {
        #[pin]
        step: Step<F, C, B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StepProj]
    enum Step<F, C, B> {
        Calling {
            #[pin]
            call: Classified<F, C>,
        },
        Responding {
            response: Option<Response<B>>,
        },
    }
}

impl<F, C, B, E> Future for RespondFuture<F, C, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Classify<Response<B>, E>,
{
    type Output = Result<Response<B>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Calling { call } => call.poll(cx),
            StepProj::Responding { response } => {
                Poll::Ready(Ok(response.take().expect("not polled after it was ready")))
            }
        }
    }
}

pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    names_grpc(request.headers()).unwrap_or_default()
}

/// Whether the content is gRPC, where there is any. gRPC-Web is not: it has its status in the body.
pub(super) fn names_grpc(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let rest = kind.strip_prefix(b"application/grpc");
    Some(rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))))
}

fn http(open: &Rejected) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if let Some(seconds) = open.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A reply that is all trailers, as gRPC has it: they are sent as headers.
fn grpc(open: &Rejected) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    // Not the circuit's name: who calls from outside need not know what is behind us.
    headers.insert("grpc-message", HeaderValue::from_static("circuit open"));
    if let Some(millis) = pushback(open) {
        headers.insert("grpc-retry-pushback-ms", millis.into());
    }
    response
}

/// In milliseconds, where the circuit knows, and otherwise as HTTP has it.
fn pushback(open: &Rejected) -> Option<u64> {
    match open.retry_after() {
        Some(wait) => u64::try_from(wait.as_nanos().div_ceil(1_000_000)).ok(),
        None => open.retry_after_seconds().map(|seconds| seconds * 1_000),
    }
}

impl<F> fmt::Debug for Respond<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Respond").field(&std::any::type_name::<F>()).finish()
    }
}
