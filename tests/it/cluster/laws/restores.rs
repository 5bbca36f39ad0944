//! Restores: a backend without records takes over what a replica knows.

use tower_breaker::backend::{OpenTerms, RecordState, View};

use super::World;
use super::fixtures::{OPENING, failed, name, open, probe, ripe};
use crate::support::s;

pub(super) async fn a_ledger_that_has_forgotten_is_told(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..OPENING };
    let view = one.transition(&name, 1, &open(terms)).await.unwrap();
    // It knows that already.
    assert_eq!(one.restore(&name, &view).await.unwrap().revision, view.revision);
    world.forget().await;
    assert_eq!(other.load(&name).await.unwrap(), View::default());
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!((restored.generation, restored.reason), (view.generation, view.reason));
    assert_eq!(restored.tally, view.tally);
    assert!(restored.revision > view.revision);
    assert!(matches!(restored.state, RecordState::Open { .. }));
    // Whoever knows less changes nothing.
    let older = one.restore(&name, &View::default()).await.unwrap();
    assert_eq!((older.generation, older.revision), (restored.generation, restored.revision));
}

pub(super) async fn what_is_half_open_is_restored_as_open_and_over(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = ripe(&world, &*one, &name, OPENING).await;
    let lease = probe(&*one, &name, opened.generation, 1).await;
    let view = one.load(&name).await.unwrap();
    world.forget().await;
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!(restored.generation, view.generation);
    assert!(
        matches!(restored.state, RecordState::Open { remaining, .. } if remaining.is_zero()),
        "{restored:?}"
    );
    let next = probe(&*other, &name, restored.generation, 2).await;
    assert!(next.generation > lease.generation);
    let late = one.settle_probe(&name, lease, &failed(OPENING)).await.unwrap();
    assert_eq!(late.generation, next.generation);
}

pub(super) async fn a_restored_interval_is_not_longer_than_it_was(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut view = View::default();
    view.generation = 77;
    view.state = RecordState::Open { terms: OPENING, remaining: s(3_600) };
    let restored = one.restore(&name, &view).await.unwrap();
    let RecordState::Open { remaining, .. } = restored.state else { panic!("{restored:?}") };
    assert!(remaining <= OPENING.interval);
    world.wait(OPENING.interval).await;
    probe(&*one, &name, 77, 1).await;
}
