//! How long calls take, by a sample.

use std::time::Duration;

use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::stats::Latency;
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Outcome, Store, StoreBuilder};

const MS: Duration = Duration::from_millis(1);

fn all() -> StoreBuilder {
    Store::builder().latency_sample(1).key_latency_sample(1)
}

/// Whether the percentile is that of the duration, but for half of a bucket.
#[track_caller]
fn assert_near(percentile: Duration, took: Duration) {
    let off = percentile.abs_diff(took);
    assert!(off * 8 <= took, "{percentile:?} is more than an eighth off {took:?}");
}

async fn call(store: &Store, takes: Duration, outcome: Outcome) {
    let permit = store.circuit("payments").try_acquire().unwrap();
    advance(takes).await;
    permit.settle(outcome);
}

fn latency(store: &Store) -> Option<Latency> {
    store.circuit("payments").snapshot().latency
}

#[tokio::test(start_paused = true)]
async fn percentiles_are_those_of_the_calls() {
    let store = all().build();
    for millis in 1..=100 {
        call(&store, millis * MS, Outcome::Success).await;
    }
    let latency = latency(&store).unwrap();
    assert_eq!(latency.samples, 100);
    assert_near(latency.p50, 50 * MS);
    assert_near(latency.p95, 95 * MS);
    assert_near(latency.p99, 99 * MS);
}

#[tokio::test(start_paused = true)]
async fn calls_that_failed_count_and_cancelled_or_ignored_ones_do_not() {
    let store = all().build();
    call(&store, 3 * MS, Outcome::failure()).await;
    call(&store, 7 * MS, Outcome::Ignored).await;
    drop(store.circuit("payments").try_acquire().unwrap());
    let latency = latency(&store).unwrap();
    assert_eq!(latency.samples, 1);
    assert_near(latency.p99, 3 * MS);
}

