//! Response bodies that follow a script, and a service that answers with them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame};
use tower::{Layer, Service};
use tower_breaker::service::on_rejected::{DefaultBody, Respond};
use tower_breaker::service::until::UntilBody;
use tower_breaker::{CircuitBreaker, CircuitBreakerLayer, HttpStatus, Store};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Data,
    Trailers(&'static str),
    Break,
    Hang,
    Panic,
}

/// A body that plays its steps.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) steps: VecDeque<Step>,
    /// `is_end_stream` is true as soon as the last step was played.
    pub(super) knows_its_end: bool,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data) => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            Some(Step::Trailers(status)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                trailers.insert("grpc-retry-pushback-ms", "30000".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Step::Break) => Some(Err("broken")),
            Some(Step::Hang) => return Poll::Pending,
            Some(Step::Panic) => panic!("as asked, in the body"),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }
}

pub(super) type Replies = Arc<Mutex<dyn FnMut() -> Response<Script> + Send>>;
type Observed = CircuitBreaker<Upstream, HttpStatus, Respond<DefaultBody>, UntilBody>;

#[derive(Clone)]
pub(super) struct Upstream(Replies);

impl Service<Request<()>> for Upstream {
    type Response = Response<Script>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<Script>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(self.0.lock().unwrap()()))
    }
}

pub(super) fn service(
    store: &Store,
    reply: impl FnMut() -> Response<Script> + Send + 'static,
) -> Observed {
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").respond().observe_body();
    layer.layer(Upstream(Arc::new(Mutex::new(reply))))
}

pub(super) fn grpc(steps: &[Step]) -> Response<Script> {
    let body = Script { steps: steps.to_vec().into(), knows_its_end: false };
    Response::builder().header("content-type", "application/grpc+proto").body(body).unwrap()
}

pub(super) fn plain(steps: &[Step]) -> Response<Script> {
    Response::new(Script { steps: steps.to_vec().into(), knows_its_end: false })
}
