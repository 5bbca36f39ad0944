//! Open: what a rejection says, and how long the circuit stays open.

use std::time::Duration;

use tower_breaker::event::Reason;
use tower_breaker::{Outcome, Policy, State, Store};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_rejection_says_when_to_retry() {
    let circuit = circuit(fragile());
    fail(&circuit);
    advance(s(3)).await;
    let rejection = rejected(&circuit);
    assert_eq!(rejection.name().as_str(), "test");
    assert_eq!((rejection.state(), rejection.generation()), (State::Open, 2));
    assert_eq!(rejection.retry_after(), Some(s(7)));
    assert_eq!(rejection.to_string(), "circuit \"test\" is open: 1 failure; retry in 7.0 s");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_has_its_reason_its_evidence_and_its_age() {
    let circuit = circuit(fragile().consecutive_failures(3));
    succeed(&circuit);
    times(3, fail, &circuit);
    advance(s(4)).await;
    let rejection = rejected(&circuit);
    assert_eq!((rejection.reason(), rejection.since()), (Reason::ConsecutiveFailures, s(4)));
    let evidence = rejection.evidence();
    assert_eq!((evidence.calls, evidence.failures, evidence.consecutive_failures), (4, 3, 3));

    // The failed probe is the latest reason. The evidence is still that of the first opening.
    wait_out(&circuit).await;
    fail(&circuit);
    advance(s(1)).await;
    let rejection = rejected(&circuit);
    assert_eq!((rejection.reason(), rejection.since()), (Reason::ProbeFailed, s(11)));
    assert_eq!(rejection.evidence(), evidence);
    wait_out(&circuit).await;
    let _probe = hold(&circuit);
    let busy = rejected(&circuit);
    assert_eq!((busy.state(), busy.reason()), (State::HalfOpen, Reason::ProbeFailed));
    assert_eq!(busy.evidence(), evidence);

    drop(circuit.force_open("a test"));
    let forced = rejected(&circuit);
    assert_eq!((forced.reason(), forced.since()), (Reason::Override, s(0)));
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_end_the_open_interval() {
    let circuit = circuit(fragile());
    assert!(!circuit.probe_now(), "the circuit is closed");
    fail(&circuit);
    rejected(&circuit);
    assert!(circuit.probe_now());
    let probe = hold(&circuit);
    assert!(probe.is_probe());
    assert!(!circuit.probe_now(), "the circuit is half-open");
    probe.settle(Outcome::failure());
    assert_eq!(rejected(&circuit).retry_after(), Some(s(20)), "the backoff goes on");
    assert!(circuit.probe_now());
    let probe = hold(&circuit);
    assert_eq!(rejected(&circuit).reason(), Reason::ProbeFailed, "the operator did not open it");
    probe.settle(Outcome::Ignored);
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
    drop(circuit.force_open("a test"));
    assert!(!circuit.probe_now(), "only a reset ends an override");
    rejected(&circuit);
}

#[tokio::test(start_paused = true)]
async fn the_announced_wait_is_exact() {
    let circuit = circuit(fragile());
    fail(&circuit);
    let wait = rejected(&circuit).retry_after().unwrap();
    advance(wait.saturating_sub(Duration::from_nanos(1))).await;
    assert!(!circuit.is_available());
    rejected(&circuit);
    advance(Duration::from_nanos(1)).await;
    assert!(circuit.is_available());
    succeed(&circuit);
}

#[tokio::test(start_paused = true)]
async fn is_available_changes_no_state_and_takes_no_probe_slot() {
    let circuit = circuit(fragile());
    assert!(circuit.is_available());
    fail(&circuit);
    assert!(!circuit.is_available());
    advance(s(10)).await;
    let before = evidence(&circuit);
    for _ in 0..100 {
        assert!(circuit.is_available());
    }
    assert_eq!(evidence(&circuit), before);
    assert_state(&circuit, State::Open);
    let probe = hold(&circuit);
    assert!(!circuit.is_available(), "the only slot is taken");
    drop(probe);
    assert!(circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn each_reopening_doubles_the_interval_and_closing_resets_it() {
    let circuit = circuit(fragile());
    fail(&circuit);
    for seconds in [10, 20, 40, 60, 60] {
        assert_eq!(rejected(&circuit).retry_after(), Some(s(seconds)));
        advance(s(seconds)).await;
        fail(&circuit);
    }
    wait_out(&circuit).await;
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
    fail(&circuit);
    assert_eq!(rejected(&circuit).retry_after(), Some(s(10)));
}

#[tokio::test(start_paused = true)]
async fn jitter_lengthens_intervals_by_at_most_its_fraction() {
    let policy = fragile().jitter(0.2).build().unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let circuit = Store::builder().default_policy(policy.clone()).build().circuit("jitter");
        fail(&circuit);
        let wait = circuit.snapshot().retry_after.unwrap();
        assert!((s(10)..=s(12)).contains(&wait), "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 40, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hint_extends_the_interval_up_to_the_cap() {
    for (hint, expected) in
        [(s(3), s(10)), (s(45), s(45)), (s(999_999), s(60)), (Duration::MAX, s(60))]
    {
        let circuit = circuit(fragile());
        hold(&circuit).settle(Outcome::failure_with_hint(hint));
        assert_eq!(rejected(&circuit).retry_after(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_failed_probe_extends_the_next_interval() {
    let circuit = circuit(fragile());
    open_until_due(&circuit).await;
    hold(&circuit).settle(Outcome::failure_with_hint(s(55)));
    assert_eq!(
        rejected(&circuit).retry_after(),
        Some(s(55)),
        "longer than the 20 s of the backoff"
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_result_decides_nothing_in_any_later_phase() {
    let policy = || fragile().consecutive_failures(2).successes_to_close(2).probes(2);
    for outcome in [Outcome::Success, Outcome::failure(), Outcome::Ignored] {
        let circuit = circuit(policy());
        let late: Vec<_> = (0..4).map(|_| hold(&circuit)).collect();
        let mut late = late.into_iter();
        let mut settle = |circuit: &_| {
            let before = evidence(circuit);
            late.next().unwrap().settle(outcome);
            assert_eq!(evidence(circuit), before);
        };
        trip(&circuit);
        settle(&circuit);
        wait_out(&circuit).await;
        let probe = hold(&circuit);
        assert_state(&circuit, State::HalfOpen);
        settle(&circuit);
        probe.settle(Outcome::Success);
        succeed(&circuit);
        assert_state(&circuit, State::Closed);
        settle(&circuit);
        circuit.reset();
        settle(&circuit);
        assert_eq!(circuit.snapshot().stale_results, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_durations_do_not_overflow() {
    let policy = Policy::builder()
        .consecutive_failures(1)
        .open_for(Duration::MAX)
        .probe_lease(Duration::MAX)
        .slow_call_duration(Duration::MAX)
        .time_window(Duration::MAX)
        .failure_count(u64::MAX)
        .minimum_calls(u64::MAX)
        .probes(u64::MAX)
        .successes_to_close(u64::MAX)
        .jitter(1.0);
    let policy = policy.build().unwrap();
    let circuit = Store::builder().default_policy(policy).build().circuit("ages");
    succeed(&circuit);
    fail(&circuit);
    assert_state(&circuit, State::Open);
    advance(s(1_000_000)).await;
    rejected(&circuit);
    assert!(!circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_circuits_with_the_same_hint() {
    let policy = fragile().backoff(2.0, s(300)).jitter(0.1).build().unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let circuit = Store::builder().default_policy(policy.clone()).build().circuit("hint");
        hold(&circuit).settle(Outcome::failure_with_hint(s(120)));
        let wait = circuit.snapshot().retry_after.unwrap();
        assert!((s(120)..=s(132)).contains(&wait), "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 40, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn jitter_is_added_to_a_capped_hint() {
    let policy = fragile().backoff(2.0, s(60)).jitter(1.0).build().unwrap();
    let longest = (0..20).map(|_| {
        let circuit = Store::builder().default_policy(policy.clone()).build().circuit("cap");
        hold(&circuit).settle(Outcome::failure_with_hint(Duration::MAX));
        circuit.snapshot().retry_after.unwrap()
    });
    let longest = longest.max().unwrap();
    assert!((s(61)..=s(120)).contains(&longest), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interval_can_grow_by_half() {
    let circuit = circuit(fragile().backoff(1.5, s(30)));
    fail(&circuit);
    for millis in [10_000, 15_000, 22_500, 30_000, 30_000] {
        assert_eq!(rejected(&circuit).retry_after(), Some(ms(millis)));
        advance(ms(millis)).await;
        fail(&circuit);
    }
}
