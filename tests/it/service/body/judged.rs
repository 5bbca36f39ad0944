//! How a call is judged by its body: by its trailers, or by how it breaks.

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::service::ObservedBody;
use tower_breaker::{CircuitBreakerLayer, Outcome, State};

use super::script::{Script, Step, grpc, plain, service};
use crate::support::*;

/// The failures and calls that are counted after a body was read as far as possible.
async fn counted(reply: impl FnOnce() -> Response<Script> + Send + 'static) -> (u64, u64) {
    let store = store(fragile().consecutive_failures(9));
    let mut reply = Some(reply);
    let service = service(&store, move || reply.take().unwrap()());
    let response = service.oneshot(Request::new(())).await.unwrap();
    let circuit = store.circuit("test");
    let _ = response.into_body().collect().await;
    let tally = circuit.snapshot().tally;
    (tally.failures, tally.calls)
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_is_judged() {
    for (status, failures) in [("0", 0), ("5", 0), ("14", 1), ("2", 1), ("gone", 1), ("", 1)] {
        let reply = move || grpc(&[Step::Data, Step::Trailers(status)]);
        assert_eq!(counted(reply).await, (failures, 1), "grpc-status: {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_without_trailers_and_a_broken_body_are_failures() {
    assert_eq!(counted(|| grpc(&[Step::Data])).await, (1, 1));
    assert_eq!(counted(|| grpc(&[])).await, (1, 1));
    assert_eq!(counted(|| grpc(&[Step::Data, Step::Break])).await, (1, 1));
    assert_eq!(counted(|| plain(&[Step::Data, Step::Break])).await, (1, 1));
    assert_eq!(counted(|| plain(&[Step::Data, Step::Data])).await, (0, 1));
    assert_eq!(counted(|| plain(&[])).await, (0, 1));
    let web = || {
        let mut reply = grpc(&[Step::Data]);
        reply.headers_mut().insert("content-type", "application/grpc-web".parse().unwrap());
        reply
    };
    assert_eq!(counted(web).await, (0, 1), "gRPC-Web has its trailers in the body");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_decides_is_judged_without_its_body() {
    let failed = || {
        let mut reply = plain(&[Step::Data, Step::Break]);
        *reply.status_mut() = StatusCode::BAD_GATEWAY;
        reply
    };
    assert_eq!(counted(failed).await, (1, 1));
    let trailers_only = |status: &'static str| {
        move || {
            let mut reply = grpc(&[]);
            reply.headers_mut().insert("grpc-status", status.parse().unwrap());
            reply
        }
    };
    assert_eq!(counted(trailers_only("14")).await, (1, 1));
    assert_eq!(counted(trailers_only("5")).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_in_the_head_is_judged_with_any_classifier() {
    let store = store(fragile());
    let by_http_status = |result: Result<&Response<Script>, &&str>| match result {
        Ok(response) if response.status().is_success() => Outcome::Success,
        _ => Outcome::failure(),
    };
    let reply = |kind: &'static str, status: &'static str| {
        let layer = CircuitBreakerLayer::new(store.clone())
            .named(format!("{kind}, {status}"))
            .classify_fn(by_http_status)
            .respond()
            .observe_body();
        let inner = service_fn(move |_: Request<()>| async move {
            let mut reply = plain(&[]);
            reply.headers_mut().insert("content-type", kind.parse().unwrap());
            reply.headers_mut().insert("grpc-status", status.parse().unwrap());
            reply.headers_mut().insert("grpc-retry-pushback-ms", "30000".parse().unwrap());
            Ok::<_, &str>(reply)
        });
        (layer.layer(inner).oneshot(Request::new(())), format!("{kind}, {status}"))
    };
    let kinds = [
        ("application/grpc", "14", 1),
        ("application/grpc+proto", "0", 0),
        ("application/grpc", "5", 0),
        ("text/plain", "14", 0),
    ];
    for (kind, status, failures) in kinds {
        let (call, name) = reply(kind, status);
        drop(call.await.unwrap());
        let circuit = store.circuit(name);
        assert_eq!(circuit.state() == State::Open, failures == 1, "{circuit:?}");
        assert_eq!(circuit.snapshot().retry_after, (failures == 1).then(|| s(30)), "{circuit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_hint_in_trailers_extends_the_open_interval() {
    let store = store(fragile());
    let mut service = service(&store, || grpc(&[Step::Trailers("14")]));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(store.circuit("test").snapshot().retry_after, Some(s(30)));
    let rejection = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(rejection.headers()["retry-after"], "30");
    let body: ObservedBody<Script> = rejection.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_an_error_unless_the_layer_responds() {
    let store = store(fragile());
    store.circuit("test").force_open("test");
    let inner = service_fn(|_: Request<()>| async { Ok::<_, &str>(plain(&[])) });
    let layer = CircuitBreakerLayer::new(store).named("test");
    let mut early = layer.clone().observe_body().layer(inner);
    assert!(early.ready().await.unwrap_err().is_rejected());
    let mut late = layer.reject_in_call().observe_body().layer(inner);
    assert!(late.ready().await.unwrap().call(Request::new(())).await.unwrap_err().is_rejected());
}
