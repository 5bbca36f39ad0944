//! Another service that answers while the circuit is open.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::{CircuitBreakerLayer, OpenCircuit, State};

use crate::support::*;

fn upstream(
    status: StatusCode,
) -> impl Service<Request<()>, Response = Response<&'static str>, Error = Infallible, Future: Send> + Clone
{
    service_fn(move |_: Request<()>| async move {
        let mut response = Response::new("fresh");
        *response.status_mut() = status;
        Ok(response)
    })
}

#[tokio::test(start_paused = true)]
async fn it_answers_while_open_says_so_and_is_not_recorded() {
    let store = store(fragile());
    let cached = service_fn(|_: Request<()>| async {
        let mut response = Response::new("cached");
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        Ok(response)
    });
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").fallback(cached);
    let service = layer.layer(upstream(StatusCode::INTERNAL_SERVER_ERROR));
    let failed = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(*failed.body(), "fresh", "a call that was made keeps its own failure");
    assert!(failed.extensions().get::<OpenCircuit>().is_none());

    let answer = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(*answer.body(), "cached");
    assert_eq!(answer.extensions().get::<OpenCircuit>().unwrap().state(), State::Open);
    assert_eq!(store.circuit("test").snapshot().tally.calls, 0);
    assert_eq!(store.circuit("test").snapshot().stale_results, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outer_circuit_breaker_does_not_count_its_answers() {
    let store = store(fragile());
    let failing = service_fn(|_: Request<()>| async {
        let mut response = Response::new("cached");
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        Ok(response)
    });
    let inner = CircuitBreakerLayer::new(store.clone()).named("inner").fallback(failing);
    let outer = CircuitBreakerLayer::new(store.clone()).named("outer");
    let service = outer.layer(inner.layer(upstream(StatusCode::OK)));
    drop(store.circuit("inner").force_open("a test"));
    service.oneshot(Request::new(())).await.unwrap();
    assert_state(&store.circuit("outer"), State::Closed);
    assert_eq!(store.circuit("outer").snapshot().tally.calls, 0);
}

/// Is ready when it is told to be.
#[derive(Clone, Default)]
struct Slow {
    ready: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    waker: Arc<std::sync::Mutex<Option<Waker>>>,
}

impl Service<Request<()>> for Slow {
    type Response = Response<&'static str>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.ready.load(SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.ready.load(SeqCst));
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok(Response::new("cached")))
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_called_once_it_is_ready() {
    let store = store(fragile());
    let slow = Slow::default();
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").fallback(slow.clone());
    let mut service = layer.layer(upstream(StatusCode::OK));
    drop(store.circuit("test").force_open("a test"));
    let call = service.ready().await.unwrap().call(Request::new(()));
    let mut call = tokio_test::task::spawn(call);
    tokio_test::assert_pending!(call.poll());
    slow.ready.store(true, SeqCst);
    slow.waker.lock().unwrap().take().unwrap().wake();
    assert!(call.is_woken());
    let answer = tokio_test::assert_ready_ok!(call.poll());
    assert_eq!((*answer.body(), slow.calls.load(SeqCst)), ("cached", 1));
}
