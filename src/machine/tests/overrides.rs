//! What an override covers, and gives back.

use super::*;

/// A machine whose failed probe opened it again at 10 s, until 30 s.
fn reopened(policy: &Policy) -> Machine {
    let mut machine = open(policy);
    let lease = probe(&mut machine, Begin::Now, at(10), policy);
    let failed = Ended { lease: Some(lease), ..ended(Outcome::failure()) };
    machine.record(failed, at(10), policy, 0);
    assert_eq!(machine.rejects_until(policy), Some(at(30)));
    machine
}

fn force(machine: &mut Machine, state: OverrideState, now: Timestamp) -> Transition {
    machine.force(set(state), Origin::Local, &fragile(), now).expect("it is another override")
}

#[test]
fn the_end_of_an_override_gives_back_the_rest_of_the_interval() {
    let policy = fragile();
    for state in OverrideState::ALL {
        let mut machine = reopened(&policy);
        let began = force(&mut machine, state, at(12));
        assert_eq!((began.from, began.to, began.open_for), (State::Open, state.state(), None));
        assert_eq!(machine.beneath_until(), Some(at(30)));
        assert_eq!(machine.reopenings(), 0);
        let ended = machine.end_override(Reason::OverrideOver, &policy, at(25));
        let ended = ended.expect("it is overridden");
        assert_eq!(
            (ended.from, ended.to, ended.open_for),
            (state.state(), State::Open, Some(s(5)))
        );
        assert_eq!((machine.reopenings(), machine.ends()), (1, Timestamp::NEVER));
        assert_eq!(machine.rejects_until(&policy), Some(at(30)));
        probe(&mut machine, Begin::Now, at(30), &policy);
    }
}

#[test]
fn an_interval_that_ended_during_an_override_leaves_the_next_call_as_a_probe() {
    let policy = fragile();
    let mut machine = reopened(&policy);
    force(&mut machine, OverrideState::ForcedClosed, at(12));
    let over = machine.end_override(Reason::Override, &policy, at(60)).expect("overridden");
    assert_eq!((over.to, over.open_for), (State::Open, Some(s(0))));
    let lease = probe(&mut machine, Begin::Now, at(60), &policy);
    let failed = Ended { lease: Some(lease), ..ended(Outcome::failure()) };
    machine.record(failed, at(60), &policy, 0);
    assert_eq!(machine.rejects_until(&policy), Some(at(100)), "the backoff goes on: 40 s");
}

#[test]
fn a_half_open_circuit_is_given_back_as_open_with_its_interval_over() {
    let policy = fragile();
    let mut machine = reopened(&policy);
    probe(&mut machine, Begin::Now, at(30), &policy);
    assert_eq!(machine.state(), State::HalfOpen);
    force(&mut machine, OverrideState::Disabled, at(31));
    let ended = machine.end_override(Reason::Override, &policy, at(31)).expect("overridden");
    assert_eq!((ended.to, ended.open_for, machine.reopenings()), (State::Open, Some(s(0)), 1));
    probe(&mut machine, Begin::Now, at(31), &policy);
}

#[test]
fn an_override_that_replaces_another_covers_what_that_one_covered() {
    let policy = fragile();
    let mut machine = reopened(&policy);
    let generation = machine.generation();
    force(&mut machine, OverrideState::ForcedClosed, at(12));
    force(&mut machine, OverrideState::MetricsOnly, at(13));
    force(&mut machine, OverrideState::ForcedOpen, at(14));
    assert!(machine.covers_own_phase());
    machine.end_override(Reason::Override, &policy, at(15));
    assert_eq!((machine.state(), machine.generation()), (State::Open, generation + 4));
    assert_eq!((machine.reopenings(), machine.rejects_until(&policy)), (1, Some(at(30))));
}

#[test]
fn an_override_of_a_closed_circuit_ends_closed_without_evidence() {
    let policy = policy(|it| it.consecutive_failures(3));
    let mut machine = Machine::new(&policy, START);
    machine.record(ended(Outcome::failure()), START, &policy, 0);
    machine.force(set(OverrideState::ForcedClosed), Origin::Local, &policy, START);
    for _ in 0..5 {
        machine.record(ended(Outcome::failure()), START, &policy, 0);
    }
    let over = machine.end_override(Reason::OverrideOver, &policy, at(1)).expect("overridden");
    assert_eq!((over.to, over.tally.consecutive_failures), (State::Closed, 5));
    assert_eq!(machine.tally(), Tally::default());
    assert_eq!(machine.end_override(Reason::OverrideOver, &policy, at(1)), None);
}

