//! Calls that end when the body of their response does.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::ResponseFuture;
use super::key::Key;
use super::keyed::{KeyedCircuitBreaker, KeyedFuture};
use super::layer::Reject;
use super::respond::{RejectionBody, Respond, is_grpc, names_grpc};
use super::service::CircuitBreaker;
use crate::circuit::{CallGuard, Circuit, Error};
use crate::classify::{Classify, grpc_outcome};
use crate::outcome::Outcome;

/// A call ends with the body of its response: the mode of
/// [`observe_body`](crate::CircuitBreakerLayer::observe_body), around that of the layer.
#[derive(Clone, Copy, Debug)]
pub struct ObserveBody<M>(pub(super) M);

impl<S, C, Req, Res> Service<Request<Req>> for CircuitBreaker<S, C, ObserveBody<Reject>>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    C: Classify<S::Response, S::Error> + Clone,
    Res: Body,
{
    type Response = Response<ObservedBody<Res>>;
    type Error = Error<S::Error>;
    type Future = ObserveFuture<ResponseFuture<S::Future, C>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let in_call = self.mode().0.in_call;
        self.poll_leave(cx, in_call)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        ObserveFuture { asked: Asked::of(&request), call: self.start(request) }
    }
}

impl<S, C, F, Req, Res> Service<Request<Req>> for CircuitBreaker<S, C, ObserveBody<Respond<F>>>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: RejectionBody<Res> + Clone,
    Res: Body,
{
    type Response = Response<ObservedBody<Res>>;
    type Error = S::Error;
    type Future = ObserveRespondFuture<ResponseFuture<S::Future, C>, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_admit(cx).map_ok(|_| ())
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let mode = self.mode().0.clone();
        let call = ObserveFuture { asked: Asked::of(&request), call: self.start(request) };
        ObserveRespondFuture { call, mode }
    }
}

impl<S, K, C, Req, Res> Service<Request<Req>> for KeyedCircuitBreaker<S, K, C, ObserveBody<Reject>>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone,
    K: Key<Request<Req>>,
    C: Classify<S::Response, S::Error> + Clone,
    Res: Body,
{
    type Response = Response<ObservedBody<Res>>;
    type Error = Error<S::Error>;
    type Future = ObserveFuture<KeyedFuture<S, Request<Req>, C>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_inner(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        ObserveFuture { asked: Asked::of(&request), call: self.start(request) }
    }
}

impl<S, K, C, F, Req, Res> Service<Request<Req>>
    for KeyedCircuitBreaker<S, K, C, ObserveBody<Respond<F>>>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone,
    K: Key<Request<Req>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: RejectionBody<Res> + Clone,
    Res: Body,
{
    type Response = Response<ObservedBody<Res>>;
    type Error = S::Error;
    type Future = ObserveRespondFuture<KeyedFuture<S, Request<Req>, C>, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_inner(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let mode = self.mode().0.clone();
        let call = ObserveFuture { asked: Asked::of(&request), call: self.start(request) };
        ObserveRespondFuture { call, mode }
    }
}

/// What is to be known of the request when its response comes.
#[derive(Clone, Copy, Debug)]
struct Asked {
    in_grpc: bool,
    for_head: bool,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self { in_grpc: is_grpc(request), for_head: request.method() == Method::HEAD }
    }

    /// Puts a body around the body, which holds on to the circuit until its end.
    fn observe<B: Body>(
        self,
        response: Response<B>,
        permit: Option<CallGuard>,
        circuit: Option<Circuit>,
    ) -> Response<ObservedBody<B>> {
        let in_grpc = names_grpc(response.headers()).unwrap_or(self.in_grpc);
        let status = grpc_outcome(response.headers()).filter(|_| in_grpc);
        let trailers = in_grpc && status.is_none();
        let bodiless = self.for_head || is_bodiless(response.status());
        response.map(|body| {
            let mut body = ObservedBody { body, permit, circuit, trailers };
            // The status decides, whatever the classifier said: one that knows HTTP alone takes every
            // gRPC reply for a success.
            if let Some(failure @ Outcome::Failure { .. }) = status {
                settle(&mut body.permit, failure);
            } else if bodiless || has_ended(&mut body.permit, &body.body) {
                // Servers do not poll such a body.
                end(&mut body.permit, trailers, None);
            }
            body
        })
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`], or of a [`KeyedCircuitBreaker`], that
    /// [observes bodies](crate::CircuitBreakerLayer::observe_body).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ObserveFuture<F> {
        #[pin]
        call: F,
        asked: Asked,
    }
}

impl<F, C, B, E> Future for ObserveFuture<ResponseFuture<F, C>>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Classify<Response<B>, E>,
    B: Body,
{
    type Output = Result<Response<ObservedBody<B>>, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (response, permit) = ready!(this.call.poll_keep(cx))?;
        // The service has the circuit, and the store never forgets it.
        Poll::Ready(Ok(this.asked.observe(response, permit, None)))
    }
}

impl<S, R, C, B> Future for ObserveFuture<KeyedFuture<S, R, C>>
where
    S: Service<R, Response = Response<B>>,
    C: Classify<S::Response, S::Error>,
    B: Body,
{
    type Output = Result<Response<ObservedBody<B>>, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (response, permit, circuit) = ready!(this.call.poll_keep(cx))?;
        Poll::Ready(Ok(this.asked.observe(response, permit, circuit)))
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`], or of a [`KeyedCircuitBreaker`], that
    /// [observes bodies](crate::CircuitBreakerLayer::observe_body), and responds.
    #[must_use = "futures do nothing unless polled"]
    pub struct ObserveRespondFuture<F, R> {
        #[pin]
        call: ObserveFuture<F>,
        mode: Respond<R>,
    }
}

