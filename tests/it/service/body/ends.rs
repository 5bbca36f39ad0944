//! When a call ends: with its body, read to the end or dropped, and only once.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::policy::Cancelled;
use tower_breaker::service::key::Authority;
use tower_breaker::{CircuitBreakerLayer, Policy, State, Store};

use super::script::{Script, Step, grpc, plain, service};
use crate::support::keyed::builder;
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_call_lasts_as_long_as_its_body() {
    let store = store(fragile().slow_call_duration(s(2)));
    let mut service = service(&store, || plain(&[Step::Data]));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    let circuit = store.circuit("test");
    assert_eq!(circuit.snapshot().tally.calls, 0);
    advance(s(3)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!((circuit.snapshot().tally.calls, circuit.snapshot().tally.slow_calls), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn streams_closed_by_their_readers_are_cancelled_calls() {
    for (cancelled, state) in
        [(Cancelled::Ignored, State::Closed), (Cancelled::FailureIfSlow, State::Open)]
    {
        let store = store(Policy::http_api().to_builder().cancelled(cancelled));
        close_streams(&store).await;
        assert_state(&store.circuit("test"), state);
    }
}

async fn close_streams(store: &Store) {
    for _ in 0..10 {
        let service = service(store, || grpc(&[Step::Data, Step::Hang]));
        let mut stream = service.oneshot(Request::new(())).await.unwrap().into_body();
        stream.frame().await.unwrap().unwrap();
        advance(s(6)).await;
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_before_its_end_is_a_cancelled_call() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    open_until_due(&circuit).await;
    let mut service = service(&store, || plain(&[Step::Data, Step::Hang]));
    for _ in 0..3 {
        let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        assert_eq!(circuit.snapshot().probes_out, 1);
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(circuit.snapshot().probes_out, 0);
        assert_state(&circuit, State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_the_last_frame_if_the_body_knows_its_end() {
    let reply = |steps: &[Step]| {
        let body = Script { steps: steps.to_vec().into(), knows_its_end: true };
        Response::new(body)
    };
    let store = store(fragile());
    let circuit = store.circuit("test");
    let empty = service(&store, move || reply(&[]));
    drop(empty.oneshot(Request::new(())).await.unwrap());
    assert_eq!(circuit.snapshot().tally.calls, 1, "empty");
    let short = service(&store, move || reply(&[Step::Data]));
    let mut body = short.oneshot(Request::new(())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(circuit.snapshot().tally.calls, 2, "its last frame was read");
    let mut head = Request::new(());
    *head.method_mut() = Method::HEAD;
    let bodiless = service(&store, || plain(&[Step::Data]));
    drop(bodiless.oneshot(head).await.unwrap());
    assert_eq!(circuit.snapshot().tally.calls, 3, "servers drop what answers HEAD");
    assert_eq!(circuit.snapshot().tally.failures, 0);
}

#[test]
fn each_call_is_settled_once_however_its_body_is_read() {
    let store = store(fragile().consecutive_failures(1_000));
    let mut cx = Context::from_waker(Waker::noop());
    let circuit = store.circuit("test");
    let scripts: [&[Step]; 4] = [
        &[Step::Data, Step::Trailers("14"), Step::Trailers("14")],
        &[Step::Break, Step::Break],
        &[Step::Trailers("0"), Step::Break],
        &[Step::Data],
    ];
    for (n, script) in (1..).zip(scripts) {
        let mut service = service(&store, move || grpc(script));
        assert!(service.poll_ready(&mut cx).is_ready());
        let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(&mut cx) else {
            panic!("the upstream answers at once");
        };
        let mut body = response.into_body();
        for _ in 0..5 {
            let _ = Pin::new(&mut body).poll_frame(&mut cx);
        }
        drop(body);
        assert_eq!(circuit.snapshot().tally.calls, n, "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_of_a_key_is_kept_until_its_bodies_end() {
    let store = builder(fragile()).key_limit(1).key_idle(s(10)).build();
    let layer = CircuitBreakerLayer::new(store.clone()).named("test");
    let fails = service_fn(|_: Request<()>| async { Ok::<_, &str>(grpc(&[Step::Trailers("14")])) });
    let to = |host| Request::get(format!("http://{host}/")).body(()).unwrap();

    let responding = layer.clone().respond().observe_body().keyed_by(Authority).layer(fails);
    let response = responding.clone().oneshot(to("down")).await.unwrap();
    advance(s(60)).await;
    let uncounted = responding.clone().oneshot(to("other")).await.unwrap();
    uncounted.into_body().collect().await.unwrap();
    assert_eq!(store.circuits().len(), 1, "the circuit whose body has not ended");
    assert_eq!(store.circuit("test:down").snapshot().tally.calls, 0);
    response.into_body().collect().await.unwrap();
    assert_state(&store.circuit("test:down"), State::Open);
    let rejection = responding.oneshot(to("down")).await.unwrap();
    assert_eq!(rejection.status(), StatusCode::SERVICE_UNAVAILABLE);

    let erring = layer.reject_in_call().observe_body().keyed_by(Authority).layer(fails);
    assert!(erring.oneshot(to("down")).await.unwrap_err().is_rejected());
}
