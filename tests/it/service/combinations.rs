//! The three choices of a circuit breaker, combined: which circuit, how a rejection shows, when a
//! call ends.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, task};
use tower::util::ServiceFn;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::service::grpc;
use tower_breaker::{CircuitBreakerLayer, Error, Rejected, State, Store};

use crate::support::keyed::builder;
use crate::support::*;

type Req = Request<()>;

/// A body that breaks after its head was good.
#[derive(Debug, Default)]
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        std::task::Poll::Ready(Some(Err("broken")))
    }
}

type Upstream = ServiceFn<fn(Req) -> Ready<Result<Response<Broken>, Infallible>>>;

fn broken() -> Upstream {
    service_fn(|_| ready(Ok(Response::new(Broken))))
}

fn layer(store: &Store) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(store.clone()).named("test")
}

/// Calls once, and reads the body until it breaks.
async fn read<S, B>(service: &S) -> Option<Rejected>
where
    S: Service<Req, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: Body,
{
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    let rejected = response.extensions().get().cloned();
    assert!(response.into_body().collect().await.is_err(), "every body here breaks");
    rejected
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_a_circuit_that_bodies_opened() {
    let store = store(fragile());
    let service = layer(&store).fallback(broken()).observe_body().layer(broken());
    assert!(read(&service).await.is_none(), "the upstream answered");
    assert_state(service.circuit(), State::Open);

    assert!(read(&service).await.is_some(), "the fallback answered");
    wait_out(service.circuit()).await;
    assert!(read(&service).await.is_none(), "the fallback's broken body was not counted");
    assert_eq!(service.circuit().snapshot().reopenings, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_waits_for_a_circuit_that_bodies_opened() {
    let store = store(fragile());
    let service = layer(&store).wait_while_open().observe_body().layer(broken());
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_state(service.circuit(), State::Closed);
    assert!(response.into_body().collect().await.is_err());
    assert_state(service.circuit(), State::Open);

    let mut next = task::spawn(service.clone().oneshot(Request::new(())));
    assert_pending!(next.poll());
    wait_out(service.circuit()).await;
    assert!(next.await.is_ok(), "it probes");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_fallback_and_observes_bodies() {
    let store = store(fragile());
    let service = layer(&store)
        .keyed_by_fn(|request: &Req| Some(request.uri().path().into()))
        .fallback(broken())
        .observe_body()
        .layer(broken());
    let call = async |path: &str| {
        let request = Request::get(path).body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let rejected = response.extensions().get::<Rejected>().is_some();
        assert!(response.into_body().collect().await.is_err());
        rejected
    };
    assert!(!call("/a").await);
    assert!(call("/a").await, "its circuit is open");
    assert!(!call("/b").await, "the other key's is not");
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_the_circuit_of_its_key_until_it_ends() {
    let store = builder(fragile()).key_limit(1).build();
    let service = layer(&store)
        .keyed_by_fn(|request: &Req| Some(request.uri().path().into()))
        .observe_body()
        .layer(broken());
    let call = async |path: &str| {
        let request = Request::get(path).body(()).unwrap();
        service.clone().oneshot(request).await.unwrap()
    };
    let held = call("/a").await;
    drop(call("/b").await);
    assert!(store.get("test:/a").is_some(), "its body is not read yet");
    assert!(store.get("test:/b").is_none(), "there is no room");

    drop(held);
    drop(call("/b").await);
    assert!(store.get("test:/a").is_none(), "it was evicted");
    assert!(store.get("test:/b").is_some());
}

#[tokio::test(start_paused = true)]
async fn the_methods_of_a_layer_can_be_called_in_any_order() {
    let store = store(fragile());
    let one = layer(&store).respond().observe_body().keyed_by_fn(|_: &Req| Some("key".into()));
    let other = layer(&store).keyed_by_fn(|_: &Req| Some("key".into())).observe_body().respond();
    read(&one.layer(broken())).await;
    let response = other.layer(broken()).oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 503, "both share the circuit");
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_can_be_reached_and_taken_back() {
    let store = store(fragile());
    let inner =
        service_fn(async |_: Req| Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))));
    let mut plain = layer(&store).layer(inner);
    plain.get_mut().oneshot(Request::new(())).await.unwrap();
    plain.get_ref().oneshot(Request::new(())).await.unwrap();
    trip(plain.circuit());
    wait_out(plain.circuit()).await;
    let circuit = plain.circuit().clone();
    let probe = plain.ready().await.unwrap();
    assert!(circuit.try_acquire().is_err(), "the only probe slot is reserved");
    let _ = probe;
    plain.into_inner().oneshot(Request::new(())).await.unwrap();
    assert!(circuit.try_acquire().is_ok(), "it is free again");

    let keyed = layer(&store).keyed_by_fn(|_: &Req| Some("key".into())).layer(inner);
    keyed.get_ref().oneshot(Request::new(())).await.unwrap();
    keyed.into_inner().oneshot(Request::new(())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_grpc_rejection_names_its_circuit_and_a_reply_does_not() {
    for name in ["payments", "zahlung-ä", "two\nlines"] {
        let store = store(fragile());
        let layer = CircuitBreakerLayer::new(store.clone()).named(name).respond();
        let service = layer
            .layer(service_fn(async |_: Req| Ok::<_, Infallible>(Response::new(String::new()))));
        let call = async || {
            let mut request = Request::new(());
            let kind = HeaderValue::from_static("application/grpc");
            request.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            service.clone().oneshot(request).await.unwrap()
        };
        assert_eq!(grpc::rejected_by(call().await.headers()), None);
        store.circuit(name).force_open("test");
        let expected = name.replace('\n', "?");
        assert_eq!(grpc::rejected_by(call().await.headers()), Some(&*expected));
    }
    assert_eq!(grpc::rejected_by(&HeaderMap::new()), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_ready_before_the_circuit_opened_is_rejected() {
    let store = store(fragile());
    let mut waiting = layer(&store).wait_while_open().layer(broken());
    waiting.ready().await.unwrap();
    waiting.circuit().force_open("test");
    assert!(matches!(waiting.call(Request::new(())).await, Err(Error::Rejected(_))));
}
