//! Which mode under which layer: the table in the docs of `service`, cell by cell.
//!
//! Each test trips the circuit under the layer, looks at what the table says, and then lets the circuit
//! recover: in the recommended mode, calls pass again. The last column is in `waiting`.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::{self, StreamExt};
use tokio_test::{assert_pending, task};
use tower::reconnect::Reconnect;
use tower::spawn_ready::SpawnReady;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::service::RetryUnlessRejected;
use tower_breaker::{Circuit, CircuitBreakerLayer, State};

use crate::support::layers::{Attempts, Make, assert_open, balance, layer, open, steer, two};
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

/// One call is rejected, as the circuit is open; and once that may recover, the next one passes.
async fn rejects_and_recovers<S>(circuit: &Circuit, service: S)
where
    S: Service<(), Response = (), Error: Into<BoxError>> + Clone,
{
    assert_open(service.clone().oneshot(()).await);
    wait_out(circuit).await;
    assert!(service.oneshot(()).await.is_ok());
    assert_state(circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn oneshot_with_a_clone_for_each_request_is_an_error_in_both_modes_of_errors() {
    let (circuit, layer, upstream) = open();
    rejects_and_recovers(&circuit, layer.clone().layer(upstream.clone())).await;
    trip(&circuit);
    rejects_and_recovers(&circuit, layer.reject_in_call().layer(upstream)).await;
}

#[tokio::test(start_paused = true)]
async fn buffer_is_dead_for_good_after_an_error_of_readiness() {
    let (circuit, layer, upstream) = open();
    let service = ServiceBuilder::new().buffer(4).layer(layer).service(upstream);
    assert_open(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    assert_open(service.clone().oneshot(()).await);
}

#[tokio::test(start_paused = true)]
async fn buffer_works_with_reject_in_call() {
    let (circuit, layer, upstream) = open();
    let service = ServiceBuilder::new().buffer(4).layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, service).await;
}

#[tokio::test(start_paused = true)]
async fn retry_ends_with_an_error_of_readiness_in_the_default_mode() {
    let (circuit, layer, upstream) = open();
    let policy = Attempts::new(3);
    let service = ServiceBuilder::new().retry(policy.clone()).layer(layer).service(upstream);
    rejects_and_recovers(&circuit, service).await;
    assert_eq!(policy.asked(), 1, "about the one call that was made");
}

#[tokio::test(start_paused = true)]
async fn retry_works_with_reject_in_call_and_retry_unless_open() {
    let (circuit, layer, upstream) = open();
    let policy = Attempts::new(3);
    let service = ServiceBuilder::new()
        .retry(RetryUnlessRejected::new(policy.clone()))
        .layer(layer.reject_in_call())
        .service(upstream);
    rejects_and_recovers(&circuit, service).await;
    assert_eq!(policy.asked(), 1, "about the one call that was made");
}

#[tokio::test(start_paused = true)]
async fn steer_fails_all_routes_for_one_in_the_default_mode() {
    let (circuit, _, services) = two(|layer| layer);
    let mut steer = steer(services);
    assert_open(steer.ready().await.map(drop));
    wait_out(&circuit).await;
    steer.ready().await.unwrap().call(1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn steer_fails_only_the_open_route_with_reject_in_call_and_once_more_after_it_has_recovered()
{
    let (circuit, upstreams, services) = two(CircuitBreakerLayer::reject_in_call);
    let mut steer = steer(services);
    for _ in 0..3 {
        assert_open(steer.ready().await.unwrap().call(0).await);
        steer.ready().await.unwrap().call(1).await.unwrap();
    }
    assert_eq!([upstreams[0].calls(), upstreams[1].calls()], [0, 3]);
    wait_out(&circuit).await;
    // Steer has readied it since its last call: what it got then is a rejection.
    assert_open(steer.ready().await.unwrap().call(0).await);
    steer.ready().await.unwrap().call(0).await.unwrap();
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn call_all_ends_at_the_first_rejection_in_the_default_mode() {
    let (_, layer, upstream) = open();
    let answers: Vec<_> =
        layer.layer(upstream).call_all(stream::iter([(), (), ()])).collect().await;
    assert_eq!(answers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn call_all_answers_every_request_with_reject_in_call() {
    let (circuit, layer, upstream) = open();
    let service = layer.reject_in_call().layer(upstream);
    let calls = |n| service.clone().call_all(stream::iter(vec![(); n])).collect::<Vec<_>>();
    let answers = calls(3).await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_err));
    wait_out(&circuit).await;
    assert!(calls(1).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn reconnect_connects_again_and_again_in_the_default_mode() {
    let (_, layer, upstream) = open();
    let make = Make::new(layer.layer(upstream), 100);
    let connections = make.connections.clone();
    let mut service = Reconnect::new(make, ());
    let mut ready = task::spawn(());
    // It would not return at all, were there no end of connections.
    assert_pending!(ready.enter(|cx, _| Service::<()>::poll_ready(&mut service, cx)));
    assert_eq!(connections.load(Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn reconnect_keeps_its_connection_with_reject_in_call() {
    let (circuit, layer, upstream) = open();
    let make = Make::new(layer.reject_in_call().layer(upstream), 100);
    let connections = make.connections.clone();
    let mut service = Reconnect::new(make, ());
    assert_open(service.ready().await.unwrap().call(()).await);
    wait_out(&circuit).await;
    service.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn spawn_ready_works_in_both_modes_of_errors() {
    let (circuit, layer, upstream) = open();
    let mut early = SpawnReady::new(layer.clone().layer(upstream.clone()));
    let mut late = SpawnReady::new(layer.reject_in_call().layer(upstream));
    assert_open(early.ready().await.map(drop));
    assert_open(late.ready().await.unwrap().call(()).await);
    wait_out(&circuit).await;
    early.ready().await.unwrap().call(()).await.unwrap();
    late.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn balance_drops_an_open_endpoint_for_good_in_the_default_mode() {
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
async fn balance_goes_on_sending_to_an_open_endpoint_with_reject_in_call() {
    let (_, _, services) = two(CircuitBreakerLayer::reject_in_call);
    let mut balance = balance(services);
    let mut rejected = 0;
    for _ in 0..40 {
        rejected += usize::from(balance.ready().await.unwrap().call(()).await.is_err());
    }
    assert!(rejected > 5, "{rejected} of 40");
}

#[tokio::test(start_paused = true)]
async fn load_shed_works_in_both_modes_of_errors() {
    let (circuit, layer, upstream) = open();
    let early = ServiceBuilder::new().load_shed().layer(layer.clone()).service(upstream.clone());
    rejects_and_recovers(&circuit, early).await;
    trip(&circuit);
    let late = ServiceBuilder::new().load_shed().layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, late).await;
}

#[tokio::test(start_paused = true)]
async fn timeout_and_concurrency_limit_work_in_both_modes_of_errors() {
    let (circuit, layer, upstream) = open();
    let limits = || ServiceBuilder::new().timeout(s(1)).concurrency_limit(1);
    let early = limits().layer(layer.clone()).service(upstream.clone());
    rejects_and_recovers(&circuit, early).await;
    trip(&circuit);
    let late = limits().layer(layer.reject_in_call()).service(upstream);
    rejects_and_recovers(&circuit, late).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_cancels_what_one_inside_makes_a_failure() {
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
