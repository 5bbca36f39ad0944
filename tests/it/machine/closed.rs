//! Closed: what opens a circuit, and what does not.

use tower_breaker::event::Reason;
use tower_breaker::policy::{Cancelled, PolicyBuilder};
use tower_breaker::{Outcome, Policy, State};

use crate::support::*;

/// Opens at a failure rate of one half, and on no other condition.
fn rate_only() -> PolicyBuilder {
    Policy::builder().without_consecutive_failures().failure_rate(0.5)
}

#[tokio::test(start_paused = true)]
async fn consecutive_failures_trip_at_the_threshold() {
    let circuit = circuit(Policy::builder().consecutive_failures(3).no_window());
    let reasons = reasons(&circuit);
    times(2, fail, &circuit);
    assert_state(&circuit, State::Closed);
    fail(&circuit);
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.recv(), Ok(Reason::ConsecutiveFailures));
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_a_streak_and_an_ignored_call_does_not() {
    let circuit = circuit(Policy::builder().consecutive_failures(3).no_window());
    times(2, fail, &circuit);
    succeed(&circuit);
    times(2, fail, &circuit);
    assert_state(&circuit, State::Closed);
    ignore(&circuit);
    fail(&circuit);
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_not_judged_below_the_minimum_of_calls() {
    let circuit = circuit(rate_only().minimum_calls(10));
    times(9, fail, &circuit);
    assert_state(&circuit, State::Closed);
    fail(&circuit);
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_success_can_complete_the_minimum_and_trip() {
    let circuit = circuit(rate_only().minimum_calls(4));
    let reasons = reasons(&circuit);
    times(2, fail, &circuit);
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
    succeed(&circuit);
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.recv(), Ok(Reason::FailureRate));
}

#[tokio::test(start_paused = true)]
async fn a_failure_count_trips_among_any_number_of_successes() {
    let circuit = circuit(rate_only().without_failure_rate().failure_count(3));
    let reasons = reasons(&circuit);
    for _ in 0..3 {
        assert_state(&circuit, State::Closed);
        times(1_000, succeed, &circuit);
        fail(&circuit);
    }
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.recv(), Ok(Reason::FailureCount));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_trip_although_they_succeed() {
    let policy = rate_only().minimum_calls(4).slow_call_duration(ms(100)).slow_call_rate(0.5);
    let circuit = circuit(policy);
    let reasons = reasons(&circuit);
    times(2, succeed, &circuit);
    let exactly = hold(&circuit);
    advance(ms(100)).await;
    exactly.settle(Outcome::Success);
    assert_eq!(
        circuit.snapshot().tally.slow_calls,
        0,
        "a call that takes exactly the limit is not slow"
    );
    for _ in 0..3 {
        assert_state(&circuit, State::Closed);
        let slow = hold(&circuit);
        advance(ms(101)).await;
        slow.settle(Outcome::Success);
    }
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.recv(), Ok(Reason::SlowCallRate));
}

#[tokio::test(start_paused = true)]
async fn the_first_condition_that_holds_is_the_reason() {
    let policy = Policy::builder()
        .consecutive_failures(2)
        .failure_rate(0.5)
        .minimum_calls(2)
        .failure_count(2);
    let circuit = circuit(policy);
    let reasons = reasons(&circuit);
    times(2, fail, &circuit);
    assert_eq!(reasons.recv(), Ok(Reason::ConsecutiveFailures));
}

#[tokio::test(start_paused = true)]
async fn a_count_window_opens_within_its_size_after_100_000_successes() {
    let circuit = circuit(rate_only().count_window(100));
    times(100_000, succeed, &circuit);
    let mut calls = 0;
    while circuit.state() == State::Closed {
        fail(&circuit);
        calls += 1;
    }
    assert_eq!(calls, 50);
}

