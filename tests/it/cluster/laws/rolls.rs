//! Roll calls: who calls one, what answers it, and what ends it.

use std::time::Duration;

use tower_breaker::backend::{Attention, Batch, Cursor, Group, Report};

use super::World;
use super::fixtures::{Replica, TERMS, name, names, open, report, streak, success};
use crate::support::{ms, s};

pub(super) async fn of_many_proposers_one_calls_the_roll(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let before = one.end(Group::of(&name)).await;
    let roll = one.call_roll(&name, 0).await.unwrap();
    let called = one.load(&name).await;
    let end = one.end(Group::of(&name)).await;
    assert!(roll.id > 0 && end.version > before.version);
    for n in 0..5 {
        let replica = other.named(&format!("{n}"));
        assert_eq!(replica.call_roll(&name, 0).await.unwrap().id, roll.id);
    }
    let now = one.load(&name).await;
    assert_eq!((now.revision, one.end(Group::of(&name)).await), (called.revision, end));

    let next = one.call_roll(&name, roll.id).await.unwrap();
    assert!(next.id > roll.id);
    assert!(one.load(&name).await.revision > called.revision);
    assert_eq!(other.call_roll(&name, roll.id).await.unwrap().id, next.id);
}

pub(super) async fn a_roll_call_is_answered_by_batches_that_have_seen_it(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let group = Group::of(&name);
    let before = other.end(group).await;
    let answered = async |batch: &Batch| other.send(batch).await.suspect.unwrap().answered;
    assert_eq!(one.call_roll(&name, 0).await.unwrap().answered, 0);
    let end = other.end(group).await;

    let having_seen = |replica: &Replica, since, seen| Batch {
        since,
        seen,
        ..replica.batch([report(&name, 1, 1)])
    };
    // The replica has read the change, but its batch does not complete its evidence.
    assert_eq!(answered(&having_seen(&other, end, 0)).await, 0);
    assert_eq!(answered(&having_seen(&other, before, before.version)).await, 0);
    // What it has seen of a group that was deleted since says nothing.
    let elsewhere = Cursor { epoch: end.epoch - 1, ..end };
    assert_eq!(answered(&having_seen(&other, elsewhere, end.version)).await, 0);

    let batch = having_seen(&other, end, end.version);
    assert_eq!(answered(&batch).await, 1, "the batch itself counts");
    assert_eq!(answered(&batch).await, 1);
    assert_eq!(answered(&having_seen(&other, end, 0)).await, 1);
    assert_eq!(answered(&having_seen(&one, end, end.version)).await, 2);
    // Each start answers: a replica that has restarted knows nothing of what it had counted.
    assert_eq!(answered(&having_seen(&other.restarted(), end, end.version)).await, 3);

    // Another roll call begins with no answer.
    let id = one.load(&name).await.suspect.unwrap().id;
    assert_eq!(one.call_roll(&name, id).await.unwrap().answered, 0);
}

pub(super) async fn no_batch_answers_a_roll_call_before_it_is_called(world: impl World) {
    let ((one, other), names) = (world.replicas(), names(2));
    one.call_roll(&names[0], 0).await.unwrap();
    let since = other.end(Group::of(&names[0])).await;
    let seen = since.version + 3_600_000;
    let batch = Batch { since, seen, ..other.batch([report(&names[0], 1, 1)]) };
    assert_eq!(other.send(&batch).await.suspect.unwrap().answered, 1);
    assert_eq!(one.call_roll(&names[1], 0).await.unwrap().answered, 0);
}

pub(super) async fn an_answer_to_one_roll_call_answers_all_before_it(world: impl World) {
    let ((one, other), names) = (world.replicas(), names(2));
    let group = Group::of(&names[0]);
    for name in &names {
        one.call_roll(name, 0).await.unwrap();
    }
    let since = other.end(group).await;
    let batch = Batch { since, seen: since.version, ..other.batch([]) };
    other.sync(group, &batch).await.unwrap();
    for name in &names {
        assert_eq!(one.load(name).await.suspect.unwrap().answered, 1);
    }
}

pub(super) async fn quiet_ends_a_roll_call_that_is_known(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let roll = one.call_roll(&name, 0).await.unwrap();
    for unknown in [0, roll.id - 1, roll.id + 1] {
        assert_eq!(other.quiet(&name, unknown).await.suspect.map(|roll| roll.id), Some(roll.id));
    }
    let suspect = one.load(&name).await;
    let quiet = other.quiet(&name, roll.id).await;
    assert_eq!(quiet.suspect, None);
    assert!(quiet.revision > suspect.revision);
    let again = other.quiet(&name, roll.id).await;
    assert_eq!(again.revision, quiet.revision);
    // A replica that has started since knows of no roll call.
    assert!(one.restarted().call_roll(&name, 0).await.unwrap().id > roll.id);
}

pub(super) async fn a_transition_ends_a_roll_call(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    one.call_roll(&name, 0).await.unwrap();
    assert_eq!(one.transition(&name, 1, &open(TERMS)).await.unwrap().suspect, None);
    assert_eq!(other.call_roll(&name, 0).await, None);
}

pub(super) async fn failures_up_to_the_roll_call_are_counted_apart_from_later_ones(
    world: impl World,
) {
    let ((one, other), name) = (world.replicas(), name());
    let attention = Some(Attention::RollCall { after: 0 });
    one.report(&streak(&name, s(30), 1)).await;
    let roll = one.report(&Report { attention, ..streak(&name, ms(1), 2) }).await.suspect.unwrap();
    assert_eq!(roll.consecutive_failures, 3);
    world.wait(ms(50)).await;
    // Of these, some happened before the roll call and arrive later.
    other.report(&streak(&name, s(10), 10)).await;
    let view = other.report(&streak(&name, Duration::ZERO, 100)).await;
    let roll = view.suspect.unwrap();
    assert_eq!((roll.consecutive_failures, view.tally.consecutive_failures), (13, 113));
    assert!(roll.age >= ms(45), "{roll:?}");
    let view = one.report(&success(&name, s(20))).await;
    let roll = view.suspect.unwrap();
    assert_eq!((roll.consecutive_failures, view.tally.consecutive_failures), (12, 112));
}

pub(super) async fn failures_up_to_the_first_answer_count_with_the_roll_call(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let group = Group::of(&name);
    one.report(&streak(&name, s(1), 1)).await;
    one.call_roll(&name, 0).await.unwrap();
    let since = one.end(group).await;
    let answer =
        |replica: &Replica, report| Batch { since, seen: since.version, ..replica.batch([report]) };
    world.wait(ms(50)).await;
    let first = answer(&one, streak(&name, Duration::ZERO, 10));
    assert_eq!(one.send(&first).await.suspect.unwrap().consecutive_failures, 11);
    world.wait(ms(50)).await;
    // Of these, some happened before the first answer.
    let second = answer(&other, streak(&name, ms(30), 100));
    assert_eq!(other.send(&second).await.suspect.unwrap().consecutive_failures, 11);
    let late = other.report(&streak(&name, ms(70), 1000)).await.suspect.unwrap();
    assert_eq!((late.answered, late.consecutive_failures), (2, 1011));
    // Another roll call begins anew.
    one.call_roll(&name, late.id).await.unwrap();
    world.wait(ms(50)).await;
    let roll = one.report(&streak(&name, Duration::ZERO, 1)).await.suspect.unwrap();
    assert_eq!((roll.answered, roll.consecutive_failures), (0, 1111));
}
