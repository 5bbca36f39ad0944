//! The history: what has changed, why, and who overrode it.

use tower_breaker::backend::OverrideChange::{Clear, Reset, Set};
use tower_breaker::backend::{Backend, Move, OpenTerms, Probed, View};
use tower_breaker::event::{HistoryEntry, Origin, Reason, Tally, Transition};
use tower_breaker::overrides::{OverrideRecord, OverrideState};
use tower_breaker::{CircuitName, State};

use super::World;
use super::fixtures::{
    ERROR, PROBE_ERROR, TERMS, failed, name, open, open_until_due, override_record, probe, report,
};
use crate::support::{ms, s};

pub(super) async fn entries(backend: &dyn Backend, circuit: &CircuitName) -> Vec<HistoryEntry> {
    backend.history(circuit).await.unwrap().expect("a backend that keeps it")
}

async fn transitions(backend: &dyn Backend, circuit: &CircuitName) -> Vec<Transition> {
    let entries = entries(backend, circuit).await;
    assert!(entries.iter().all(|entry| entry.transition.origin == Origin::Cluster));
    entries.into_iter().map(|entry| entry.transition).collect()
}

fn changes(transitions: &[Transition]) -> Vec<(State, State, Reason)> {
    transitions.iter().map(|it| (it.from, it.to, it.reason)).collect()
}

pub(super) async fn the_history_has_each_transition_and_the_evidence_of_a_trip(world: impl World) {
    use State::{Closed, HalfOpen, Open};

    let ((one, other), name) = (world.replicas(), name());
    assert_eq!(entries(&*one, &name).await, []);
    one.report(&report(&name, 1, 2)).await;
    let terms = OpenTerms { successes_to_close: 1, ..TERMS };
    let opened = open_until_due(&world, &one, &name, terms).await;
    let lease = probe(&*other, &name, opened.generation, 1).await;
    let again = other.settle_probe(&name, lease, &failed(terms)).await.unwrap();
    world.wait(TERMS.interval).await;
    let lease = probe(&*one, &name, again.generation, 2).await;
    let closed = one.settle_probe(&name, lease, &Probed::Passed).await.unwrap();

    let history = transitions(&*one, &name).await;
    assert_eq!(
        changes(&history),
        [
            (Closed, Open, Reason::FailureRate),
            (Open, HalfOpen, Reason::IntervalOver),
            (HalfOpen, Open, Reason::ProbeFailed),
            (Open, HalfOpen, Reason::IntervalOver),
            (HalfOpen, Closed, Reason::ProbesSucceeded),
        ]
    );
    assert_eq!(history, transitions(&*other, &name).await, "the same for all replicas");
    let trip = &history[0];
    assert_eq!((trip.generation, trip.tally), (opened.generation, opened.tally));
    assert_eq!(
        (trip.open_for, &*trip.contributors),
        (Some(TERMS.interval), &["one".to_owned()][..])
    );
    assert_eq!(
        (history[2].generation, history[4].generation),
        (again.generation, closed.generation)
    );
    assert!(history[1..].iter().all(|it| it.tally == Tally::default()));
    let errors: Vec<_> = history.iter().map(|it| it.last_error.as_deref()).collect();
    assert_eq!(errors, [Some(ERROR), None, Some(PROBE_ERROR), None, None]);
    let entries = entries(&*one, &name).await;
    assert!(entries[0].ago >= entries[4].ago + TERMS.interval, "{entries:?}");
    assert!(entries[0].ago < s(60), "{entries:?}");
}

pub(super) async fn the_history_names_who_overrode_the_circuit_and_why(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let wild = "<script>\n\u{1b}[31m\"\\/ü".to_owned();
    let record = OverrideRecord {
        state: OverrideState::Disabled,
        reason: wild.clone(),
        actor: Some(wild),
        remaining: Some(s(60)),
    };
    let set = one.set_override(&name, &Set(record.clone())).await.unwrap();
    let opened = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    other.set_override(&name, &Set(override_record(None))).await.unwrap();
    other.set_override(&name, &Clear).await.unwrap();
    one.set_override(&name, &Set(override_record(None))).await.unwrap();
    let reset = one.set_override(&name, &Reset).await.unwrap();

    let history = transitions(&*other, &name).await;
    assert_eq!(
        changes(&history),
        [
            (State::Closed, State::Disabled, Reason::Override),
            // The record, beneath the override.
            (State::Closed, State::Open, Reason::FailureRate),
            (State::Disabled, State::ForcedOpen, Reason::Override),
            (State::ForcedOpen, State::Open, Reason::Override),
            (State::Open, State::ForcedOpen, Reason::Override),
            (State::ForcedOpen, State::Closed, Reason::Override),
        ]
    );
    let generations = history.iter().map(|it| it.generation).collect::<Vec<_>>();
    assert_eq!(generations[..2], [set.overridden.version, opened.generation]);
    assert_eq!(generations[5], reset.generation);
    let overrides: Vec<_> = history.iter().map(|it| it.overridden.as_deref()).collect();
    let forced = override_record(None);
    let forced = Some(&forced);
    assert_eq!(overrides, [Some(&record), None, forced, forced, forced, forced]);
}

pub(super) async fn the_last_64_transitions_are_kept(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let mut generations = vec![View::FIRST];
    for n in 0..70 {
        let to = if n % 2 == 0 { open(TERMS) } else { Move::Closed { reason: Reason::Override } };
        let from = generations[n];
        generations.push(one.transition(&name, from, &to).await.unwrap().generation);
    }
    let kept = transitions(&*other, &name).await;
    let kept: Vec<_> = kept.iter().map(|it| it.generation).collect();
    assert_eq!((kept.len(), HistoryEntry::MOST), (64, 64));
    assert_eq!(kept, generations[7..]);
}

pub(super) async fn what_changes_no_state_is_not_noted(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    one.report(&report(&name, 1, 3)).await;
    one.call_roll(&name, 0).await.unwrap();
    one.set_override(&name, &Clear).await.unwrap();
    assert_eq!(entries(&*one, &name).await, []);
    let opened = open_until_due(&world, &one, &name, TERMS).await;
    other.transition(&name, 1, &open(TERMS)).await.unwrap();
    other.restore(&name, &opened).await.unwrap();
    let lease = probe(&*one, &name, opened.generation, 1).await;
    one.settle_probe(&name, lease, &Probed::Released).await.unwrap();
    let lease = probe(&*other, &name, lease.generation, 2).await;
    other.settle_probe(&name, lease, &Probed::Passed).await.unwrap();
    assert_eq!(entries(&*one, &name).await.len(), 2, "opened, and half-open");
}

pub(super) async fn a_restored_record_is_noted(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..TERMS };
    one.transition(&name, 1, &open(terms)).await.unwrap();
    let view = one.set_override(&name, &Set(override_record(None))).await.unwrap();
    world.forget().await;
    assert_eq!(entries(&*one, &name).await, []);
    world.wait(ms(1)).await;
    other.restore(&name, &view).await.unwrap();
    let history = transitions(&*one, &name).await;
    assert_eq!(changes(&history), [(State::Closed, State::ForcedOpen, Reason::FailureRate)]);
    assert_eq!((history[0].generation, history[0].tally), (view.generation, view.tally));
    assert_eq!(history[0].overridden.as_deref(), Some(&override_record(None)));
}
