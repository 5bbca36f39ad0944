//! Bodies that end a call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::grpc::is_grpc;
use crate::circuit::{CallGuard, Circuit};
use crate::classify::{FailureKind, grpc_kind, grpc_outcome};
use crate::outcome::Outcome;

/// What the response needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    in_grpc: bool,
    for_head: bool,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let in_grpc = is_grpc(request.headers()).unwrap_or_default();
        Self { in_grpc, for_head: request.method() == Method::HEAD }
    }

    /// Puts a body around the body of a good response, which holds on to the call until its end,
    /// and to the circuit, so that the store does not forget it.
    pub(super) fn observe<B: Body>(
        self,
        response: Response<B>,
        call: CallGuard,
    ) -> Response<ObservedBody<B>> {
        let in_grpc = is_grpc(response.headers()).unwrap_or(self.in_grpc);
        let status = grpc_outcome(response.headers()).filter(|_| in_grpc);
        let kind = status.and_then(|_| grpc_kind(response.headers())).unwrap_or_default();
        let last = if in_grpc && status.is_none() { Last::Trailers } else { Last::Data };
        let bodiless = self.for_head || is_bodiless(response.status());
        response.map(|body| {
            let mut body = ObservedBody { body, call: Some(call), circuit: None, last };
            // The status decides, whatever the classifier said: one that knows HTTP alone takes
            // every gRPC reply for a success.
            if let Some(failure @ Outcome::Failure { .. }) = status {
                settle(&mut body.call, failure, kind);
            } else if bodiless || has_ended(&mut body.call, &body.body) {
                // Servers do not poll such a body.
                last.end(&mut body.call, None);
            }
            body
        })
    }
}

/// Servers drop the body of such a response, whatever it is.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

pin_project! {
    /// A response body that ends its call when it ends: see
    /// [`observe_body`](crate::CircuitBreakerLayer::observe_body).
    pub struct ObservedBody<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        // Until the body has ended.
        call: Option<CallGuard>,
        // Of a key: so that it is not forgotten meanwhile.
        circuit: Option<Circuit>,
        last: Last,
    }

    impl<B: Body> PinnedDrop for ObservedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // It may have come to its end since the last frame was read. While the thread is
            // panicking the body is not asked: a second panic would abort the process.
            if !std::thread::panicking() && has_ended(this.call, &this.body) {
                this.last.end(this.call, None);
            } else if let Some(call) = this.call.take() {
                call.cancel();
            }
        }
    }
}

impl<B: Body> ObservedBody<B> {
    pub(super) fn uncounted(body: B) -> Self {
        Self { body, call: None, circuit: None, last: Last::Data }
    }

    /// Holds the circuit of a key until the call has ended.
    pub(super) fn hold(&mut self, circuit: &Circuit) {
        self.circuit = self.call.as_ref().map(|_| circuit.clone());
    }

    /// Returns the inner body.
    pub fn get_ref(&self) -> &B {
        &self.body
    }

    /// Returns the inner body, mutably. The circuit does not see frames that are read from it.
    pub fn get_mut(&mut self) -> &mut B {
        &mut self.body
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
        let frame = match this.call.take() {
            Some(call) => {
                let (call, frame) = call.guard(|| this.body.as_mut().poll_frame(cx));
                *this.call = Some(call);
                ready!(frame)
            }
            None => return this.body.poll_frame(cx),
        };
        match &frame {
            Some(Ok(frame)) => {
                // A reader of the last frame may not ask for another.
                if frame.is_trailers() || has_ended(this.call, &this.body) {
                    this.last.end(this.call, frame.trailers_ref());
                }
            }
            Some(Err(_)) => settle(this.call, Outcome::failure(), FailureKind::Error),
            None => this.last.end(this.call, None),
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

/// Whether a call that is not judged yet has come to the end of its body. A body that panics here
/// has failed.
fn has_ended(call: &mut Option<CallGuard>, body: &impl Body) -> bool {
    call.take().is_some_and(|held| {
        let (held, ended) = held.guard(|| body.is_end_stream());
        *call = Some(held);
        ended
    })
}

/// What a whole body ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Data,
    /// gRPC: the status is there.
    Trailers,
}

impl Last {
    fn end(self, call: &mut Option<CallGuard>, trailers: Option<&HeaderMap>) {
        let outcome = match self {
            Self::Data => Outcome::Success,
            Self::Trailers => trailers.and_then(grpc_outcome).unwrap_or(Outcome::failure()),
        };
        let kind = trailers.and_then(grpc_kind).unwrap_or(FailureKind::GrpcUnknown);
        settle(call, outcome, kind);
    }
}

/// Ends the call. The kind matters if it failed.
fn settle(call: &mut Option<CallGuard>, outcome: Outcome, kind: FailureKind) {
    if let Some(mut call) = call.take() {
        call.failed_as(kind);
        call.settle(outcome);
    }
}

impl<B: Body + Default> Default for ObservedBody<B> {
    /// Returns a body that belongs to no call.
    fn default() -> Self {
        Self::uncounted(B::default())
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for ObservedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedBody").field("body", &self.body).finish_non_exhaustive()
    }
}
