//! Overrides: states that an operator sets.

use tower_breaker::event::{Event, Reason};
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
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open]);
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
async fn an_override_resets_the_backoff() {
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
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open]);
    succeed(&circuit);
    run();
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open]);
}
