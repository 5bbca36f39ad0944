//! Records and their generations: what creates one, what changes it, and which change wins.

use std::time::Duration;

use tower_breaker::backend::{Lease, Move, OpenTerms, Probed, RecordState, View};
use tower_breaker::event::Reason;

use super::World;
use super::fixtures::{
    TERMS, name, next_view, open, open_until_due, override_record, probe, report,
};
use crate::support::{ms, s};

pub(super) async fn an_absent_record_is_closed_and_only_a_report_creates_it(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    assert_eq!(one.load(&name).await.unwrap(), View::default());
    let (lease, view) = one.acquire_probe(&name, View::FIRST, 1).await.unwrap();
    assert_eq!((lease, view), (None, View::default()));
    assert_eq!(one.report(&name, &report("a", 0, 1, 2)).await.unwrap(), View::default());
    assert_eq!(one.report(&name, &report("a", 1, 7, 2)).await.unwrap(), View::default());
    let lease = Lease { generation: 1, nonce: 1, remaining: s(1) };
    assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), View::default());

    let view = one.report(&name, &report("a", 1, 1, 2)).await.unwrap();
    assert_eq!((view.generation, view.tally.failures), (View::FIRST, 2));
    assert!(other.load(&name).await.unwrap().revision > 0);
}

pub(super) async fn the_loser_of_two_transitions_gets_the_view_of_the_winner(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let winner = open(OpenTerms { interval: s(60), ..TERMS });
    let loser = Move::Closed { reason: Reason::Override };
    let won = one.transition(&name, 1, &winner).await.unwrap();
    let second = other.transition(&name, 1, &loser).await.unwrap();
    assert_eq!((won.generation, won.revision), (second.generation, second.revision));
    assert_eq!(second.reason, Some(Reason::FailureRate));
    assert_eq!(won.tally.consecutive_failures, 3);
    assert!(matches!(second.state, RecordState::Open { terms, .. } if terms.probes == 2));
}

pub(super) async fn a_circuit_is_open_for_as_long_as_the_backend_says(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: ms(300), ..TERMS };
    let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
    for replica in [&one, &other] {
        let (lease, view) = replica.acquire_probe(&name, opened.generation, 1).await.unwrap();
        assert_eq!(lease, None);
        let RecordState::Open { remaining, .. } = view.state else { panic!("{view:?}") };
        assert!(remaining <= ms(300) && remaining > Duration::ZERO);
    }
    world.wait(ms(300)).await;
    let view = other.load(&name).await.unwrap();
    assert_eq!(view.state, RecordState::Open { terms, remaining: Duration::ZERO });
    let lease = probe(&*other, &name, opened.generation, 1).await;
    assert!(lease.generation > opened.generation);
}

pub(super) async fn an_operation_of_another_generation_changes_nothing(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    one.report(&name, &report("a", 1, 1, 3)).await.unwrap();
    let closed = Move::Closed { reason: Reason::Override };
    let now = one.transition(&name, 1, &closed).await.unwrap();
    for old in [0, 1, now.generation - 1, now.generation + 1] {
        let view = one.report(&name, &report("a", 9, old, 3)).await.unwrap();
        assert_eq!(view, now);
        assert_eq!(one.transition(&name, old, &open(TERMS)).await.unwrap(), now);
        let (lease, view) = one.acquire_probe(&name, old, 1).await.unwrap();
        assert_eq!((lease, view), (None, now.clone()));
        let lease = Lease { generation: old, nonce: 1, remaining: s(1) };
        assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), now);
    }
}

pub(super) async fn generations_grow_even_after_the_record_was_deleted(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut last = 1;
    for _ in 0..5 {
        let now = one.load(&name).await.unwrap().generation;
        let view = one.transition(&name, now, &open(TERMS)).await.unwrap();
        assert!(view.generation > last);
        last = view.generation;
    }
    // Several generations in one millisecond may be ahead of the time.
    world.wait(ms(10)).await;
    world.forget().await;
    let view = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    assert!(view.generation > last);
}

pub(super) async fn every_subscriber_receives_every_change(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let (mut here, mut there) = (one.subscribe(), other.subscribe());
    let opened = open_until_due(&world, &*one, &name, TERMS).await;
    for notices in [&mut here, &mut there] {
        assert_eq!(next_view(notices, &name).await.generation, opened.generation);
    }
    let lease = probe(&*other, &name, opened.generation, 1).await;
    for notices in [&mut here, &mut there] {
        assert_eq!(next_view(notices, &name).await.generation, lease.generation);
    }
    let released = one.settle_probe(&name, lease, &Probed::Released).await.unwrap();
    for notices in [&mut here, &mut there] {
        assert_eq!(next_view(notices, &name).await, released);
    }
    let record = override_record(None);
    one.set_override(&name, Some(&record)).await.unwrap();
    assert_eq!(next_view(&mut there, &name).await.overridden.record, Some(record));
}
