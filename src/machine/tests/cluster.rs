//! What a replica makes of a record's generations.

use super::*;

const TRIP: Tally =
    Tally { calls: 90, failures: 60, slow_calls: 0, consecutive_failures: 7, unanswered: 0 };

fn why(reason: Reason) -> Why {
    Why {
        reason,
        tally: TRIP,
        contributors: Arc::from(["pod-2".to_owned(), "pod-1".to_owned()]),
        last_error: Some("503".into()),
    }
}

fn attached(policy: &Policy) -> Machine {
    let mut machine = Machine::new(policy, START);
    machine.set_backing(Backing::Attached);
    machine
}

fn shared_open(until: u64, reopenings: u32) -> Shared {
    Shared::Open { until: at(until), reopenings }
}

#[test]
fn a_trip_of_the_cluster_carries_the_evidence_and_names_of_all_replicas() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.successes(3);
    let trip = machine.apply(shared_open(9, 0), 5, why(Reason::FailureRate), START, &policy);
    let trip = trip.expect("it opened");
    assert_eq!((trip.from, trip.to, trip.origin), (State::Closed, State::Open, Origin::Cluster));
    assert_eq!((trip.reason, trip.generation), (Reason::FailureRate, 5));
    assert_eq!((trip.tally, trip.open_for), (TRIP, Some(s(9))));
    assert_eq!(&*trip.contributors, ["pod-2", "pod-1"]);
}

#[test]
fn a_record_without_a_tally_leaves_this_process_its_own() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.successes(3);
    let why = Why { tally: Tally::default(), ..why(Reason::FailureRate) };
    let trip = machine.apply(shared_open(9, 0), 5, why, START, &policy).expect("it opened");
    assert_eq!((trip.tally.calls, machine.generation()), (3, 5));
}

#[test]
fn what_a_closed_record_has_counted_is_not_what_the_phase_before_had() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.apply(shared_open(9, 0), 5, why(Reason::FailureRate), START, &policy);
    let closed = machine.apply(Shared::Closed, 6, why(Reason::Override), at(1), &policy);
    assert_eq!(closed.expect("it closed").tally, Tally::default());
}

#[test]
fn a_view_that_changes_nothing_visible_is_no_transition() {
    let policy = fragile();
    let mut machine = attached(&policy);
    let reason = Reason::ProbesSucceeded;
    assert_eq!(machine.apply(Shared::Closed, 7, why(reason), START, &policy), None);
    assert_eq!((machine.generation(), machine.origin()), (7, Origin::Cluster));
    let reason = Reason::FailureRate;
    machine.apply(shared_open(9, 1), 8, why(reason), START, &policy).expect("it opened");
    assert_eq!(machine.apply(shared_open(20, 1), 9, why(reason), at(1), &policy), None);
    assert_eq!((machine.generation(), machine.rejects_until(&policy)), (9, Some(at(20))));
    let half_open = Shared::HalfOpen { reopenings: 1, passed: 0 };
    let reason = Reason::IntervalOver;
    machine.apply(half_open, 10, why(reason), at(20), &policy).expect("it is half-open");
    let later = Shared::HalfOpen { reopenings: 2, passed: 0 };
    assert_eq!(machine.apply(later, 12, why(reason), at(60), &policy), None);
}

#[test]
fn an_open_circuit_that_others_have_probed_in_vain_is_a_transition() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.apply(shared_open(9, 0), 5, why(Reason::FailureRate), START, &policy);
    let again = machine.apply(shared_open(30, 1), 7, why(Reason::ProbeFailed), at(10), &policy);
    let again = again.expect("their probe failed");
    assert_eq!((again.from, again.to), (State::Open, State::Open));
    assert_eq!((again.reason, again.open_for), (Reason::ProbeFailed, Some(s(20))));
}

#[test]
fn a_circuit_opened_here_that_the_cluster_opens_too_has_opened_once() {
    let policy = fragile();
    let mut machine = open(&policy);
    machine.set_backing(Backing::Attached);
    let same = machine.apply(shared_open(12, 1), 5, why(Reason::FailureRate), at(1), &policy);
    assert_eq!(same, None);
    assert_eq!((machine.origin(), machine.reopenings()), (Origin::Cluster, 1));
}

#[test]
fn a_detached_replica_that_comes_back_to_an_open_record_opens_once() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.apply(shared_open(9, 2), 5, why(Reason::FailureRate), START, &policy).expect("opened");
    machine.set_backing(Backing::Detached);
    assert_eq!(machine.apply(shared_open(9, 2), 5, why(Reason::FailureRate), at(1), &policy), None);
}

#[test]
fn the_end_of_an_override_gives_back_a_phase_of_the_cluster_as_the_clusters() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.apply(shared_open(9, 2), 5, why(Reason::FailureRate), START, &policy);
    machine.force(set(OverrideState::Disabled), Origin::Local, &policy, at(1));
    assert_eq!((machine.origin(), machine.covers_own_phase()), (Origin::Local, false));
    machine.end_override(Reason::Override, &policy, at(10));
    assert_eq!((machine.origin(), machine.reopenings()), (Origin::Cluster, 2));
    assert_eq!(machine.admit(Begin::Now, at(10), &policy), Admission::Ask);
}

#[test]
fn a_generation_that_is_applied_ends_an_override() {
    let policy = fragile();
    let mut machine = attached(&policy);
    let record = set(OverrideState::ForcedOpen);
    machine.force(record.clone(), Origin::Cluster, &policy, START);
    let over = machine.apply(Shared::Closed, 9, why(Reason::OverrideOver), at(1), &policy);
    assert_eq!(over.expect("it closed").overridden, Some(record));
    assert_eq!(machine.ends(), Timestamp::NEVER);
}

#[test]
fn the_last_generation_overflows_nothing() {
    let policy = fragile();
    let mut machine = attached(&policy);
    machine.apply(shared_open(9, 0), u64::MAX, why(Reason::FailureRate), START, &policy);
    machine.reset(Reason::Override, &policy, at(1));
    machine.apply(Shared::Closed, 0, why(Reason::Override), at(2), &policy);
    assert_eq!(machine.generation(), u64::MAX);
}
