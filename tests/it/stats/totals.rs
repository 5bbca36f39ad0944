//! What totals count, and that they go on whatever becomes of the circuit.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::event::Reason;
use tower_breaker::policy::Cancelled;
use tower_breaker::stats::Totals;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy, State, Store,
};

use crate::support::*;

fn totals(circuit: &Circuit) -> Totals {
    circuit.snapshot().totals
}

#[tokio::test(start_paused = true)]
async fn totals_survive_transitions_resets_overrides_and_policy_changes() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    for round in 1..=3 {
        succeed(&circuit);
        fail(&circuit);
        rejected(&circuit);
        wait_out(&circuit).await;
        succeed(&circuit);
        assert_state(&circuit, State::Closed);
        drop(circuit.force_open("test"));
        rejected(&circuit);
        drop(circuit.reset());
        succeed(&circuit);
        drop(circuit.reset());
        store.set_policy("test", fragile().count_window(10 * round).build().unwrap());
        let totals = totals(&circuit);
        let counted = (totals.succeeded, totals.failed.sum(), totals.rejected, totals.probes);
        assert_eq!(counted, (3 * round, round, 2 * round, round));
        assert_eq!((totals.permitted(), totals.stale), (4 * round, 0));
        assert_eq!(totals.transitioned(), 5 * round);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_each_state_is_counted_to_the_nanosecond() {
    let circuit = circuit(fragile());
    advance(s(3)).await;
    fail(&circuit);
    advance(s(12)).await;
    // It was open until this call asks.
    let probe = hold(&circuit);
    advance(s(2)).await;
    probe.settle(Outcome::Success);
    advance(s(4)).await;
    drop(circuit.force_open("test"));
    advance(s(5)).await;
    drop(circuit.force_open("another reason"));
    advance(s(5)).await;
    drop(circuit.disable("test"));
    advance(s(7)).await;
    drop(circuit.reset());
    advance(s(1)).await;
    let times = totals(&circuit).times;
    let spent = [State::Closed, State::Open, State::HalfOpen, State::ForcedOpen, State::Disabled];
    assert_eq!(spent.map(|state| times.get(state)), [s(8), s(12), s(2), s(10), s(7)]);
    assert_eq!(times.iter().map(|(_, time)| time).sum::<std::time::Duration>(), s(39));
}

#[tokio::test(start_paused = true)]
async fn transitions_are_counted_by_what_changed_and_why() {
    let circuit = circuit(fragile());
    for _ in 0..4 {
        fail(&circuit);
        wait_out(&circuit).await;
        succeed(&circuit);
    }
    drop(circuit.force_open("test"));
    let totals = totals(&circuit);
    let times = |from, to, reason| {
        let kinds = totals.transitions.iter();
        let mut found = kinds.filter(|t| (t.from, t.to, t.reason) == (from, to, reason));
        let times = found.next().map_or(0, |total| total.times);
        assert!(found.next().is_none(), "one entry for each kind");
        times
    };
    assert_eq!(times(State::Closed, State::Open, Reason::ConsecutiveFailures), 4);
    assert_eq!(times(State::Open, State::HalfOpen, Reason::IntervalOver), 4);
    assert_eq!(times(State::HalfOpen, State::Closed, Reason::ProbesSucceeded), 4);
    assert_eq!(times(State::Closed, State::ForcedOpen, Reason::Override), 1);
    assert_eq!(totals.transitioned(), 13);
}

#[test]
fn results_in_every_state_that_admits_calls_are_counted() {
    let policies =
        [Policy::builder(), Policy::builder().no_window(), Policy::builder().count_window(9)];
    for policy in policies {
        let circuit = circuit(policy.consecutive_failures(100).without_failure_rate());
        let overrides: [fn(&Circuit); 4] = [
            |_| (),
            |circuit| drop(circuit.disable("test")),
            |circuit| drop(circuit.force_closed("test")),
            |circuit| drop(circuit.metrics_only("test")),
        ];
        for set in overrides {
            set(&circuit);
            for verb in [succeed, fail, ignore, |circuit: &Circuit| drop(hold(circuit))] {
                times(2, verb, &circuit);
            }
        }
        let Totals { succeeded, failed, ignored, cancelled, stale, .. } = totals(&circuit);
        assert_eq!((succeeded, failed.sum(), ignored, cancelled, stale), (8, 8, 8, 8, 0));
    }
}

#[test]
fn stale_results_are_counted_as_such_alone() {
    let circuit = circuit(fragile());
    let calls = [hold(&circuit), hold(&circuit), hold(&circuit), hold(&circuit)];
    fail(&circuit);
    let outcomes = [Some(Outcome::Success), Some(Outcome::failure()), Some(Outcome::Ignored), None];
    for (call, outcome) in calls.into_iter().zip(outcomes) {
        match outcome {
            Some(outcome) => call.settle(outcome),
            None => drop(call),
        }
    }
    let totals = totals(&circuit);
    assert_eq!((totals.stale, totals.permitted(), totals.failed.sum()), (4, 5, 1));
    assert_eq!(circuit.snapshot().stale_results, 4);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_counted_whether_they_succeed_or_fail() {
    let policy = fragile().consecutive_failures(9).slow_call_duration(s(1));
    for (cancelled, slow) in [(Cancelled::FailureIfSlow, 3), (Cancelled::Ignored, 2)] {
        let circuit = circuit(policy.clone().cancelled(cancelled));
        let calls = [hold(&circuit), hold(&circuit), hold(&circuit), hold(&circuit)];
        advance(s(2)).await;
        let [success, failure, ignored, dropped] = calls;
        success.settle(Outcome::Success);
        failure.settle(Outcome::failure());
        ignored.settle(Outcome::Ignored);
        drop(dropped);
        succeed(&circuit);
        assert_eq!(totals(&circuit).slow, slow, "{cancelled:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_counts_when_its_call_begins() {
    let store = store(fragile());
    let inner = service_fn(|()| ready(Ok::<_, ()>(())));
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures);
    let mut service = layer.layer(inner);
    open_until_due(service.circuit()).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(totals(service.circuit()).probes, 0, "it is only reserved");
    drop(service.clone());
    assert_eq!(totals(service.circuit()).permitted(), 1, "the failure that opened it");
    service.call(()).await.unwrap();
    assert_eq!(totals(service.circuit()).probes, 1);
    assert_eq!(totals(service.circuit()).succeeded, 1);

    open_until_due(service.circuit()).await;
    let mut reserved = layer.layer(inner);
    assert!(matches!(reserved.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    drop(reserved);
    let totals = totals(service.circuit());
    assert_eq!((totals.probes, totals.ignored), (1, 0), "given back, and no call");
}

#[tokio::test(start_paused = true)]
async fn would_be_trips_are_counted_in_metrics_only() {
    let circuit = circuit(fragile());
    drop(circuit.metrics_only("test"));
    for _ in 0..3 {
        fail(&circuit);
        succeed(&circuit);
    }
    assert_eq!(totals(&circuit).would_trip, 3);
}

type Upstream = tower::util::ServiceFn<
    fn(Request<()>) -> std::future::Ready<Result<Response<String>, Infallible>>,
>;

fn upstream() -> Upstream {
    service_fn(|_| ready(Ok(Response::new(String::new()))))
}

#[tokio::test(start_paused = true)]
async fn each_way_of_rejecting_counts_each_rejected_call_once() {
    let store = Store::in_memory();
    let circuit = store.circuit("test");
    drop(circuit.force_open("test"));
    let mut expected = 0;
    let mut count = |what: &str| {
        expected += 1;
        assert_eq!(totals(&circuit).rejected, expected, "{what}");
    };
    assert!(circuit.try_acquire().is_err());
    count("try_acquire");
    assert!(circuit.acquire().await.is_err());
    count("acquire");
    assert!(circuit.execute(|| ready(Ok::<_, ()>(()))).await.is_err());
    count("execute");
    let fallback = |_| ready(Ok::<_, ()>(()));
    assert!(circuit.execute_or(|| ready(Ok(())), fallback).await.is_ok());
    count("execute_or");

    let layer = || CircuitBreakerLayer::new(store.clone()).named("test");
    let request = || Request::new(());
    assert!(layer().layer(upstream()).oneshot(request()).await.is_err());
    count("an error at readiness");
    assert!(layer().reject_in_call().layer(upstream()).oneshot(request()).await.is_err());
    count("an error in the call");
    assert!(layer().respond().layer(upstream()).oneshot(request()).await.is_ok());
    count("a response");
    assert!(layer().fallback(upstream()).layer(upstream()).oneshot(request()).await.is_ok());
    count("a fallback");
    assert!(layer().observe_body().layer(upstream()).oneshot(request()).await.is_err());
    count("until the body");

    assert!(!circuit.is_available());
    assert_eq!(totals(&circuit).rejected, expected, "asking is no call");
    let mut waits = task::spawn(layer().wait_while_open().layer(upstream()).oneshot(request()));
    assert_pending!(waits.poll());
    drop(circuit.reset());
    assert!(waits.await.is_ok());
    assert_eq!(totals(&circuit).rejected, expected, "it waited");
}

#[tokio::test(start_paused = true)]
async fn rejections_with_and_without_the_lock_are_counted() {
    let circuit = circuit(fragile());
    fail(&circuit);
    times(10, |circuit| drop(rejected(circuit)), &circuit);
    wait_out(&circuit).await;
    let probe = hold(&circuit);
    // Half-open with all slots taken.
    times(5, |circuit| drop(rejected(circuit)), &circuit);
    probe.settle(Outcome::failure());
    times(3, |circuit| drop(rejected(circuit)), &circuit);
    assert_eq!(totals(&circuit).rejected, 18);
}

#[test]
fn a_new_circuit_starts_at_zero_in_the_engine_of_an_old_one() {
    for _ in 0..50 {
        let store = store(fragile());
        let circuit = store.circuit("test");
        assert_eq!(totals(&circuit).permitted(), 0);
        assert_eq!(totals(&circuit).rejected, 0);
        succeed(&circuit);
        ignore(&circuit);
        drop(hold(&circuit));
        let late = hold(&circuit);
        fail(&circuit);
        rejected(&circuit);
        drop((circuit, store));
        // Of a circuit that is gone: it counts nowhere.
        let next = store_and_circuit();
        late.settle(Outcome::failure());
        assert_eq!(totals(&next.1).permitted(), 0);
    }
}

fn store_and_circuit() -> (Store, Circuit) {
    let store = store(fragile());
    let circuit = store.circuit("next");
    (store, circuit)
}

#[test]
fn a_snapshot_does_not_change_totals() {
    let circuit = circuit(fragile().consecutive_failures(9));
    times(5, succeed, &circuit);
    times(2, fail, &circuit);
    let first = totals(&circuit);
    let mut second = totals(&circuit);
    second.times = first.times;
    assert_eq!(first, second);
}
