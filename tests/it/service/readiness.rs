//! Readiness: when the circuit and the inner service are asked, and what happens to a reserved
//! probe slot.

use std::task::Poll;

use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::util::BoxService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::{
    CircuitBreaker, CircuitBreakerLayer, Error, ErrorsAsFailures, Rejected, State, Store,
};

use crate::support::upstream::{Does, Failed, Upstream};
use crate::support::*;

type Breaker<S = Upstream> = CircuitBreaker<S, ErrorsAsFailures>;

fn layer(store: &Store) -> CircuitBreakerLayer<ErrorsAsFailures> {
    CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures)
}

fn breaker(policy: tower_breaker::policy::PolicyBuilder) -> (Breaker, Upstream) {
    let upstream = Upstream::new(Does::Succeed);
    (layer(&store(policy)).layer(upstream.clone()), upstream)
}

async fn call(service: &mut Breaker) -> Result<(), Error<Failed>> {
    service.ready().await?.call(()).await
}

/// Polls for readiness once.
fn poll_ready<S: Service<()>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    task::spawn(()).enter(|cx, _| service.poll_ready(cx))
}

#[tokio::test(start_paused = true)]
async fn a_service_trips_rejects_probes_and_closes() {
    let (mut service, upstream) = breaker(fragile());
    call(&mut service).await.unwrap();
    upstream.now(Does::Fail);
    assert_eq!(call(&mut service).await, Err(Error::Inner(Failed)));
    assert!(call(&mut service).await.unwrap_err().is_rejected());
    assert_eq!(upstream.calls(), 2);
    wait_out(service.circuit()).await;
    upstream.now(Does::Succeed);
    call(&mut service).await.unwrap();
    assert_state(service.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_not_used_while_open() {
    async fn assert_untouched(
        protect: impl FnOnce(Upstream) -> BoxService<(), (), Error<Failed>>,
        store: &Store,
    ) {
        let upstream = Upstream::new(Does::Succeed);
        let mut service = protect(upstream.clone());
        store.circuit("test").force_open("test");
        for _ in 0..10 {
            let rejected = async { service.ready().await?.call(()).await };
            assert!(rejected.await.unwrap_err().is_rejected());
        }
        assert_eq!((upstream.polls(), upstream.calls()), (0, 0));
    }
    let store = store(fragile());
    let layer = layer(&store);
    assert_untouched(|upstream| BoxService::new(layer.layer(upstream)), &store).await;
    let layer = layer.reject_in_call();
    assert_untouched(|upstream| BoxService::new(layer.layer(upstream)), &store).await;
}

#[tokio::test(start_paused = true)]
async fn by_default_poll_ready_returns_the_rejection() {
    let (mut service, _) = breaker(fragile());
    trip(service.circuit());
    let error = assert_ready_err!(poll_ready(&mut service));
    assert_eq!(error.retry_after(), Some(s(10)));
    wait_out(service.circuit()).await;
    assert_ready_ok!(poll_ready(&mut service));
}

#[tokio::test(start_paused = true)]
async fn with_reject_in_call_the_call_returns_the_rejection() {
    let upstream = Upstream::new(Does::Succeed);
    let mut service = layer(&store(fragile())).reject_in_call().layer(upstream.clone());
    trip(service.circuit());
    assert_ready_ok!(poll_ready(&mut service));
    // The call must be rejected: the inner service is not ready, even if the circuit is closed by
    // now.
    service.circuit().reset();
    assert!(service.call(()).await.unwrap_err().is_rejected());
    assert_ready_ok!(poll_ready(&mut service));
    service.call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_taken_while_the_inner_service_is_pending() {
    let (mut service, upstream) = breaker(fragile());
    let circuit = service.circuit().clone();
    open_until_due(&circuit).await;
    upstream.set_pending(true);
    assert_pending!(poll_ready(&mut service));
    assert_eq!(circuit.snapshot().probes_out, 0);
    assert!(circuit.is_available());
    upstream.set_pending(false);
    assert_ready_ok!(poll_ready(&mut service));
    assert_eq!(circuit.snapshot().probes_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_ready_service_that_is_dropped_frees_its_slot() {
    let (mut service, _) = breaker(fragile());
    let circuit = service.circuit().clone();
    open_until_due(&circuit).await;
    assert_ready_ok!(poll_ready(&mut service));
    rejected(&circuit);
    let unused = service.clone();
    drop(service);
    succeed(&circuit);

    // A slot that is freed late had no call, so no result is stale.
    let mut service = unused;
    open_until_due(&circuit).await;
    assert_ready_ok!(poll_ready(&mut service));
    circuit.reset();
    drop(service);
    assert_eq!(circuit.snapshot().stale_results, 0);
}

#[tokio::test(start_paused = true)]
async fn a_ready_service_that_is_not_called_keeps_its_slot_for_one_lease() {
    let (mut service, upstream) = breaker(fragile());
    let circuit = service.circuit().clone();
    open_until_due(&circuit).await;
    assert_ready_ok!(poll_ready(&mut service));
    advance(s(5)).await;
    let other = hold(&circuit);
    assert_state(&circuit, State::HalfOpen);
    assert!(service.call(()).await.unwrap_err().is_rejected(), "another call has its slot now");
    drop(other);
    assert_eq!(upstream.calls(), 0);
    call(&mut service).await.unwrap();
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn call_takes_a_free_slot_again_after_the_lease_expired() {
    let (mut service, upstream) = breaker(fragile());
    open_until_due(service.circuit()).await;
    assert_ready_ok!(poll_ready(&mut service));
    advance(s(6)).await;
    service.call(()).await.unwrap();
    assert_eq!(upstream.calls(), 1);
    assert_state(service.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_probe_starts_anew_with_its_call() {
    let (mut service, upstream) = breaker(fragile());
    let circuit = service.circuit().clone();
    open_until_due(&circuit).await;
    assert_ready_ok!(poll_ready(&mut service));
    advance(s(4)).await;
    upstream.now(Does::Hang);
    let mut hung = task::spawn(service.call(()));
    assert_pending!(hung.poll());
    advance(s(4)).await;
    rejected(&circuit);
    assert_state(&circuit, State::HalfOpen);
    advance(s(1)).await;
    rejected(&circuit);
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn call_checks_the_circuit_again() {
    let (mut service, upstream) = breaker(fragile());
    assert_ready_ok!(poll_ready(&mut service));
    trip(service.circuit());
    assert!(service.call(()).await.unwrap_err().is_rejected());
    assert_eq!(upstream.calls(), 0);

    service.circuit().reset();
    assert_ready_ok!(poll_ready(&mut service));
    service.circuit().force_closed("test");
    service.call(()).await.unwrap();
    assert_eq!(
        service.circuit().snapshot().tally.calls,
        1,
        "counted in the phase that admitted it"
    );
}

#[tokio::test(start_paused = true)]
async fn poll_ready_asks_again_if_the_circuit_changed() {
    let (mut service, _) = breaker(fragile());
    let circuit = service.circuit().clone();
    assert_ready_ok!(poll_ready(&mut service));
    trip(&circuit);
    assert_ready_err!(poll_ready(&mut service));
    wait_out(&circuit).await;
    assert_ready_ok!(poll_ready(&mut service));
    assert_ready_ok!(poll_ready(&mut service));
    assert_eq!(circuit.snapshot().probes_out, 1, "one slot, however often it is asked");
}

#[tokio::test(start_paused = true)]
async fn call_without_poll_ready_asks_the_circuit() {
    let store = store(fragile());
    let always_ready = tower::service_fn(|(): ()| std::future::ready(Ok::<_, Failed>(())));
    let mut service = layer(&store).layer(always_ready);
    service.call(()).await.unwrap();
    store.circuit("test").force_open("test");
    assert!(service.call(()).await.unwrap_err().is_rejected());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_service_keeps_the_inner_service_reserved() {
    let store = store(fragile());
    let upstream = Upstream::new(Does::Succeed);
    let limited = ServiceBuilder::new().concurrency_limit(1).service(upstream.clone());
    let mut loser = ServiceBuilder::new().layer(layer(&store)).service(limited.clone());
    let circuit = store.circuit("test");
    open_until_due(&circuit).await;

    // Another call takes the slot while the inner service gets ready.
    let mut limited = limited;
    limited.ready().await.unwrap();
    assert_pending!(poll_ready(&mut loser));
    let probe = hold(&circuit);
    drop(limited);
    // The circuit is asked first, so the loser does not poll the inner service...
    assert_ready_err!(poll_ready(&mut loser));
    drop(probe);
    // ...and is ready once a slot is free.
    assert_ready_ok!(poll_ready(&mut loser));
    loser.call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clone_starts_without_the_reserved_slot() {
    let (mut service, _) = breaker(fragile());
    open_until_due(service.circuit()).await;
    assert_ready_ok!(poll_ready(&mut service));
    let mut clone = service.clone();
    assert_ready_err!(poll_ready(&mut clone));
    drop(clone);
    service.call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_poll_ready_is_returned_and_not_counted() {
    #[derive(Clone)]
    struct Broken;
    impl Service<()> for Broken {
        type Response = ();
        type Error = Failed;
        type Future = std::future::Ready<Result<(), Failed>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Failed>> {
            Poll::Ready(Err(Failed))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!()
        }
    }
    let store = store(fragile());
    let mut service = layer(&store).layer(Broken);
    assert_eq!(assert_ready!(poll_ready(&mut service)), Err(Error::Inner(Failed)));
    assert_eq!(store.circuit("test").snapshot().tally.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_need_not_be_clone() {
    struct NotClone(Upstream);
    impl Service<()> for NotClone {
        type Response = ();
        type Error = Failed;
        type Future = <Upstream as Service<()>>::Future;
        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Failed>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, (): ()) -> Self::Future {
            self.0.call(())
        }
    }
    let mut service = layer(&store(fragile())).layer(NotClone(Upstream::new(Does::Succeed)));
    service.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn under_a_buffer_the_rejection_is_found_in_the_boxed_error() {
    let upstream = Upstream::new(Does::Fail);
    let store = store(fragile());
    let service = ServiceBuilder::new()
        .buffer(8)
        .layer(layer(&store).reject_in_call())
        .service(upstream.clone());
    assert_eq!(service.clone().oneshot(()).await.unwrap_err().to_string(), "failed");
    let error = service.clone().oneshot(()).await.unwrap_err();
    assert_eq!(Rejected::find_in(&*error).unwrap().retry_after(), Some(s(10)));
    wait_out(&store.circuit("test")).await;
    upstream.now(Does::Succeed);
    service.oneshot(()).await.unwrap();
}
