//! The fallback: another service that answers while the circuit is open.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::service::key::Authority;
use tower_breaker::{CircuitBreakerLayer, Rejected, State};

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
async fn a_fallback_answers_while_open_is_marked_and_not_counted() {
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
    assert!(failed.extensions().get::<Rejected>().is_none());

    let answer = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(*answer.body(), "cached");
    assert_eq!(answer.extensions().get::<Rejected>().unwrap().state(), State::Open);
    assert_eq!(store.circuit("test").snapshot().tally.calls, 0);
    assert_eq!(store.circuit("test").snapshot().stale_results, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outer_circuit_breaker_does_not_count_a_fallback() {
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

/// A fallback that is ready when the test says so.
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
async fn a_fallback_is_called_once_it_is_ready() {
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

fn cached()
-> impl Service<Request<()>, Response = Response<&'static str>, Error = Infallible, Future: Send> + Clone
{
    service_fn(async |request: Request<()>| {
        assert_eq!(request.uri().host(), Some("down"), "the fallback gets the request");
        Ok(Response::new("cached"))
    })
}

fn to(host: &str) -> Request<()> {
    Request::get(format!("http://{host}/")).body(()).unwrap()
}

/// A service that fails for the host `down`.
fn hosts()
-> impl Service<Request<()>, Response = Response<&'static str>, Error = Infallible, Future: Send> + Clone
{
    service_fn(async |request: Request<()>| {
        let mut response = Response::new("fresh");
        if request.uri().host() == Some("down") {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        Ok(response)
    })
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_only_for_the_hosts_that_are_down() {
    let store = store(fragile());
    let layer = CircuitBreakerLayer::new(store.clone()).named("out").fallback(cached());
    let service = layer.keyed_by(Authority).layer(hosts());
    assert_eq!(*service.clone().oneshot(to("down")).await.unwrap().body(), "fresh");
    for _ in 0..2 {
        assert_eq!(*service.clone().oneshot(to("up")).await.unwrap().body(), "fresh");
        let answer = service.clone().oneshot(to("down")).await.unwrap();
        assert_eq!(*answer.body(), "cached");
        let rejection = answer.extensions().get::<Rejected>().unwrap();
        assert_eq!(rejection.name().as_str(), "out:down");
    }
    let circuit = store.circuit("out:down");
    wait_out(&circuit).await;
    assert_eq!(service.oneshot(to("down")).await.unwrap().status(), 502, "a probe");
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_a_host_that_another_replica_found_down() {
    let backend = MemoryBackend::new();
    let replica = || {
        let store = store_on(backend.clone(), fragile()).build();
        let layer = CircuitBreakerLayer::new(store).named("out").fallback(cached());
        layer.keyed_by(Authority).layer(hosts())
    };
    let (one, other) = (replica(), replica());
    assert_eq!(*one.oneshot(to("down")).await.unwrap().body(), "fresh");
    tokio::time::sleep(ms(200)).await;
    // The first call of a key waits for the record of the circuit, and keeps its request.
    assert_eq!(*other.clone().oneshot(to("down")).await.unwrap().body(), "cached");
    assert_eq!(*other.oneshot(to("up")).await.unwrap().body(), "fresh");
}