#[tokio::test(start_paused = true)]
async fn a_time_window_opens_within_its_length_after_100_000_successes() {
    let circuit = circuit(rate_only().time_window(s(10)));
    for _ in 0..100 {
        times(1_000, succeed, &circuit);
        advance(ms(100)).await;
    }
    let mut outage = ms(0);
    while circuit.state() == State::Closed {
        for _ in 0..10 {
            circuit.try_acquire().into_iter().for_each(|permit| permit.settle(Outcome::failure()));
        }
        advance(ms(100)).await;
        outage += ms(100);
    }
    assert!(outage <= s(10), "{outage:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_counting_when_its_bucket_leaves_the_window() {
    let circuit = circuit(rate_only().without_failure_rate().failure_count(2).time_window(s(10)));
    fail(&circuit);
    advance(ms(9_999)).await;
    assert_eq!(circuit.snapshot().tally.failures, 1);
    advance(ms(1)).await;
    assert_eq!(circuit.snapshot().tally.failures, 0);
    fail(&circuit);
    assert_state(&circuit, State::Closed);
    advance(s(9)).await;
    fail(&circuit);
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_counting_when_it_leaves_a_count_window() {
    let circuit = circuit(rate_only().without_failure_rate().failure_count(2).count_window(70));
    fail(&circuit);
    times(69, succeed, &circuit);
    assert_eq!(circuit.snapshot().tally.failures, 1);
    succeed(&circuit);
    assert_eq!(circuit.snapshot().tally.failures, 0);
    fail(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_idle_circuit_starts_with_an_empty_window() {
    let circuit = circuit(rate_only().minimum_calls(3).time_window(s(10)));
    times(2, fail, &circuit);
    advance(s(8 * 24 * 3600)).await;
    fail(&circuit);
    assert_eq!((circuit.snapshot().tally.calls, circuit.snapshot().tally.failures), (1, 1));
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_rates_as_fractions() {
    let circuit = circuit(rate_only());
    assert_eq!(circuit.snapshot().tally.failure_rate(), None);
    times(2, succeed, &circuit);
    fail(&circuit);
    let snapshot = circuit.snapshot();
    assert_eq!((snapshot.tally.calls, snapshot.tally.failures), (3, 1));
    assert_eq!(snapshot.tally.failure_rate(), Some(1.0 / 3.0));
    assert_eq!(snapshot.tally.slow_call_rate(), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_hides_no_evidence_from_the_next_judgement() {
    let circuit = circuit(rate_only().minimum_calls(2).time_window(s(10)));
    times(3, succeed, &circuit);
    advance(s(5)).await;
    times(2, fail, &circuit);
    assert_state(&circuit, State::Closed);
    advance(s(5)).await;
    // The successes have left the window. A snapshot drops them and judges nothing; the next result
    // judges.
    assert_eq!(circuit.snapshot().tally.failure_rate(), Some(1.0));
    assert_state(&circuit, State::Closed);
    succeed(&circuit);
    assert_state(&circuit, State::Open);
}

fn cancel(circuit: &tower_breaker::Circuit) {
    drop(hold(circuit));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_all_cancelled_open_the_circuit() {
    let circuit = circuit(Policy::builder());
    let observed = observe(&circuit, ToString::to_string);
    times(19, cancel, &circuit);
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.unanswered, 19);
    cancel(&circuit);
    assert_state(&circuit, State::Open);
    assert_eq!(
        observed.recv().unwrap(),
        "closed -> open: 20 calls in a row were cancelled or failed; probes in 30.0 s"
    );
}

#[tokio::test(start_paused = true)]
async fn one_completed_call_ends_a_run_of_cancelled_calls() {
    let circuit = circuit(Policy::builder().minimum_calls(5));
    times(4, cancel, &circuit);
    succeed(&circuit);
    times(4, cancel, &circuit);
    ignore(&circuit);
    times(4, cancel, &circuit);
    assert_state(&circuit, State::Closed);
    cancel(&circuit);
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_failures_opens_only_with_a_cancelled_call_in_it() {
    for cancelled in [Cancelled::FailureIfSlow, Cancelled::Failure] {
        let policy = Policy::only().failure_count(1_000).minimum_calls(5).cancelled(cancelled);
        let circuit = circuit(policy);
        let reasons = reasons(&circuit);
        times(7, fail, &circuit);
        assert_state(&circuit, State::Closed);
        cancel(&circuit);
        assert_eq!(reasons.recv(), Ok(Reason::NoCompletions));
    }
}

#[tokio::test(start_paused = true)]
async fn ignored_cancellations_form_no_run() {
    let policy = Policy::only().failure_count(1_000).cancelled(Cancelled::Ignored);
    let circuit = circuit(policy.minimum_calls(5));
    times(100, cancel, &circuit);
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.unanswered, 0);
}
