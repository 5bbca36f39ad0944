//! Timeouts, panics and drops around the service.

use std::time::Duration;

use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_breaker::policy::Cancelled;
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, State, Store};

use crate::support::upstream::{Does, Upstream};
use crate::support::*;

const TIMEOUT: Duration = s(2);

fn layer(store: &Store) -> CircuitBreakerLayer<ErrorsAsFailures> {
    CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures)
}

async fn opens_after_three_calls<S>(store: &Store, service: S)
where
    S: Service<(), Response = (), Error: std::fmt::Debug> + Clone,
{
    for _ in 0..3 {
        assert_state(&store.circuit("test"), State::Closed);
        service.clone().oneshot(()).await.unwrap_err();
    }
    assert_state(&store.circuit("test"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_hung_upstream_opens_with_the_timeout_inside() {
    let store = store(fragile().consecutive_failures(3));
    let service = ServiceBuilder::new()
        .layer(layer(&store))
        .timeout(TIMEOUT)
        .service(Upstream::new(Does::Hang));
    opens_after_three_calls(&store, service).await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_upstream_opens_with_the_timeout_outside_by_policy() {
    let policies = [
        fragile().consecutive_failures(3).cancelled(Cancelled::Failure),
        fragile().consecutive_failures(3).slow_call_duration(s(1)),
    ];
    for policy in policies {
        let store = store(policy);
        let service = ServiceBuilder::new()
            .timeout(TIMEOUT)
            .layer(layer(&store))
            .service(Upstream::new(Does::Hang));
        opens_after_three_calls(&store, service).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_inner_service_is_a_failure_and_is_passed_on() {
    for does in [Does::PanicInCall, Does::PanicInFuture] {
        let store = store(fragile());
        let service = layer(&store).layer(Upstream::new(does));
        let task = tokio::spawn(async move { service.oneshot(()).await.ok() });
        assert!(task.await.unwrap_err().is_panic());
        assert_state(&store.circuit("test"), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_or_during_its_call_frees_its_slot() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    let upstream = Upstream::new(Does::Hang);
    open_until_due(&circuit).await;
    let mut service = layer(&store).layer(upstream.clone());
    for _ in 0..5 {
        // Called, and its future never polled.
        drop(service.ready().await.unwrap().call(()));
        // Called, polled, and dropped.
        let call = service.ready().await.unwrap().call(());
        assert!(tokio::time::timeout(ms(1), call).await.is_err());
        // Readied in a clone that is dropped.
        service.clone().ready().await.unwrap();
        assert_eq!(circuit.snapshot().probes_out, 0);
        assert_state(&circuit, State::HalfOpen);
    }
    upstream.now(Does::Succeed);
    service.ready().await.unwrap().call(()).await.unwrap();
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_its_service_and_its_store() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    let upstream = Upstream::new(Does::Succeed);
    let mut service = layer(&store).layer(upstream);
    let call = service.ready().await.unwrap().call(());
    drop((service, store));
    call.await.unwrap();
    assert_eq!(circuit.snapshot().tally.calls, 1);
}
