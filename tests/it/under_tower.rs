//! Which mode under which layer: the table in the docs of `service`, cell by cell.
//!
//! Each test trips the circuit under the layer, looks at what the table says, and then lets the circuit
//! recover: in the recommended mode, calls pass again.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Constant;
use tower::spawn_ready::SpawnReadyLayer;
use tower::steer::Steer;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::service::{Reject, WaitWhileOpen};
use tower_breaker::{
    Circuit, CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, RetryUnlessOpen, State, Store,
    find_open,
};

use crate::support::upstream::{Does, Upstream};
use crate::support::*;

type Breaker<M> = CircuitBreaker<Upstream, ErrorsAsFailures, M>;

fn layer(store: &Store, name: &'static str) -> CircuitBreakerLayer<ErrorsAsFailures, Reject> {
    CircuitBreakerLayer::new(store.clone()).named(name).classify(ErrorsAsFailures)
}

/// A circuit that is open, a layer of the default mode on it, and a service that is well.
fn open() -> (Circuit, CircuitBreakerLayer<ErrorsAsFailures, Reject>, Upstream) {
    let store = store(fragile());
    let circuit = store.circuit("test");
    trip(&circuit);
    (circuit, layer(&store, "test"), Upstream::new(Does::Succeed))
}

#[track_caller]
fn assert_open<T: std::fmt::Debug, E: Into<BoxError>>(result: Result<T, E>) {
    let error = result.expect_err("should be rejected").into();
    assert!(find_open(&*error).is_some(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn oneshot_with_a_clone_for_each_request_works_in_the_default_mode() {
    let (circuit, layer, upstream) = open();
    let service = layer.layer(upstream);
    assert_open(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    service.clone().oneshot(()).await.unwrap();
    assert_state(&circuit, State::Closed);
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
    assert_open(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    service.clone().oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn buffer_keeps_its_callers_waiting_with_wait_while_open() {
    let (circuit, layer, upstream) = open();
    let service = ServiceBuilder::new().buffer(4).layer(layer.wait_while_open()).service(upstream);
    let waiting = tokio::spawn(service.clone().oneshot(()));
    tokio::time::sleep(s(9)).await;
    assert!(!waiting.is_finished());
    tokio::time::sleep(s(2)).await;
    waiting.await.unwrap().unwrap();
    assert_state(&circuit, State::Closed);
}

/// Retries whatever fails, a few times, and counts how often it was asked.
#[derive(Clone)]
struct Attempts(u32, Arc<AtomicU32>);

fn attempts(most: u32) -> Attempts {
    Attempts(most, Arc::default())
}

impl<E> tower::retry::Policy<(), (), E> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<(), E>) -> Option<Ready<()>> {
        self.1.fetch_add(1, Relaxed);
        result.is_err().then_some(())?;
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

#[tokio::test(start_paused = true)]
async fn retry_stops_where_the_circuit_opens_and_spends_nothing_on_rejections() {
    let store = store(fragile().consecutive_failures(2));
    let upstream = Upstream::new(Does::Fail);
    let service = ServiceBuilder::new()
        .retry(RetryUnlessOpen::new(attempts(9)))
        .layer(layer(&store, "test").reject_in_call())
        .service(upstream.clone());
    assert_open(service.clone().oneshot(()).await);
    assert_eq!(upstream.calls(), 2, "the third attempt was not made");
    assert_open(service.clone().oneshot(()).await);
    assert_eq!(upstream.calls(), 2);
    upstream.now(Does::Succeed);
    wait_out(&store.circuit("test")).await;
    service.clone().oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retry_without_that_asks_its_policy_about_every_rejection() {
    let (circuit, layer, upstream) = open();
    let policy = attempts(3);
    let mut service =
        ServiceBuilder::new().retry(policy.clone()).layer(layer.reject_in_call()).service(upstream);
    assert_open(service.ready().await.unwrap().call(()).await);
    assert_eq!(policy.1.load(Relaxed), 4);
    wait_out(&circuit).await;
    service.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retry_ends_with_an_error_of_readiness_in_the_default_mode() {
    let (circuit, layer, upstream) = open();
    let service = ServiceBuilder::new().retry(attempts(3)).layer(layer).service(upstream);
    assert_open(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    service.clone().oneshot(()).await.unwrap();
}

/// Two services, of which the first is open.
fn two<M: Clone>(
    mode: impl Fn(
        CircuitBreakerLayer<ErrorsAsFailures, Reject>,
    ) -> CircuitBreakerLayer<ErrorsAsFailures, M>,
) -> (Circuit, [Upstream; 2], [Breaker<M>; 2]) {
    let store = store(fragile());
    let circuit = store.circuit("first");
    trip(&circuit);
    let upstreams = [Upstream::new(Does::Succeed), Upstream::new(Does::Succeed)];
    let services = ["first", "second"].map(|name| mode(layer(&store, name)));
    let [first, second] = services;
    let services = [first.layer(upstreams[0].clone()), second.layer(upstreams[1].clone())];
    (circuit, upstreams, services)
}

fn steer<M>(services: [Breaker<M>; 2]) -> impl Service<(), Response = (), Error = BreakerError>
where
    Breaker<M>: Service<(), Response = (), Error = BreakerError>,
{
    Steer::new(services, |(): &(), _: &[_]| 1)
}

type BreakerError = tower_breaker::Error<crate::support::upstream::Failed>;

#[tokio::test(start_paused = true)]
async fn steer_fails_all_routes_for_one_in_the_default_mode() {
    let (circuit, _, services) = two(|layer| layer);
    let mut steer = steer(services);
    assert_open(steer.ready().await.map(drop));
    wait_out(&circuit).await;
    steer.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn steer_blocks_all_routes_for_one_with_wait_while_open() {
    let (_, _, services) = two(CircuitBreakerLayer::wait_while_open);
    let mut steer = steer(services);
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| steer.poll_ready(cx)));
    tokio::time::sleep(s(11)).await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.enter(|cx, _| steer.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn steer_works_with_reject_in_call() {
    let (_, upstreams, services) = two(CircuitBreakerLayer::reject_in_call);
    steer(services).ready().await.unwrap().call(()).await.unwrap();
    assert_eq!([upstreams[0].calls(), upstreams[1].calls()], [0, 1]);
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

/// Makes services, so many; then it takes for ever.
#[derive(Clone)]
struct Make<S>(S, usize);

impl<S: Clone> Service<()> for Make<S> {
    type Response = S;
    type Error = BoxError;
    type Future = Ready<Result<S, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.1 == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.1 -= 1;
        ready(Ok(self.0.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn reconnect_connects_again_and_again_in_the_default_mode() {
    let (_, layer, upstream) = open();
    let mut service = tower::reconnect::Reconnect::new(Make(layer.layer(upstream), 100), ());
    let mut ready = task::spawn(());
    // It would not return at all, were there no end of connections.
    assert_pending!(ready.enter(|cx, _| Service::<()>::poll_ready(&mut service, cx)));
}

#[tokio::test(start_paused = true)]
async fn reconnect_works_with_reject_in_call() {
    let (circuit, layer, upstream) = open();
    let make = Make(layer.reject_in_call().layer(upstream), 1);
    let mut service = tower::reconnect::Reconnect::new(make, ());
    assert_open(service.ready().await.unwrap().call(()).await);
    wait_out(&circuit).await;
    service.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn spawn_ready_works_in_every_mode() {
    let (circuit, layer, upstream) = open();
    let mut rejecting = ServiceBuilder::new()
        .layer(SpawnReadyLayer::new())
        .layer(layer.clone())
        .service(upstream.clone());
    assert_open(rejecting.ready().await.map(drop));
    let waiting = ServiceBuilder::new()
        .layer(SpawnReadyLayer::new())
        .layer(layer.wait_while_open())
        .service(upstream);
    let waiting = tokio::spawn(waiting.oneshot(()));
    wait_out(&circuit).await;
    waiting.await.unwrap().unwrap();
    rejecting.ready().await.unwrap().call(()).await.unwrap();
}

type Endpoints<M> = ServiceList<Vec<Constant<Breaker<M>, u8>>>;

fn balance<M>(services: [Breaker<M>; 2]) -> Balance<Endpoints<M>, ()>
where
    Breaker<M>: Service<()>,
    <Breaker<M> as Service<()>>::Error: Into<BoxError>,
{
    let endpoints = services.into_iter().map(|service| Constant::new(service, 0));
    Balance::new(ServiceList::new::<()>(endpoints.collect::<Vec<_>>()))
}

#[tokio::test(start_paused = true)]
async fn balance_passes_an_open_endpoint_over_with_wait_while_open_and_takes_it_again() {
    let (circuit, upstreams, services) = two::<WaitWhileOpen>(CircuitBreakerLayer::wait_while_open);
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
async fn load_shed_works_in_the_default_mode_and_sheds_what_would_wait() {
    let (circuit, layer, upstream) = open();
    let rejecting =
        ServiceBuilder::new().load_shed().layer(layer.clone()).service(upstream.clone());
    let waiting =
        ServiceBuilder::new().load_shed().layer(layer.wait_while_open()).service(upstream);
    assert_open(rejecting.clone().oneshot(()).await);
    let shed = waiting.clone().oneshot(()).await.unwrap_err();
    assert!(shed.is::<tower::load_shed::error::Overloaded>());
    wait_out(&circuit).await;
    rejecting.oneshot(()).await.unwrap();
    waiting.oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn timeout_and_concurrency_limit_work_in_the_default_mode() {
    let (circuit, layer, upstream) = open();
    let service = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .concurrency_limit(1)
        .layer(layer)
        .service(upstream);
    assert_open(service.clone().oneshot(()).await);
    wait_out(&circuit).await;
    service.clone().oneshot(()).await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_breaker_outside_of_retry_sees_one_result_for_many_attempts() {
    let store = store(fragile().consecutive_failures(2));
    let upstream = Upstream::new(Does::Fail);
    let wrong = ServiceBuilder::new()
        .layer(layer(&store, "test"))
        .retry(attempts(3))
        .service(upstream.clone());
    wrong.oneshot(()).await.unwrap_err();
    assert_eq!(upstream.calls(), 4);
    assert_state(&store.circuit("test"), State::Closed);
}

/// What wakes a service that waits, and that nothing else polls it.
#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_interval_a_place_or_a_hand_and_is_not_polled_before() {
    let (circuit, layer, upstream) = open();
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
    assert!(second.is_woken(), "a place came back");
    assert_ready_ok!(second.enter(|cx, _| other.poll_ready(cx)));
    drop(other.call(()));
    drop(circuit.force_open("by hand"));

    let mut forced = layer.layer(Upstream::new(Does::Succeed));
    let mut third = task::spawn(());
    assert_pending!(third.enter(|cx, _| forced.poll_ready(cx)));
    advance(s(3600)).await;
    assert!(!third.is_woken());
    drop(circuit.reset());
    assert!(third.is_woken(), "a hand has closed it");
    assert_ready_ok!(third.enter(|cx, _| forced.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_waits_for_a_lease_is_woken_when_that_runs_out() {
    let (circuit, layer, upstream) = open();
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
