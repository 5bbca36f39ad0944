//! What the rest of the crate does not use yet, or what cannot be shown from outside.

mod cluster;
mod conditions;
mod metrics_only;
mod overrides;

use std::time::Duration;

use super::*;
use crate::policy::PolicyBuilder;

const START: Timestamp = Timestamp::from_nanos(1);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: u64) -> Timestamp {
    START.after(s(seconds))
}

fn policy(change: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Policy {
    change(Policy::only().jitter(0.0)).build().expect("a policy that can work")
}

fn ended(outcome: Outcome) -> Ended {
    Ended { outcome, slow: false, cancelled: false, lease: None }
}

fn reasons(events: Vec<Event>) -> Vec<Reason> {
    let reason = |event| match event {
        Event::Transition(transition) => Some(transition.reason),
        Event::WouldTrip { reason } => Some(reason),
        Event::CallsCancelled { .. } => None,
    };
    events.into_iter().filter_map(reason).collect()
}

/// An override without an end.
fn set(state: OverrideState) -> Arc<OverrideRecord> {
    let (reason, actor) = ("a test".to_owned(), None);
    Arc::new(OverrideRecord { state, reason, actor, remaining: None })
}

/// A machine that a failure opened at the start, for 10 s.
fn open(policy: &Policy) -> Machine {
    let mut machine = Machine::new(policy, START);
    machine.record(ended(Outcome::failure()), START, policy, 0);
    assert_eq!(machine.state(), State::Open);
    machine
}

fn fragile() -> Policy {
    policy(|it| it.consecutive_failures(1).open_for(s(10)).probe_lease(s(5)).successes_to_close(1))
}

fn probe(machine: &mut Machine, begin: Begin, now: Timestamp, policy: &Policy) -> LeaseId {
    while machine.catch_up(now, policy, 0).is_some() {}
    match machine.admit(begin, now, policy) {
        Admission::Granted(Some(lease)) => lease,
        other => panic!("no probe: {other:?}"),
    }
}

#[test]
fn a_lease_for_later_does_not_begin_in_a_round_in_which_a_probe_hung() {
    let policy = fragile();
    let mut machine = open(&policy);
    probe(&mut machine, Begin::Now, at(10), &policy);
    let later = probe(&mut machine, Begin::Later, at(12), &policy);
    assert!(machine.holds(later, at(14)));
    assert!(!machine.holds(later, at(15)));
    assert!(!machine.begin(later, at(15), &policy));
    let due = machine.catch_up(at(15), &policy, 0).expect("the probe hung");
    assert_eq!((due.reason, due.open_for), (Reason::ProbeExpired, Some(s(20))));
}

#[test]
fn a_lease_that_was_never_begun_does_not_fail_its_round() {
    let policy = fragile();
    let mut machine = open(&policy);
    probe(&mut machine, Begin::Later, at(10), &policy);
    assert!(machine.catch_up(at(100), &policy, 0).is_none());
    assert_eq!(machine.state(), State::HalfOpen);
}

#[test]
fn an_operator_ends_an_open_interval_and_no_other_state() {
    let policy = fragile();
    let mut machine = open(&policy);
    let generation = machine.generation();
    let opened = machine.probe_now(at(1)).expect("it is open");
    assert_eq!((opened.to, opened.reason), (State::Open, Reason::Override));
    assert_eq!((machine.state(), machine.generation()), (State::Open, generation + 1));
    assert_eq!(machine.rejects_until(&policy), Some(at(1)));
    probe(&mut machine, Begin::Now, at(1), &policy);
    assert_eq!(machine.probe_now(at(1)), None, "half-open");
    assert_eq!(Machine::new(&policy, START).probe_now(at(1)), None, "closed");
}

#[test]
fn another_policy_keeps_the_evidence_of_the_same_window_only() {
    let old = policy(|it| it.failure_count(10));
    let strict = policy(|it| it.failure_count(5).open_for(s(1)));
    let short = policy(|it| it.failure_count(5).time_window(s(30)));
    let mut machine = Machine::new(&old, START);
    for _ in 0..6 {
        machine.record(ended(Outcome::failure()), START, &old, 0);
    }
    let mut other = machine.clone();
    other.reshape(&old, &short, START);
    assert_eq!(other.tally(), Tally::default());
    machine.reshape(&old, &strict, START);
    assert_eq!(machine.tally().failures, 6);
    assert!(machine.success_matters(&strict), "the next result is judged by the new policy");
    machine.record(ended(Outcome::Success), START, &strict, 0);
    assert_eq!(machine.state(), State::Open);
    let until = machine.rejects_until(&strict);
    machine.reshape(&strict, &short, at(1));
    assert_eq!((machine.state(), machine.rejects_until(&short)), (State::Open, until));
}

#[test]
fn cancelled_calls_that_were_counted_elsewhere_are_judged_when_they_are_added() {
    let policy = policy(|it| it.consecutive_failures(100).count_window(5));
    let mut machine = Machine::new(&policy, START);
    assert_eq!(machine.cancelled(19, START, &policy, 0), [], "the minimum is not cut down");
    assert!(machine.success_matters(&policy));
    machine.successes(1);
    assert!(!machine.success_matters(&policy));
    assert_eq!(machine.cancelled(19, START, &policy, 0), []);
    let events = machine.cancelled(1, START, &policy, 0);
    assert_eq!(reasons(events), [Reason::NoCompletions]);
    assert_eq!(machine.cancelled(100, START, &policy, 0), [], "open: there is no evidence");
}

#[test]
fn calls_that_are_still_running_trip_when_they_are_judged() {
    let slow = |it: PolicyBuilder| it.slow_call_duration(s(2)).slow_call_rate(0.5);
    let policy = policy(slow);
    assert_eq!(policy.watched_duration(), Some(s(2)));
    let mut machine = Machine::new(&policy, START);
    machine.successes(19);
    machine.set_overdue(18);
    assert_eq!((machine.tally().calls, machine.tally().slow_calls), (37, 18));
    assert_eq!(machine.judge(START, &policy, 0), []);
    assert!(!machine.success_matters(&policy), "a success can only lower the rate");
    machine.set_overdue(19);
    assert_eq!(reasons(machine.judge(START, &policy, 0)), [Reason::SlowCallRate]);
    assert_eq!(machine.state(), State::Open);
}

#[test]
fn running_calls_alone_do_not_send_successes_to_the_lock() {
    let policy = policy(|it| it.slow_call_duration(s(2)).slow_call_rate(0.5).failure_rate(0.5));
    let mut machine = Machine::new(&policy, START);
    machine.set_overdue(3);
    assert!(!machine.success_matters(&policy), "below the minimum a tick is early enough");
    machine.record(Ended { slow: true, ..ended(Outcome::Success) }, START, &policy, 0);
    assert!(machine.success_matters(&policy), "a slow call that ended can complete the minimum");
    machine.successes(16);
    assert!(!machine.success_matters(&policy), "20 calls, too few of them slow");
}

#[test]
fn metrics_only_reports_running_calls_once_and_starts_without_them() {
    let policy = policy(|it| it.slow_call_duration(s(2)).slow_call_rate(0.5).minimum_calls(5));
    let mut machine = Machine::new(&policy, START);
    machine.set_overdue(4);
    machine.force(set(OverrideState::MetricsOnly), Origin::Local, &policy, START);
    assert_eq!(machine.tally(), Tally::default());
    for overdue in [5, 6, 0, 5] {
        machine.set_overdue(overdue);
        let reported = reasons(machine.judge(START, &policy, 0));
        let expected: &[_] = if overdue == 5 { &[Reason::SlowCallRate] } else { &[] };
        assert_eq!(reported, expected, "{overdue}");
    }
}

#[test]
fn no_number_of_reopenings_is_too_much() {
    for multiplier in [1.0, 1.000_001, 1.5, 2.0, 1e12, 1e300] {
        let policy =
            policy(|it| it.consecutive_failures(1).open_for(s(10)).backoff(multiplier, s(300)));
        for reopenings in [0, 1, 1_000, u32::MAX - 1, u32::MAX] {
            let interval = policy.open_interval(reopenings, None, 0);
            assert!((s(10)..=s(300)).contains(&interval), "{multiplier} {reopenings}");
        }
        let longest = if multiplier > 1.0 { s(300) } else { s(10) };
        assert_eq!(policy.open_interval(u32::MAX, None, 0), longest, "{multiplier}");
    }
}

#[test]
fn an_interval_is_what_its_multiplier_makes_of_it() {
    let policy =
        policy(|it| it.consecutive_failures(1).open_for(s(100)).backoff(1.1, s(1_000_000)));
    for (reopenings, micros) in [(0, 100_000_000), (1, 110_000_000), (10, 259_374_246)] {
        let interval = policy.open_interval(reopenings, None, 0).as_micros();
        assert!(interval.abs_diff(micros) <= 1, "{interval} {micros}");
    }
}

#[test]
fn a_reason_without_its_evidence_prints_no_number() {
    let text = |reason: Reason, tally| reason.with(&tally).to_string();
    let counted =
        Tally { calls: 20, failures: 12, slow_calls: 11, consecutive_failures: 5, unanswered: 20 };
    for (reason, with, without) in [
        (Reason::ConsecutiveFailures, "5 consecutive failures", "consecutive failures"),
        (Reason::FailureRate, "12 of 20 calls failed", "too many calls failed"),
        (Reason::SlowCallRate, "11 of 20 calls were slow", "too many calls were slow"),
        (Reason::NoCompletions, "20 calls in a row were cancelled or failed", "no call completed"),
    ] {
        assert_eq!(text(reason, counted), with);
        // As a replica that learns of the opening from others: it has counted good calls alone.
        assert_eq!(text(reason, Tally { calls: 7, ..Tally::default() }), without);
    }
}
