//! Overrides: states that an operator sets.

use tower_breaker::event::{Event, Reason, Transition};
use tower_breaker::overrides::{Override, OverrideState};
use tower_breaker::{Circuit, Outcome, Policy, State};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn forced_open_lasts_past_any_interval_and_announces_no_retry() {
    let circuit = circuit(fragile());
    circuit.force_open("maintenance until noon");
    advance(s(8 * 24 * 3600)).await;
    let rejection = rejected(&circuit);
    assert_eq!((rejection.state(), rejection.retry_after()), (State::ForcedOpen, None));
    assert!(!circuit.is_available());
    assert_eq!(circuit.snapshot().override_reason.as_deref(), Some("maintenance until noon"));
    circuit.reset();
    assert_eq!(circuit.snapshot().override_reason, None);
    succeed(&circuit);
}

#[tokio::test(start_paused = true)]
async fn forced_closed_counts_and_never_trips() {
    let circuit = circuit(fragile());
    trip(&circuit);
    circuit.force_closed("their status page lies");
    times(100, fail, &circuit);
    assert_state(&circuit, State::ForcedClosed);
    let snapshot = circuit.snapshot();
    assert_eq!((snapshot.tally.failures, snapshot.tally.consecutive_failures), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn disabled_admits_every_call_and_counts_nothing() {
    let circuit = circuit(fragile());
    circuit.disable("load test");
    times(100, fail, &circuit);
    times(100, succeed, &circuit);
    assert_state(&circuit, State::Disabled);
    let snapshot = circuit.snapshot();
    assert_eq!((snapshot.tally.calls, snapshot.tally.failures, snapshot.stale_results), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn metrics_only_counts_and_reports_once_that_it_would_have_opened() {
    let circuit = circuit(Policy::builder().consecutive_failures(3).no_window());
    circuit.metrics_only("trying the policy");
    let events = events(&circuit);
    times(10, fail, &circuit);
    assert_state(&circuit, State::MetricsOnly);
    let would_open = Event::WouldTrip { reason: Reason::ConsecutiveFailures };
    assert_eq!(events.try_iter().collect::<Vec<_>>(), std::slice::from_ref(&would_open));
    succeed(&circuit);
    times(3, fail, &circuit);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open], "again after a success");
}

#[tokio::test(start_paused = true)]
async fn reset_clears_the_evidence_of_every_state() {
    type Into = fn(&Circuit);
    let states: [(Into, State); 6] = [
        (|c| fail(c), State::Closed),
        (|c| trip(c), State::Open),
        (|c| drop(c.force_open("")), State::ForcedOpen),
        (|c| (c.force_closed(""), fail(c)).1, State::ForcedClosed),
        (|c| drop(c.disable("")), State::Disabled),
        (|c| (c.metrics_only(""), fail(c)).1, State::MetricsOnly),
    ];
    for (into, state) in states {
        let circuit = circuit(fragile().consecutive_failures(2));
        into(&circuit);
        assert_state(&circuit, state);
        reset_is_clean(&circuit);
    }
    let circuit = circuit(fragile());
    open_until_due(&circuit).await;
    let probe = hold(&circuit);
    assert_state(&circuit, State::HalfOpen);
    reset_is_clean(&circuit);
    probe.settle(Outcome::failure());
    assert_state(&circuit, State::Closed);
}

#[track_caller]
fn reset_is_clean(circuit: &Circuit) {
    let generation = circuit.snapshot().generation;
    circuit.reset();
    let after = circuit.snapshot();
    assert_eq!(after.state, State::Closed);
    assert_eq!(after.generation, generation + 1);
    assert_eq!(
        (after.tally.calls, after.tally.failures, after.tally.consecutive_failures),
        (0, 0, 0)
    );
    assert_eq!((after.reopenings, after.probes_out, after.probes_passed), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_override_starts_a_generation_and_makes_calls_in_flight_stale() {
    let circuit = circuit(fragile());
    let overrides: [fn(&Circuit); 6] = [
        |c| drop(c.force_open("a")),
        |c| drop(c.force_open("b")),
        |c| drop(c.force_closed("c")),
        |c| drop(c.metrics_only("d")),
        |c| drop(c.disable("e")),
        |c| drop(c.reset()),
    ];
    for (n, change) in (1..).zip(overrides) {
        assert_eq!(circuit.snapshot().generation, n);
        let in_flight = circuit.try_acquire().ok();
        let stale = circuit.snapshot().stale_results + u64::from(in_flight.is_some());
        change(&circuit);
        assert_eq!(circuit.snapshot().generation, n + 1);
        let before = evidence(&circuit);
        if let Some(permit) = in_flight {
            permit.settle(Outcome::failure());
        }
        assert_eq!(evidence(&circuit), before);
        assert_eq!(circuit.snapshot().stale_results, stale);
    }
}

#[tokio::test(start_paused = true)]
async fn reset_ends_the_backoff() {
    let circuit = circuit(fragile());
    open_until_due(&circuit).await;
    fail(&circuit);
    assert_eq!(circuit.snapshot().reopenings, 1);
    circuit.reset();
    trip(&circuit);
    assert_eq!(circuit.snapshot().retry_after, Some(s(10)));
}

#[tokio::test(start_paused = true)]
async fn metrics_only_reports_again_after_its_window_was_empty() {
    let circuit = circuit(Policy::only().failure_rate(0.5).minimum_calls(1).time_window(s(10)));
    circuit.metrics_only("trying the policy");
    let events = events(&circuit);
    times(5, fail, &circuit);
    assert_eq!(events.try_iter().count(), 1);
    advance(s(10)).await;
    times(5, fail, &circuit);
    assert_eq!(events.try_iter().count(), 1, "the window was empty meanwhile");
}

#[tokio::test(start_paused = true)]
async fn metrics_only_reports_a_run_of_cancelled_calls_once() {
    let circuit = circuit(Policy::only().failure_count(1_000).minimum_calls(5));
    circuit.metrics_only("trying the policy");
    let events = events(&circuit);
    let run = || {
        for _ in 0..5 {
            drop(hold(&circuit));
            drop(hold(&circuit));
            fail(&circuit);
        }
    };
    run();
    let would_open = Event::WouldTrip { reason: Reason::NoCompletions };
    assert_eq!(events.try_iter().collect::<Vec<_>>(), std::slice::from_ref(&would_open));
    succeed(&circuit);
    run();
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open]);
}

const OVERRIDES: [OverrideState; 4] = [
    OverrideState::ForcedOpen,
    OverrideState::ForcedClosed,
    OverrideState::Disabled,
    OverrideState::MetricsOnly,
];

fn set(circuit: &Circuit, state: OverrideState, seconds: u64) {
    drop(circuit.set_override(Override::new(state, "a test").actor("alice").lasting(s(seconds))));
}

/// Opens the circuit for 20 s, by a failed probe.
async fn reopen(circuit: &Circuit) {
    open_until_due(circuit).await;
    fail(circuit);
    assert_eq!(rejected(circuit).retry_after(), Some(s(20)));
}

#[tokio::test(start_paused = true)]
async fn an_override_that_ends_gives_back_the_rest_of_the_open_interval() {
    for state in OVERRIDES {
        let circuit = circuit(fragile());
        reopen(&circuit).await;
        set(&circuit, state, 15);
        advance(s(15)).await;
        assert!(!circuit.is_available(), "{state:?}");
        let rejection = rejected(&circuit);
        assert_eq!((rejection.state(), rejection.retry_after()), (State::Open, Some(s(5))));
        assert_eq!(circuit.snapshot().reopenings, 1);
        advance(s(5)).await;
        fail(&circuit);
        assert_eq!(rejected(&circuit).retry_after(), Some(s(40)), "the backoff goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_after_an_override_that_outlasted_the_interval_is_a_probe() {
    for state in OVERRIDES {
        let circuit = circuit(fragile());
        reopen(&circuit).await;
        set(&circuit, state, 60);
        advance(s(60)).await;
        let probe = hold(&circuit);
        assert!(probe.is_probe(), "{state:?}");
        rejected(&circuit);
        probe.settle(Outcome::Success);
        assert_state(&circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_of_a_half_open_circuit_ends_with_a_new_probe() {
    let circuit = circuit(fragile());
    open_until_due(&circuit).await;
    let before = hold(&circuit);
    set(&circuit, OverrideState::Disabled, 1);
    advance(s(1)).await;
    let probe = hold(&circuit);
    assert!(probe.is_probe());
    before.settle(Outcome::Success);
    assert_state(&circuit, State::HalfOpen);
    probe.settle(Outcome::Success);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_overrides_gives_back_what_the_first_covered() {
    let circuit = circuit(fragile());
    reopen(&circuit).await;
    for state in OVERRIDES {
        set(&circuit, state, 3);
        advance(s(2)).await;
    }
    advance(s(1)).await;
    assert_eq!(rejected(&circuit).retry_after(), Some(s(11)));
}

#[tokio::test(start_paused = true)]
async fn an_override_of_a_closed_circuit_ends_closed_without_evidence() {
    for state in OVERRIDES {
        let circuit = circuit(fragile().consecutive_failures(3));
        times(2, fail, &circuit);
        set(&circuit, state, 10);
        if state != OverrideState::ForcedOpen {
            times(10, fail, &circuit);
        }
        advance(s(10)).await;
        let snapshot = circuit.snapshot();
        assert_eq!((snapshot.state, snapshot.tally.failures), (State::Closed, 0));
        times(2, fail, &circuit);
        assert_state(&circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn reset_closes_what_is_beneath_an_override() {
    let circuit = circuit(fragile());
    reopen(&circuit).await;
    set(&circuit, OverrideState::ForcedOpen, 5);
    drop(circuit.reset());
    advance(s(5)).await;
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().reopenings, 0);
}

#[tokio::test(start_paused = true)]
async fn reset_of_a_closed_circuit_is_no_event() {
    let circuit = circuit(fragile().consecutive_failures(2));
    let events = events(&circuit);
    fail(&circuit);
    reset_is_clean(&circuit);
    assert_eq!(events.try_iter().count(), 0);
    fail(&circuit);
    assert_state(&circuit, State::Closed);
}

fn transitions(events: &std::sync::mpsc::Receiver<Event>) -> Vec<Transition> {
    let transition = |event| match event {
        Event::Transition(transition) => Some(transition),
        _ => None,
    };
    events.try_iter().filter_map(transition).collect()
}

#[tokio::test(start_paused = true)]
async fn events_name_the_operator_the_reason_and_the_end_of_an_override() {
    let circuit = circuit(fragile());
    let events = events(&circuit);
    set(&circuit, OverrideState::ForcedOpen, 60);
    advance(s(60)).await;
    succeed(&circuit);
    fail(&circuit);
    let [began, ended, tripped] = &transitions(&events)[..] else { panic!("three transitions") };
    let record = began.overridden.as_ref().expect("an override began");
    assert_eq!((record.state, &*record.reason), (OverrideState::ForcedOpen, "a test"));
    assert_eq!((record.actor.as_deref(), record.remaining), (Some("alice"), Some(s(60))));
    assert_eq!((ended.to, ended.reason), (State::Closed, Reason::OverrideOver));
    assert_eq!(ended.overridden.as_ref(), Some(record));
    assert_eq!((tripped.to, &tripped.overridden), (State::Open, &None));
    assert!(tripped.contributors.is_empty(), "there is no cluster");
}

#[tokio::test(start_paused = true)]
async fn the_same_override_again_is_an_event_only_if_it_ends_later() {
    let circuit = circuit(fragile());
    let events = events(&circuit);
    times(3, |circuit| drop(circuit.disable("a test")), &circuit);
    assert_eq!(transitions(&events).len(), 1);
    set(&circuit, OverrideState::Disabled, 60);
    advance(s(30)).await;
    set(&circuit, OverrideState::Disabled, 60);
    let prolonged = transitions(&events);
    assert_eq!(prolonged.len(), 2);
    assert!(prolonged.iter().all(|it| (it.from, it.to) == (State::Disabled, State::Disabled)));
    advance(s(59)).await;
    assert_state(&circuit, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn metrics_only_reports_each_condition_that_would_have_opened_it() {
    let policy = || Policy::only().consecutive_failures(3).failure_count(5);
    let circuit = circuit(policy());
    circuit.metrics_only("trying the policy");
    let events = events(&circuit);
    let would_open = |reason| Event::WouldTrip { reason };
    let (streak, count) =
        (would_open(Reason::ConsecutiveFailures), would_open(Reason::FailureCount));
    times(10, fail, &circuit);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [streak.clone(), count]);
    succeed(&circuit);
    times(10, fail, &circuit);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [streak], "the count was met throughout");
}