impl<F, R, B, E> Future for ObserveRespondFuture<F, R>
where
    ObserveFuture<F>: Future<Output = Result<Response<ObservedBody<B>>, Error<E>>>,
    R: RejectionBody<B>,
    B: Body,
{
    type Output = Result<Response<ObservedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let in_grpc = this.call.asked.in_grpc;
        Poll::Ready(match ready!(this.call.poll(cx)) {
            Ok(response) => Ok(response),
            Err(Error::Rejected(open)) => {
                Ok(this.mode.response(open, in_grpc).map(ObservedBody::unobserved))
            }
            Err(Error::Inner(error)) => Err(error),
        })
    }
}

impl<F, R> fmt::Debug for ObserveRespondFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveRespondFuture").finish_non_exhaustive()
    }
}

/// Servers drop the body of such a response, whatever it is.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

pin_project! {
    /// A body that tells the circuit how it ended: see
    /// [`observe_body`](crate::CircuitBreakerLayer::observe_body).
    pub struct ObservedBody<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        // Until the body has ended.
        permit: Option<CallGuard>,
        // Of a key: so that it is not forgotten meanwhile.
        circuit: Option<Circuit>,
        // gRPC has its status there.
        trailers: bool,
    }

    impl<B: Body> PinnedDrop for ObservedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // It may have come to its end since the last frame was read. While the thread is panicking
            // the body is not asked: a second panic would abort the process.
            if !std::thread::panicking() && has_ended(this.permit, &this.body) {
                end(this.permit, *this.trailers, None);
            } else if let Some(permit) = this.permit.take() {
                permit.cancel();
            }
        }
    }
}

impl<B: Body> ObservedBody<B> {
    fn unobserved(body: B) -> Self {
        Self { body, permit: None, circuit: None, trailers: false }
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = match this.permit.take() {
            Some(permit) => {
                let (permit, frame) = permit.guard(|| this.body.as_mut().poll_frame(cx));
                *this.permit = Some(permit);
                ready!(frame)
            }
            None => return this.body.poll_frame(cx),
        };
        match &frame {
            Some(Ok(frame)) => {
                // Who has read the last frame may not ask for another.
                if frame.is_trailers() || has_ended(this.permit, &this.body) {
                    end(this.permit, *this.trailers, frame.trailers_ref());
                }
            }
            Some(Err(_)) => settle(this.permit, Outcome::failure()),
            None => end(this.permit, *this.trailers, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a call that is still to be judged has come to the end of its body. A body that panics here
/// has failed.
fn has_ended(permit: &mut Option<CallGuard>, body: &impl Body) -> bool {
    permit.take().is_some_and(|held| {
        let (held, ended) = held.guard(|| body.is_end_stream());
        *permit = Some(held);
        ended
    })
}

/// The body has ended, whole.
fn end(permit: &mut Option<CallGuard>, awaited: bool, trailers: Option<&HeaderMap>) {
    let outcome = if awaited {
        trailers.and_then(grpc_outcome).unwrap_or(Outcome::failure())
    } else {
        Outcome::Success
    };
    settle(permit, outcome);
}

fn settle(permit: &mut Option<CallGuard>, outcome: Outcome) {
    if let Some(permit) = permit.take() {
        permit.settle(outcome);
    }
}

impl<B: Body + Default> Default for ObservedBody<B> {
    /// A body that no circuit waits for.
    fn default() -> Self {
        Self::unobserved(B::default())
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for ObservedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedBody").field("body", &self.body).finish_non_exhaustive()
    }
}
