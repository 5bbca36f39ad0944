//! Retries around circuit breakers, and the order of layers that the docs recommend.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tower::load_shed::error::Overloaded;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_breaker::service::RespondToRejectedLayer;
use tower_breaker::service::RetryUnlessRejected;
use tower_breaker::{
    CircuitBreakerLayer, Classify, ErrorsAsFailures, HttpStatus, Outcome, Rejected, State,
};

use crate::support::layers::{Attempts, assert_rejected, layer, open_circuit};
use crate::support::upstream::{Does, Failed, Upstream};
use crate::support::*;

/// The upstream as an HTTP service.
fn in_http(
    upstream: Upstream,
) -> impl Service<Request<()>, Response = Response<String>, Error = Failed, Future: Send> + Clone {
    upstream.map_request(|_: Request<()>| ()).map_response(|()| Response::new("reply".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn the_recommended_order_of_layers_trips_responds_and_recovers() {
    let store = store(fragile().consecutive_failures(2));
    let circuit = store.circuit("users");
    let upstream = Upstream::new(Does::Hang);
    let policy = Attempts::new(9);
    let breaker = CircuitBreakerLayer::new(store).named("users").reject_in_call().classify_fn(
        |result: Result<&Response<String>, &BoxError>| match result {
            Err(error) if error.is::<Overloaded>() => Outcome::Ignored,
            result => HttpStatus.classify(result),
        },
    );
    let traced = Arc::new(Mutex::new(Vec::new()));
    let trace = {
        let traced = traced.clone();
        move |response: Response<String>| {
            traced.lock().unwrap().push(response.status().as_u16());
            response
        }
    };
    let service = ServiceBuilder::new()
        .map_response(trace)
        .layer(RespondToRejectedLayer::new())
        .retry(RetryUnlessRejected::new(policy.clone()))
        .layer(breaker)
        .load_shed()
        .concurrency_limit(1)
        .timeout(s(1))
        .service(in_http(upstream.clone()));
    let call = || service.clone().oneshot(Request::new(()));

    // Each attempt that hangs is a failure. The second one opens the circuit; a third is not made.
    let response = call().await.unwrap();
    assert_eq!((response.status().as_u16(), upstream.calls(), policy.asked()), (503, 2, 2));
    assert_eq!(response.headers()["retry-after"], "10");
    assert_eq!(response.extensions().get::<Rejected>().unwrap().state(), State::Open);

    // From then on a call costs neither an attempt nor a retry.
    assert_eq!(call().await.unwrap().status(), 503);
    assert_eq!((upstream.calls(), policy.asked()), (2, 2));

    wait_out(&circuit).await;
    upstream.now(Does::Succeed);
    assert_eq!(call().await.unwrap().body(), "reply");
    assert_state(&circuit, State::Closed);

    // A call that is shed is an error and no evidence.
    upstream.now(Does::Hang);
    let hanging = tokio::spawn(call());
    while upstream.calls() < 4 {
        tokio::task::yield_now().await;
    }
    let before = evidence(&circuit);
    assert!(call().await.unwrap_err().is::<Overloaded>());
    assert_eq!((upstream.calls(), evidence(&circuit)), (4, before));

    // The hung call ends by its timeout, and its retry succeeds.
    upstream.now(Does::Succeed);
    assert_eq!(hanging.await.unwrap().unwrap().status(), 200);
    assert_state(&circuit, State::Closed);
    assert_eq!(*traced.lock().unwrap(), [503, 503, 200, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_outside_retry_sees_one_result_of_all_attempts() {
    let store = store(fragile().consecutive_failures(2));
    let upstream = Upstream::new(Does::Fail);
    let wrong = ServiceBuilder::new()
        .layer(layer(&store, "test"))
        .retry(Attempts::new(3))
        .service(upstream.clone());
    wrong.oneshot(()).await.unwrap_err();
    assert_eq!(upstream.calls(), 4);
    assert_state(&store.circuit("test"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn retry_unless_rejected_stops_when_the_circuit_opens() {
    let store = store(fragile().consecutive_failures(2));
    let upstream = Upstream::new(Does::Fail);
    let service = ServiceBuilder::new()
        .retry(RetryUnlessRejected::new(Attempts::new(9)))
        .layer(layer(&store, "test").reject_in_call())
        .service(upstream.clone());
    assert_rejected(service.clone().oneshot(()).await);
    assert_eq!(upstream.calls(), 2, "the third attempt was not made");
    assert_rejected(service.clone().oneshot(()).await);
    assert_eq!(upstream.calls(), 2);
    upstream.now(Does::Succeed);
    wait_out(&store.circuit("test")).await;
    service.clone().oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn plain_retry_asks_its_policy_about_every_rejection() {
    let (circuit, layer, upstream) = open_circuit();
    let policy = Attempts::new(3);
    let mut service =
        ServiceBuilder::new().retry(policy.clone()).layer(layer.reject_in_call()).service(upstream);
    assert_rejected(service.ready().await.unwrap().call(()).await);
    assert_eq!(policy.asked(), 4);
    wait_out(&circuit).await;
    service.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_inner_layer_is_neither_retried_nor_counted() {
    let (_, inner, upstream) = open_circuit();
    let store = store(fragile());
    let policy = Attempts::new(3);
    let service = ServiceBuilder::new()
        .retry(RetryUnlessRejected::new(policy.clone()))
        .layer(layer(&store, "outer").reject_in_call())
        .map_err(BoxError::from)
        .layer(inner.reject_in_call())
        .service(upstream);
    for _ in 0..3 {
        assert_rejected(service.clone().oneshot(()).await);
    }
    assert_eq!(policy.asked(), 0);
    assert_state(&store.circuit("outer"), State::Closed);
    assert_eq!(store.circuit("outer").snapshot().tally.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn respond_to_rejected_responds_in_both_error_modes() {
    let (circuit, layer, upstream) = open_circuit();
    let layer = layer.classify(ErrorsAsFailures);
    let early = RespondToRejectedLayer::new().layer(layer.clone().layer(in_http(upstream.clone())));
    let late = RespondToRejectedLayer::new().layer(layer.reject_in_call().layer(in_http(upstream)));
    for mut service in [early.boxed_clone(), late.boxed_clone()] {
        let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_str()), (503, ""));
        let request = Request::builder().header("content-type", "application/grpc").body(());
        let response = service.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "10000");

        // A service that was ready before the reset is rejected; its clone asks anew.
        service.ready().await.unwrap();
        circuit.reset();
        let clone = service.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(clone.status(), 200);
        assert_eq!(service.call(Request::new(())).await.unwrap().status(), 503);
        let again = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        assert_eq!(again.status(), 200);
        trip(&circuit);
    }
}

#[tokio::test(start_paused = true)]
async fn respond_to_rejected_passes_other_errors_and_makes_bodies() {
    let store = store(fragile());
    let upstream = Upstream::new(Does::Fail);
    let says_why = RespondToRejectedLayer::with(|rejection, response| {
        response.map(|()| rejection.to_string())
    });
    let service = says_why.layer(layer(&store, "test").layer(in_http(upstream)));
    let error = service.clone().oneshot(Request::new(())).await.unwrap_err();
    assert!(error.is::<Failed>());
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.body(), "circuit \"test\" is open: 1 failure; retry in 10.0 s");

    let broken = service_fn(async |_: Request<()>| Err::<Response<()>, _>(Failed));
    let unready = RespondToRejectedLayer::new().layer(broken);
    assert!(unready.oneshot(Request::new(())).await.unwrap_err().is::<Failed>());
}
