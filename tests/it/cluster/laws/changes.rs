//! Changes: every one is versioned, published, and returned by the next sync.

use tower_breaker::CircuitName;
use tower_breaker::backend::{Attention, Cursor, Group, OverrideChange, Probed, Report, View};

use super::World;
use super::fixtures::{
    EXPIRED, Replica, SHORT, TERMS, name, names, next_change, of, open, open_until_due,
    override_record, probe, report,
};
use crate::support::ms;

pub(super) async fn every_subscriber_receives_every_change(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let (mut here, mut there) = (one.subscribe(), other.subscribe());
    let opened = open_until_due(&world, &one, &name, TERMS).await;
    let mut last = 0;
    for notices in [&mut here, &mut there] {
        let (view, previous, version) = next_change(notices, &name).await;
        assert_eq!(view.generation, opened.generation);
        assert!(version > previous);
        last = version;
    }
    let lease = probe(&*other, &name, opened.generation, 1).await;
    for notices in [&mut here, &mut there] {
        let (view, previous, _) = next_change(notices, &name).await;
        assert_eq!((view.generation, previous), (lease.generation, last));
    }
    let released = one.settle_probe(&name, lease, &Probed::Released).await.unwrap();
    for notices in [&mut here, &mut there] {
        assert_eq!(next_change(notices, &name).await.0, released);
    }
    let record = override_record(None);
    one.set_override(&name, &OverrideChange::Set(record.clone())).await.unwrap();
    assert_eq!(next_change(&mut there, &name).await.0.overridden.record, Some(record));
    let cleared = one.set_override(&name, &OverrideChange::Clear).await.unwrap();
    assert_eq!(next_change(&mut there, &name).await.0, cleared);
}

pub(super) async fn roll_calls_and_quiet_are_published(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let mut notices = other.subscribe();
    let roll = one.call_roll(&name, 0).await.unwrap();
    let (view, _, version) = next_change(&mut notices, &name).await;
    assert_eq!(view.suspect.unwrap().id, roll.id);
    one.quiet(&name, roll.id).await;
    let (view, previous, _) = next_change(&mut notices, &name).await;
    assert_eq!((view.suspect, previous), (None, version));
}

pub(super) async fn a_sync_returns_every_change_after_its_cursor(world: impl World) {
    let ((one, other), names) = (world.replicas(), names(4));
    let group = Group::of(&names[0]);
    let begin = other.changes(group, Cursor::default()).await;
    assert!(begin.restarted && of(&begin, &names).is_empty());
    // Evidence is no change.
    one.report(&report(&names[0], 1, 1)).await;
    let mut since = other.end(group).await;
    let quiet = other.changes(group, since).await;
    assert_eq!((quiet.restarted, quiet.more, quiet.cursor), (false, false, since));
    assert_eq!(quiet.views, []);

    one.transition(&names[1], 1, &open(TERMS)).await.unwrap();
    one.call_roll(&names[0], 0).await.unwrap();
    one.set_override(&names[2], &OverrideChange::Reset).await.unwrap();
    for n in 0..2 {
        let changes = other.changes(group, since).await;
        assert!(!changes.restarted);
        assert_eq!(of(&changes, &names), [&names[1], &names[0], &names[2]], "{n}");
    }
    since = other.changes(group, since).await.cursor;
    assert_eq!(other.changes(group, since).await.views, []);
    // A circuit that has changed again is returned as it is now, once.
    one.quiet(&names[0], other.load(&names[0]).await.suspect.unwrap().id).await;
    one.call_roll(&names[0], 0).await.unwrap();
    let changes = other.changes(group, since).await;
    assert_eq!(of(&changes, &names), [&names[0]]);
    assert!(changes.views[0].1.suspect.is_some());
}

