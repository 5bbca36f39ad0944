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

/// A body of one frame whose `is_end_stream` panics, once it has been told to.
#[derive(Clone, Debug, Default)]
struct Rude(Arc<AtomicBool>);

impl Body for Rude {
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

/// What a call gets whose body becomes rude at once, or when it is told to.
async fn rude(store: Store, at_once: bool) -> (Rude, ObservedBody<Rude>) {
    drop(store.circuit("test").reset());
    let body = Rude::default();
    body.0.store(at_once, Relaxed);
    let layer = CircuitBreakerLayer::new(store).named("test").respond().observe_body();
    let reply = body.clone();
    let service = layer.layer(service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(reply.clone())))
    }));
    (body, service.oneshot(Request::new(())).await.unwrap().into_body())
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_is_end_stream_panics_is_a_failure_and_does_not_abort() {
    let store = store(fragile());
    let circuit = store.circuit("test");

    // As soon as the head is there.
    let call = tokio::spawn(rude(store.clone(), true));
    assert!(call.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When a frame is read, and again if it were asked when it is dropped for that.
    let (body, mut reading) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let reading = tokio::spawn(async move { drop(reading.frame().await) });
    assert!(reading.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When it is dropped unread.
    let (body, unread) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let dropping = tokio::spawn(async move { drop(unread) });
    assert!(dropping.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When it is dropped for a panic elsewhere: that says nothing of it.
    let (body, unread) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let elsewhere = tokio::spawn(async move {
        let _unread = unread;
        panic!("as asked, elsewhere");
    });
    assert!(elsewhere.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.calls, 0);
}
