//! The mode `wait_while_open`, and what wakes a waiting service.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::stream::{self, StreamExt};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::load_shed::error::Overloaded;
use tower::reconnect::Reconnect;
use tower::spawn_ready::SpawnReady;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::service::RetryUnlessRejected;
use tower_breaker::service::on_rejected::{Reject, Waiting};
use tower_breaker::{Circuit, CircuitBreakerLayer, ErrorsAsFailures, State};

use crate::support::layers::{Attempts, Make, balance, open_circuit, steer, two};
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

fn waiting() -> (Circuit, CircuitBreakerLayer<ErrorsAsFailures, Reject<Waiting>>, Upstream) {
    let (circuit, layer, upstream) = open_circuit();
    (circuit, layer.wait_while_open(), upstream)
}

/// A call waits while the circuit is open, and then passes.
async fn waits_and_recovers<S>(circuit: &Circuit, service: S)
where
    S: Service<(), Response = (), Error: Into<BoxError>, Future: Send> + Send + 'static,
{
    let call = tokio::spawn(async { service.oneshot(()).await.map_err(Into::into) });
    tokio::time::sleep(ms(9_990)).await;
    assert!(!call.is_finished());
    tokio::time::sleep(ms(20)).await;
    call.await.unwrap().unwrap();
    assert_state(circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn oneshot_waits() {
    let (circuit, layer, upstream) = waiting();
    waits_and_recovers(&circuit, layer.layer(upstream)).await;
}

#[tokio::test(start_paused = true)]
async fn buffer_makes_its_callers_wait() {
    let (circuit, layer, upstream) = waiting();
    let service = ServiceBuilder::new().buffer(4).layer(layer).service(upstream);
    waits_and_recovers(&circuit, service).await;
}

#[tokio::test(start_paused = true)]
async fn retry_waits() {
    let (circuit, layer, upstream) = waiting();
    let policy = RetryUnlessRejected::new(Attempts::new(3));
    let service = ServiceBuilder::new().retry(policy).layer(layer).service(upstream);
    waits_and_recovers(&circuit, service).await;
}

#[tokio::test(start_paused = true)]
async fn steer_blocks_all_routes_for_an_open_one() {
    let (_, _, services) = two(CircuitBreakerLayer::wait_while_open);
    let mut steer = steer(services);
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| steer.poll_ready(cx)));
    tokio::time::sleep(s(11)).await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.enter(|cx, _| steer.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn call_all_waits_and_answers_every_request() {
    let (circuit, layer, upstream) = waiting();
    let answers = layer.layer(upstream).call_all(stream::iter([(), (), ()])).collect::<Vec<_>>();
    let answers = tokio::spawn(answers);
    tokio::time::sleep(ms(9_990)).await;
    assert!(!answers.is_finished());
    tokio::time::sleep(ms(20)).await;
    let answers = answers.await.unwrap();
    assert!(answers.len() == 3 && answers.iter().all(Result::is_ok));
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn reconnect_waits_and_keeps_its_connection() {
    let (circuit, layer, upstream) = waiting();
    let make = Make::new(layer.layer(upstream), 100);
    let connections = make.connections.clone();
    waits_and_recovers(&circuit, Reconnect::new(make, ())).await;
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn spawn_ready_waits_in_its_own_task() {
    let (circuit, layer, upstream) = waiting();
    waits_and_recovers(&circuit, SpawnReady::new(layer.layer(upstream))).await;
}

#[tokio::test(start_paused = true)]
async fn balance_skips_an_open_endpoint_until_it_recovers() {
    let (circuit, upstreams, services) =
        two::<Reject<Waiting>>(CircuitBreakerLayer::wait_while_open);
    let mut balance = balance(services);
    for _ in 0..20 {
        balance.ready().await.unwrap().call(()).await.unwrap();
    }
    assert_eq!([upstreams[0].calls(), upstreams[1].calls()], [0, 20]);
    wait_out(&circuit).await;
    tokio::time::sleep(ms(1)).await;
    for _ in 0..40 {
        balance.ready().await.unwrap().call(()).await.unwrap();
    }
    assert!(upstreams[0].calls() > 5, "{} calls", upstreams[0].calls());
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn load_shed_sheds_calls_that_would_wait() {
    let (circuit, layer, upstream) = waiting();
    let service = ServiceBuilder::new().load_shed().layer(layer).service(upstream);
    assert!(service.clone().oneshot(()).await.unwrap_err().is::<Overloaded>());
    wait_out(&circuit).await;
    service.oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn timeout_does_not_cover_poll_ready_so_calls_wait_longer() {
    let (circuit, layer, upstream) = waiting();
    let limits = ServiceBuilder::new().timeout(s(1)).concurrency_limit(1);
    waits_and_recovers(&circuit, limits.layer(layer).service(upstream)).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_woken_only_when_it_may_be_admitted() {
    let (circuit, layer, upstream) = open_circuit();
    let layer = layer.wait_while_open();
    let [mut one, mut other] = [layer.layer(upstream.clone()), layer.layer(upstream)];
    let [mut first, mut second] = [task::spawn(()), task::spawn(())];
    assert_pending!(first.enter(|cx, _| one.poll_ready(cx)));
    assert_pending!(second.enter(|cx, _| other.poll_ready(cx)));
    advance(ms(9_990)).await;
    assert!(!first.is_woken() && !second.is_woken());
    advance(ms(20)).await;
    assert!(first.is_woken() && second.is_woken(), "the interval is over");
    assert_ready_ok!(first.enter(|cx, _| one.poll_ready(cx)));
    assert_pending!(second.enter(|cx, _| other.poll_ready(cx)));

    drop(one);
    assert!(second.is_woken(), "a slot is free");
    assert_ready_ok!(second.enter(|cx, _| other.poll_ready(cx)));
    drop(other.call(()));
    drop(circuit.force_open("a test"));

    let mut forced = layer.layer(Upstream::new(Does::Succeed));
    let mut third = task::spawn(());
    assert_pending!(third.enter(|cx, _| forced.poll_ready(cx)));
    advance(s(3600)).await;
    assert!(!third.is_woken());
    drop(circuit.reset());
    assert!(third.is_woken(), "an operator has closed it");
    assert_ready_ok!(third.enter(|cx, _| forced.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_waits_for_a_slot_is_woken_when_the_lease_expires() {
    let (circuit, layer, upstream) = open_circuit();
    wait_out(&circuit).await;
    let hanging = hold(&circuit);
    let mut service = layer.clone().wait_while_open().layer(upstream);
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| service.poll_ready(cx)));
    advance(ms(5_010)).await;
    assert!(ready.is_woken());
    assert_pending!(ready.enter(|cx, _| service.poll_ready(cx)), "it has opened again");
    assert_state(&circuit, State::Open);
    drop(hanging);
    let mut default = layer.layer(Upstream::new(Does::Succeed));
    assert_ready_err!(task::spawn(()).enter(|cx, _| default.poll_ready(cx)));
}

#[test]
fn a_poll_outside_a_runtime_panics_and_a_later_one_inside_waits() {
    let (circuit, layer, upstream) = open_circuit();
    let mut service = layer.wait_while_open().layer(upstream);
    for _ in 0..2 {
        let outside = AssertUnwindSafe(|| task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        let panic = catch_unwind(outside).unwrap_err();
        let says = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(says.contains("no reactor running"), "{says}");
    }
    paused(async {
        // The clock is paused from here on.
        let call = tokio::spawn(service.oneshot(()));
        tokio::time::sleep(s(5)).await;
        assert!(!call.is_finished());
        tokio::time::sleep(s(6)).await;
        assert!(call.is_finished());
        call.await.unwrap().unwrap();
        assert_state(&circuit, State::Closed);
    });
}
