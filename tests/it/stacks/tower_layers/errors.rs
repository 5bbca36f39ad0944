//! The modes that return errors: one from `poll_ready`, one from the call.
//!
//! Each test opens the circuit under the layer, checks what the table says, and then lets the
//! circuit recover: in the recommended mode, calls pass again.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::{self, StreamExt};
use tokio_test::{assert_pending, task};
use tower::reconnect::Reconnect;
use tower::spawn_ready::SpawnReady;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::service::RetryUnlessRejected;
use tower_breaker::{Circuit, CircuitBreakerLayer, State};

use crate::support::layers::{
    Attempts, Make, assert_rejected, balance, layer, open_circuit, steer, two,
};
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

/// One call is rejected. Once the interval is over, the next call closes the circuit.
async fn rejects_and_recovers<S>(circuit: &Circuit, service: S)
where
    S: Service<(), Response = (), Error: Into<BoxError>> + Clone,
{
    assert_rejected(service.clone().oneshot(()).await);
    wait_out(circuit).await;
    assert!(service.oneshot(()).await.is_ok());
    assert_state(circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn oneshot_with_a_clone_per_request_works_in_both_error_modes() {
    let (circuit, layer, upstream) = open_circuit();
    rejects_and_recovers(&circuit, layer.clone().layer(upstream.clone())).await;
    trip(&circuit);
    rejects_and_recovers(&circuit, layer.reject_in_call().layer(upstream)).await;
}

#[tokio::test(start_paused = true)]
async fn buffer_never_recovers_from_an_error_of_poll_ready() {
    let (circuit, layer, upstream) = open_circuit();
    let service = ServiceBuilder::new().buffer(4).layer(layer).service(upstream);
    assert_rejected(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    assert_rejected(service.clone().oneshot(()).await);
}

#[tokio::test(start_paused = true)]
async fn buffer_works_with_reject_in_call() {
    let (circuit, layer, upstream) = open_circuit();
    let service = ServiceBuilder::new().buffer(4).layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, service).await;
}

#[tokio::test(start_paused = true)]
async fn retry_ends_with_an_error_of_poll_ready_in_the_default_mode() {
    let (circuit, layer, upstream) = open_circuit();
    let policy = Attempts::new(3);
    let service = ServiceBuilder::new().retry(policy.clone()).layer(layer).service(upstream);
    rejects_and_recovers(&circuit, service).await;
    assert_eq!(policy.asked(), 1, "only about the call that was made");
}

#[tokio::test(start_paused = true)]
async fn retry_works_with_reject_in_call_and_retry_unless_rejected() {
    let (circuit, layer, upstream) = open_circuit();
    let policy = Attempts::new(3);
    let service = ServiceBuilder::new()
        .retry(RetryUnlessRejected::new(policy.clone()))
        .layer(layer.reject_in_call())
        .service(upstream);
    rejects_and_recovers(&circuit, service).await;
    assert_eq!(policy.asked(), 1, "only about the call that was made");
}

#[tokio::test(start_paused = true)]
async fn steer_fails_all_routes_for_an_open_one_in_the_default_mode() {
    let (circuit, _, services) = two(|layer| layer);
    let mut steer = steer(services);
    assert_rejected(steer.ready().await.map(drop));
    wait_out(&circuit).await;
    steer.ready().await.unwrap().call(1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn steer_fails_only_the_open_route_with_reject_in_call() {
    let (circuit, upstreams, services) = two(CircuitBreakerLayer::reject_in_call);
    let mut steer = steer(services);
    for _ in 0..3 {
        assert_rejected(steer.ready().await.unwrap().call(0).await);
        steer.ready().await.unwrap().call(1).await.unwrap();
    }
    assert_eq!([upstreams[0].calls(), upstreams[1].calls()], [0, 3]);
    wait_out(&circuit).await;
    // Steer readied it after its last call, and got a rejection for the next one.
    assert_rejected(steer.ready().await.unwrap().call(0).await);
    steer.ready().await.unwrap().call(0).await.unwrap();
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn call_all_ends_at_the_first_rejection_in_the_default_mode() {
    let (_, layer, upstream) = open_circuit();
    let answers: Vec<_> =
        layer.layer(upstream).call_all(stream::iter([(), (), ()])).collect().await;
    assert_eq!(answers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn call_all_answers_every_request_with_reject_in_call() {
    let (circuit, layer, upstream) = open_circuit();
    let service = layer.reject_in_call().layer(upstream);
    let calls = |n| service.clone().call_all(stream::iter(vec![(); n])).collect::<Vec<_>>();
    let answers = calls(3).await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_err));
    wait_out(&circuit).await;
    assert!(calls(1).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn reconnect_connects_again_and_again_in_the_default_mode() {
    let (_, layer, upstream) = open_circuit();
    let make = Make::new(layer.layer(upstream), 100);
    let connections = make.connections.clone();
    let mut service = Reconnect::new(make, ());
    let mut ready = task::spawn(());
    // With an endless supply of connections it would not return at all.
    assert_pending!(ready.enter(|cx, _| Service::<()>::poll_ready(&mut service, cx)));
    assert_eq!(connections.load(Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn reconnect_keeps_its_connection_with_reject_in_call() {
    let (circuit, layer, upstream) = open_circuit();
    let make = Make::new(layer.reject_in_call().layer(upstream), 100);
    let connections = make.connections.clone();
    let mut service = Reconnect::new(make, ());
    assert_rejected(service.ready().await.unwrap().call(()).await);
    wait_out(&circuit).await;
    service.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn spawn_ready_works_in_both_error_modes() {
    let (circuit, layer, upstream) = open_circuit();
    let mut early = SpawnReady::new(layer.clone().layer(upstream.clone()));
    let mut late = SpawnReady::new(layer.reject_in_call().layer(upstream));
    assert_rejected(early.ready().await.map(drop));
    assert_rejected(late.ready().await.unwrap().call(()).await);
    wait_out(&circuit).await;
    early.ready().await.unwrap().call(()).await.unwrap();
    late.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn balance_drops_an_open_endpoint_forever_in_the_default_mode() {
    let (circuit, upstreams, services) = two(|layer| layer);
    let mut balance = balance(services);
    for _ in 0..20 {
        balance.ready().await.unwrap().call(()).await.unwrap();
    }
    wait_out(&circuit).await;
    for _ in 0..40 {
        balance.ready().await.unwrap().call(()).await.unwrap();
    }
    assert_eq!([upstreams[0].calls(), upstreams[1].calls()], [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn balance_keeps_sending_to_an_open_endpoint_with_reject_in_call() {
    let (_, _, services) = two(CircuitBreakerLayer::reject_in_call);
    let mut balance = balance(services);
    let mut rejected = 0;
    for _ in 0..40 {
        rejected += usize::from(balance.ready().await.unwrap().call(()).await.is_err());
    }
    assert!(rejected > 5, "{rejected} of 40");
}

#[tokio::test(start_paused = true)]
async fn load_shed_works_in_both_error_modes() {
    let (circuit, layer, upstream) = open_circuit();
    let early = ServiceBuilder::new().load_shed().layer(layer.clone()).service(upstream.clone());
    rejects_and_recovers(&circuit, early).await;
    trip(&circuit);
    let late = ServiceBuilder::new().load_shed().layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, late).await;
}

#[tokio::test(start_paused = true)]
async fn timeout_and_concurrency_limit_work_in_both_error_modes() {
    let (circuit, layer, upstream) = open_circuit();
    let limits = || ServiceBuilder::new().timeout(s(1)).concurrency_limit(1);
    let early = limits().layer(layer.clone()).service(upstream.clone());
    rejects_and_recovers(&circuit, early).await;
    trip(&circuit);
    let late = limits().layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, late).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_cancels_a_call_and_one_inside_fails_it() {
    let store = store(fragile());
    let upstream = Upstream::new(Does::Hang);
    let outside = ServiceBuilder::new()
        .timeout(s(1))
        .layer(layer(&store, "outside"))
        .service(upstream.clone());
    outside.oneshot(()).await.unwrap_err();
    assert_state(&store.circuit("outside"), State::Closed);
    let inside =
        ServiceBuilder::new().layer(layer(&store, "inside")).timeout(s(1)).service(upstream);
    inside.oneshot(()).await.unwrap_err();
    assert_state(&store.circuit("inside"), State::Open);
}
