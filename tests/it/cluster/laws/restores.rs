//! Restores: a backend without records takes over what a replica knows.

use tower_breaker::backend::{Group, OpenTerms, OverrideChange, RecordState, View};

use super::World;
use super::fixtures::{TERMS, failed, name, open, open_until_due, probe};
use crate::support::s;

pub(super) async fn an_emptied_backend_takes_a_restored_view(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..TERMS };
    let view = one.transition(&name, 1, &open(terms)).await.unwrap();
    // The backend has this view already.
    assert_eq!(one.restore(&name, &view).await.unwrap().revision, view.revision);
    world.forget().await;
    assert_eq!(other.load(&name).await, View::default());
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!((restored.generation, restored.reason), (view.generation, view.reason));
    assert_eq!(restored.tally, view.tally);
    assert!(restored.revision > view.revision);
    assert!(matches!(restored.state, RecordState::Open { .. }));
    // An older view changes nothing.
    let older = one.restore(&name, &View::default()).await.unwrap();
    assert_eq!((older.generation, older.revision), (restored.generation, restored.revision));
}

pub(super) async fn a_half_open_record_is_restored_as_open_with_its_interval_over(
    world: impl World,
) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = open_until_due(&world, &one, &name, TERMS).await;
    let lease = probe(&*one, &name, opened.generation, 1).await;
    let view = one.load(&name).await;
    world.forget().await;
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!(restored.generation, view.generation);
    assert!(
        matches!(restored.state, RecordState::Open { remaining, .. } if remaining.is_zero()),
        "{restored:?}"
    );
    let next = probe(&*other, &name, restored.generation, 2).await;
    assert!(next.generation > lease.generation);
    let late = one.settle_probe(&name, lease, &failed(TERMS)).await.unwrap();
    assert_eq!(late.generation, next.generation);
}

pub(super) async fn a_restored_interval_is_not_longer_than_its_terms(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut view = View::default();
    view.generation = 77;
    view.state = RecordState::Open { terms: TERMS, remaining: s(3_600) };
    let restored = one.restore(&name, &view).await.unwrap();
    let RecordState::Open { remaining, .. } = restored.state else { panic!("{restored:?}") };
    assert!(remaining <= TERMS.interval);
    world.wait(TERMS.interval).await;
    probe(&*one, &name, 77, 1).await;
}

pub(super) async fn a_view_from_a_day_ahead_is_refused(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let now = one.set_override(&name, &OverrideChange::Reset).await.unwrap();
    let day = 24 * 3_600_000;
    for ahead in [now.generation + 2 * day, u64::MAX] {
        let mut view = View::default();
        view.generation = ahead;
        assert!(!one.restore(&name, &view).await.unwrap_err().is_unavailable());
        let mut view = View::default();
        view.overridden.version = ahead;
        assert!(!one.restore(&name, &view).await.unwrap_err().is_unavailable());
    }
    assert_eq!(other.load(&name).await, now);
    let mut view = View::default();
    view.generation = now.generation + day / 2;
    assert_eq!(one.restore(&name, &view).await.unwrap().generation, view.generation);
}

pub(super) async fn a_restore_that_changes_nothing_is_not_published(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..TERMS };
    let view = one.transition(&name, 1, &open(terms)).await.unwrap();
    let end = other.end(Group::of(&name)).await;
    one.restore(&name, &view).await.unwrap();
    assert_eq!(other.end(Group::of(&name)).await, end);
}
