//! What a metrics-only circuit reports.

use super::*;

fn metrics_only(policy: &Policy) -> Machine {
    let mut machine = Machine::new(policy, START);
    machine.force(set(OverrideState::MetricsOnly), Origin::Local, policy, START);
    machine
}

fn record(machine: &mut Machine, end: Ended, now: Timestamp, policy: &Policy) -> Vec<Reason> {
    match machine.record(end, now, policy, 0) {
        Some(Effect::Notify(events)) => reasons(events),
        None => Vec::new(),
        other => panic!("no probe: {other:?}"),
    }
}

#[test]
fn each_condition_is_reported_when_its_evidence_begins_to_meet_it() {
    let policy =
        policy(|it| it.consecutive_failures(3).failure_count(4).failure_rate(0.5).minimum_calls(5));
    let mut machine = metrics_only(&policy);
    let failure = ended(Outcome::failure());
    let reports: Vec<_> = (0..7).map(|_| record(&mut machine, failure, START, &policy)).collect();
    let (streak, count, rate) =
        (vec![Reason::ConsecutiveFailures], vec![Reason::FailureCount], vec![Reason::FailureRate]);
    assert_eq!(reports, [vec![], vec![], streak.clone(), count, rate, vec![], vec![]]);
    assert_eq!(record(&mut machine, ended(Outcome::Success), START, &policy), []);
    // The streak alone was not met in between.
    let reports: Vec<_> = (0..4).map(|_| record(&mut machine, failure, START, &policy)).collect();
    assert_eq!(reports, [vec![], vec![], streak, vec![]]);
}

#[test]
fn one_result_can_meet_several_conditions() {
    let policy =
        policy(|it| it.consecutive_failures(2).failure_count(2).failure_rate(1.0).minimum_calls(2));
    let mut machine = metrics_only(&policy);
    let failure = ended(Outcome::failure());
    assert_eq!(record(&mut machine, failure, START, &policy), []);
    let all = [Reason::ConsecutiveFailures, Reason::FailureRate, Reason::FailureCount];
    assert_eq!(record(&mut machine, failure, START, &policy), all);
    assert_eq!(record(&mut machine, failure, START, &policy), []);
}

#[test]
fn a_closed_circuit_opens_because_of_the_first_condition_alone() {
    let policy = policy(|it| it.consecutive_failures(2).failure_count(2));
    let mut machine = Machine::new(&policy, START);
    record(&mut machine, ended(Outcome::failure()), START, &policy);
    let reported = record(&mut machine, ended(Outcome::failure()), START, &policy);
    assert_eq!(reported, [Reason::ConsecutiveFailures]);
}

#[test]
fn a_condition_that_left_the_window_is_reported_again() {
    let policy = policy(|it| it.failure_count(2).time_window(s(10)).consecutive_failures(100));
    let mut machine = metrics_only(&policy);
    for start in [0, 20, 40] {
        let failure = ended(Outcome::failure());
        assert_eq!(record(&mut machine, failure, at(start), &policy), []);
        assert_eq!(record(&mut machine, failure, at(start), &policy), [Reason::FailureCount]);
        assert_eq!(record(&mut machine, failure, at(start + 1), &policy), []);
    }
}

#[test]
fn cancelled_calls_are_a_condition_of_their_own() {
    let policy = policy(|it| it.consecutive_failures(2).minimum_calls(4));
    let mut machine = metrics_only(&policy);
    assert_eq!(reasons(machine.cancelled(4, START, &policy, 0)), [Reason::NoCompletions]);
    let failure = ended(Outcome::failure());
    assert_eq!(record(&mut machine, failure, START, &policy), []);
    assert_eq!(record(&mut machine, failure, START, &policy), [Reason::ConsecutiveFailures]);
    assert_eq!(machine.cancelled(1, START, &policy, 0), []);
    machine.completed();
    assert_eq!(reasons(machine.cancelled(2, START, &policy, 0)), [Reason::NoCompletions]);
}