#[test]
fn reset_closes_whatever_is_beneath_an_override() {
    let policy = fragile();
    let mut machine = reopened(&policy);
    force(&mut machine, OverrideState::ForcedOpen, at(12));
    let closed = machine.reset(Reason::Override, &policy, at(13)).expect("it was not closed");
    assert_eq!((closed.from, closed.to), (State::ForcedOpen, State::Closed));
    assert_eq!((machine.state(), machine.reopenings()), (State::Closed, 0));
}

#[test]
fn reset_of_a_closed_circuit_is_no_transition_but_drops_the_evidence() {
    let policy = policy(|it| it.consecutive_failures(3));
    let mut machine = Machine::new(&policy, START);
    machine.record(ended(Outcome::failure()), START, &policy, 0);
    let generation = machine.generation();
    assert_eq!(machine.reset(Reason::Override, &policy, START), None);
    assert_eq!((machine.generation(), machine.tally()), (generation + 1, Tally::default()));
}

#[test]
fn an_override_is_in_the_transition_that_begins_it_and_the_one_that_ends_it() {
    let policy = fragile();
    let mut machine = open(&policy);
    let until_noon = Arc::new(OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: "maintenance".to_owned(),
        actor: Some("alice".to_owned()),
        remaining: Some(s(60)),
    });
    let began = machine.force(until_noon.clone(), Origin::Local, &policy, at(1)).expect("new");
    assert_eq!(began.overridden.as_ref(), Some(&until_noon));
    assert_eq!((machine.overridden(), machine.ends()), (Some(&until_noon), at(61)));
    let other = set(OverrideState::Disabled);
    let replaced = machine.force(other.clone(), Origin::Local, &policy, at(2)).expect("another");
    assert_eq!(replaced.overridden.as_ref(), Some(&other));
    let ended = machine.end_override(Reason::Override, &policy, at(3)).expect("overridden");
    assert_eq!((ended.overridden, machine.overridden()), (Some(other), None));
    let half_open = machine.catch_up(at(20), &policy, 0).expect("the interval is over");
    assert_eq!(half_open.overridden, None);
}

#[test]
fn the_same_override_again_is_a_transition_only_if_it_ends_at_another_time() {
    let policy = fragile();
    let mut machine = Machine::new(&policy, START);
    force(&mut machine, OverrideState::Disabled, at(1));
    let generation = machine.generation();
    let again = set(OverrideState::Disabled);
    assert_eq!(machine.force(again.clone(), Origin::Local, &policy, at(2)), None);
    assert_eq!(machine.generation(), generation);
    let shorter = Arc::new(OverrideRecord { remaining: Some(s(60)), ..(*again).clone() });
    let transition = machine.force(shorter.clone(), Origin::Local, &policy, at(3)).expect("seen");
    assert_eq!((transition.from, transition.to), (State::Disabled, State::Disabled));
    assert_eq!(transition.overridden, Some(shorter.clone()));
    machine.force(shorter, Origin::Local, &policy, at(4)).expect("one second longer");
    assert_eq!(machine.ends(), at(64));
}

#[test]
fn only_a_timed_override_that_lets_calls_pass_over_an_open_phase_passes_for_a_time() {
    let policy = fragile();
    let timed = |state| Arc::new(OverrideRecord { remaining: Some(s(9)), ..(*set(state)).clone() });
    for state in OverrideState::ALL {
        let mut machine = Machine::new(&policy, START);
        machine.force(timed(state), Origin::Local, &policy, START);
        assert!(!machine.passes_for_a_time(), "closed beneath {state:?}");
        let mut machine = open(&policy);
        assert!(!machine.passes_for_a_time());
        machine.force(set(state), Origin::Local, &policy, START);
        assert!(!machine.passes_for_a_time(), "{state:?} without an end");
        machine.force(timed(state), Origin::Local, &policy, START);
        assert_eq!(machine.passes_for_a_time(), state != OverrideState::ForcedOpen);
    }
}