pub(super) async fn after_a_loss_a_sync_returns_all_that_there_is(world: impl World) {
    let ((one, other), names) = (world.replicas(), names(2));
    let group = Group::of(&names[0]);
    let view = one.transition(&names[0], 1, &open(TERMS)).await.unwrap();
    one.transition(&names[1], 1, &open(TERMS)).await.unwrap();
    let since = other.end(group).await;
    world.forget().await;
    one.restore(&names[0], &view).await.unwrap();
    let changes = other.changes(group, since).await;
    assert!(changes.restarted && changes.cursor.epoch != since.epoch);
    assert_eq!(of(&changes, &names), [&names[0]]);
    // So does a cursor that is ahead of the backend, which may have an older copy of its data.
    let ahead = Cursor { version: changes.cursor.version + 1, ..changes.cursor };
    let changes = other.changes(group, ahead).await;
    assert!(changes.restarted);
    assert_eq!(of(&changes, &names), [&names[0]]);
}

pub(super) async fn the_circuits_of_a_batch_are_returned_unchanged_too(world: impl World) {
    let ((one, other), names) = (world.replicas(), names(3));
    let group = Group::of(&names[0]);
    one.transition(&names[0], 1, &open(TERMS)).await.unwrap();
    let since = other.end(group).await;
    let mut batch = other.batch([report(&names[1], 1, 2)]);
    (batch.since, batch.circuits) = (since, names.clone());
    let changes = other.sync(group, &batch).await.unwrap();
    let view = |n: usize| &changes.views.iter().find(|(name, _)| *name == names[n]).unwrap().1;
    assert_eq!(changes.views.len(), 3);
    assert!(view(0).generation > View::FIRST);
    assert_eq!(view(1).tally.failures, 2);
    assert_eq!(*view(2), View::default());
}

pub(super) async fn a_cursor_older_than_what_has_vanished_begins_again(world: impl World) {
    world.forget().await;
    let ((one, other), names) = (world.replicas(), names(2));
    let group = Group::of(&names[0]);
    one.transition(&names[0], 1, &open(TERMS)).await.unwrap();
    let before = other.end(group).await;
    vanish(&world, &one, &names[1], before).await;
    let changes = other.changes(group, before).await;
    assert!(changes.restarted);
    assert_eq!(of(&changes, &names), [&names[0]]);
    assert!(!other.changes(group, changes.cursor).await.restarted);
}

pub(super) async fn many_changes_come_in_pages(world: impl World) {
    world.forget().await;
    let ((one, other), names) = (world.replicas(), names(302));
    let group = Group::of(&names[0]);
    let [open_ones @ .., vanishing, later] = &names[..] else { unreachable!() };
    for name in open_ones {
        one.transition(name, 1, &open(TERMS)).await.unwrap();
    }
    read_in_pages(&other, open_ones, 256).await;
    // Also where the first page ends before a circuit that is gone.
    let end = other.end(group).await;
    vanish(&world, &one, vanishing, end).await;
    read_in_pages(&other, open_ones, open_ones.len()).await;
    // Also where the first page ends there, and there is another one.
    one.transition(later, 1, &open(TERMS)).await.unwrap();
    let all = [open_ones, std::slice::from_ref(later)].concat();
    read_in_pages(&other, &all, open_ones.len()).await;
}

/// Reads from the beginning: each circuit once, in order.
async fn read_in_pages(replica: &Replica, names: &[CircuitName], most: usize) {
    let group = Group::of(&names[0]);
    let mut changes = replica.changes(group, Cursor::default()).await;
    assert!(changes.restarted && changes.views.len() <= most);
    let mut read = of(&changes, names).into_iter().cloned().collect::<Vec<_>>();
    while changes.more {
        changes = replica.changes(group, changes.cursor).await;
        assert!(!changes.restarted && changes.views.len() <= most);
        read.extend(of(&changes, names).into_iter().cloned());
    }
    assert_eq!(read, names);
}

/// Lets a circuit change and vanish, until a cursor before that is too old.
async fn vanish(world: &impl World, replica: &Replica, name: &CircuitName, before: Cursor) {
    let attention = Some(Attention::RollCall { after: 0 });
    let short = Report { window: Some(SHORT), attention, ..report(name, 1, 1) };
    assert!(replica.report(&short).await.suspect.is_some());
    world.wait(EXPIRED).await;
    // A sync looks at a few circuits only.
    for _ in 0..5_000 {
        if replica.changes(Group::of(name), before).await.restarted {
            return;
        }
        world.wait(ms(1)).await;
    }
    panic!("{name} stays in the index");
}
