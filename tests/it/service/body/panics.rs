//! Bodies that panic.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::service::ObservedBody;
use tower_breaker::{CircuitBreakerLayer, State, Store};

use super::script::{Step, plain, service};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_a_failure() {
    let store = store(fragile());
    let service = service(&store, || plain(&[Step::Panic]));
    let response = service.oneshot(Request::new(())).await.unwrap();
    let reading = tokio::spawn(async move { response.into_body().collect().await.map(|_| ()) });
    assert!(reading.await.unwrap_err().is_panic());
    assert_state(&store.circuit("test"), State::Open);
}

/// A body whose `is_end_stream` panics once the flag is set.
#[derive(Clone, Debug, Default)]
struct PanicsAtEnd(Arc<AtomicBool>);

impl Body for PanicsAtEnd {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data")))))
    }

    fn is_end_stream(&self) -> bool {
        assert!(!self.0.load(Relaxed), "as asked, by the body");
        false
    }
}

/// The response body of a call, whose flag is set from the start or later.
async fn respond(store: Store, panics: bool) -> (PanicsAtEnd, ObservedBody<PanicsAtEnd>) {
    drop(store.circuit("test").reset());
    let body = PanicsAtEnd::default();
    body.0.store(panics, Relaxed);
    let layer = CircuitBreakerLayer::new(store).named("test").respond().observe_body();
    let reply = body.clone();
    let service = layer.layer(service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(reply.clone())))
    }));
    (body, service.oneshot(Request::new(())).await.unwrap().into_body())
}

#[tokio::test(start_paused = true)]
async fn an_is_end_stream_that_panics_is_a_failure_and_does_not_abort() {
    let store = store(fragile());
    let circuit = store.circuit("test");

    // When the response head arrives.
    let call = tokio::spawn(respond(store.clone(), true));
    assert!(call.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When a frame is read. The drop that follows must not ask again, as that would abort.
    let (body, mut reading) = respond(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let reading = tokio::spawn(async move { drop(reading.frame().await) });
    assert!(reading.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When it is dropped unread.
    let (body, unread) = respond(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let dropping = tokio::spawn(async move { drop(unread) });
    assert!(dropping.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When a panic elsewhere drops it: that is no failure of this call.
    let (body, unread) = respond(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let elsewhere = tokio::spawn(async move {
        let _unread = unread;
        panic!("as asked, elsewhere");
    });
    assert!(elsewhere.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.calls, 0);
}