#[tokio::test(start_paused = true)]
async fn calls_of_more_than_two_minutes_ago_are_left_out() {
    let store = all().build();
    assert_eq!(latency(&store), None);
    call(&store, 10 * MS, Outcome::Success).await;
    advance(Duration::from_secs(59)).await;
    assert_eq!(latency(&store).unwrap().samples, 1);
    advance(Duration::from_secs(121)).await;
    assert_eq!(latency(&store), None);
    call(&store, 20 * MS, Outcome::Success).await;
    assert_near(latency(&store).unwrap().p99, 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_service_measures_its_calls_and_so_does_a_clone_for_each_request() {
    let store = all().build();
    let layer = CircuitBreakerLayer::new(store.clone()).named("payments");
    let mut service = layer.classify(ErrorsAsFailures).layer(service_fn(async |()| {
        sleep(5 * MS).await;
        Ok::<_, std::io::Error>(())
    }));
    for _ in 0..10 {
        service.ready().await.unwrap().call(()).await.unwrap();
        service.clone().oneshot(()).await.unwrap();
    }
    let latency = latency(&store).unwrap();
    assert_eq!(latency.samples, 20);
    assert_near(latency.p50, 5 * MS);
}

#[tokio::test(start_paused = true)]
async fn about_one_call_in_so_many_is_measured_whoever_makes_it() {
    const CALLS: u64 = 32_000;
    let store = Store::builder().latency_sample(32).build();
    let layer = CircuitBreakerLayer::new(store.clone()).classify(ErrorsAsFailures);
    let ok = || service_fn(async |()| Ok::<_, std::io::Error>(()));
    let mut one = layer.clone().named("one service").layer(ok());
    let each = layer.named("a clone each").layer(ok());
    let permits = store.circuit("permits");
    for _ in 0..CALLS {
        one.ready().await.unwrap().call(()).await.unwrap();
        each.clone().oneshot(()).await.unwrap();
        permits.try_acquire().unwrap().settle(Outcome::Success);
    }
    for circuit in store.circuits() {
        let samples = circuit.snapshot().latency.unwrap().samples;
        // A thousand, with a standard deviation of less than twenty.
        assert!((800..1_200).contains(&samples), "{}: {samples}", circuit.name());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_measured_where_it_is_off() {
    let store = Store::builder().latency_sample(0).build();
    call(&store, MS, Outcome::Success).await;
    assert_eq!(latency(&store), None);

    let by_default = Store::in_memory();
    let keyed = by_default.keyed("outbound");
    let of_a_key = keyed.circuit("example.com").unwrap();
    of_a_key.try_acquire().unwrap().settle(Outcome::Success);
    assert_eq!(of_a_key.snapshot().latency, None);
    call(&by_default, MS, Outcome::Success).await;
    assert!(latency(&by_default).is_some(), "the first call of a named circuit is measured");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_of_a_key_measures_if_asked() {
    let store = all().build();
    let circuit = store.keyed("outbound").circuit("example.com").unwrap();
    let permit = circuit.try_acquire().unwrap();
    advance(4 * MS).await;
    permit.settle(Outcome::Success);
    assert_near(circuit.snapshot().latency.unwrap().p50, 4 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_in_a_used_engine_begins_without_measurements() {
    let store = all().build();
    for _ in 0..3 {
        call(&store, MS, Outcome::Success).await;
    }
    drop(store);
    // Engines serve one circuit after the other.
    for _ in 0..100 {
        let store = all().build();
        assert_eq!(latency(&store), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_measured_call_is_judged_as_any_other() {
    let policy = tower_breaker::Policy::only()
        .slow_call_duration(100 * MS)
        .slow_call_rate(0.5)
        .minimum_calls(4)
        .build()
        .unwrap();
    let store = all().default_policy(policy).build();
    for _ in 0..4 {
        call(&store, 150 * MS, Outcome::Success).await;
    }
    assert_eq!(store.circuit("payments").state(), tower_breaker::State::Open);
    assert_eq!(store.circuit("payments").snapshot().totals.slow, 4);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_circuit_counts_no_slow_call_whatever_is_measured() {
    let policy = tower_breaker::Policy::only().slow_call_duration(100 * MS).slow_call_rate(0.5);
    let policy = policy.build().unwrap();
    // The second store may get the engine of the first one's circuit, which measured.
    for one_in in [1, 0] {
        let store = Store::builder().default_policy(policy.clone()).latency_sample(one_in).build();
        let layer = CircuitBreakerLayer::new(store.clone()).named("payments");
        let mut service = layer.classify(ErrorsAsFailures).layer(service_fn(async |()| {
            sleep(150 * MS).await;
            Ok::<_, std::io::Error>(())
        }));
        store.circuit("payments").disable("a test");
        for _ in 0..100 {
            service.ready().await.unwrap().call(()).await.unwrap();
        }
        let snapshot = store.circuit("payments").snapshot();
        assert_eq!((snapshot.totals.slow, snapshot.latency), (0, None), "one in {one_in}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_admitted_under_the_lock_are_measured_too() {
    // Running calls are judged at every admission, as so much time passes between two.
    let policy = tower_breaker::Policy::only().slow_call_duration(100 * MS).slow_call_rate(0.5);
    let store = all().default_policy(policy.build().unwrap()).build();
    for _ in 0..10 {
        advance(Duration::from_secs(1)).await;
        call(&store, 3 * MS, Outcome::Success).await;
    }
    assert_eq!(latency(&store).unwrap().samples, 10);
    let layer = CircuitBreakerLayer::new(store.clone()).named("payments");
    let service = layer.classify(ErrorsAsFailures).layer(service_fn(async |()| {
        sleep(3 * MS).await;
        Ok::<_, std::io::Error>(())
    }));
    for _ in 0..10 {
        advance(Duration::from_secs(1)).await;
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!(latency(&store).unwrap().samples, 20);
}
