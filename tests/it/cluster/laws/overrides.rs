//! Overrides: how long they last, what their end leaves, and which one wins.

use tower_breaker::backend::OverrideChange::{Clear, Reset, Set};
use tower_breaker::backend::{OpenTerms, RecordState, View};
use tower_breaker::event::Reason;
use tower_breaker::overrides::OverrideRecord;

use super::World;
use super::fixtures::{EXPIRED, TERMS, name, open, override_record};
use crate::support::{ms, s};

pub(super) async fn an_override_lasts_until_it_expires_or_is_replaced(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let first = one.set_override(&name, &Set(override_record(None))).await.unwrap();
    assert_eq!(first.overridden.record, Some(override_record(None)));
    assert_eq!((first.generation, first.revision), (View::FIRST, 0));

    let short = Set(override_record(Some(ms(300))));
    let second = other.set_override(&name, &short).await.unwrap();
    assert!(second.overridden.version > first.overridden.version);
    assert!(second.overridden.record.unwrap().remaining.unwrap() <= ms(300));
    world.wait(ms(300)).await;
    let over = one.load(&name).await;
    assert_eq!(
        (over.overridden.version, over.overridden.record),
        (second.overridden.version, None)
    );
}

pub(super) async fn clearing_an_override_leaves_the_record(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..TERMS };
    let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
    let set = one.set_override(&name, &Set(override_record(None))).await.unwrap();
    let cleared = other.set_override(&name, &Clear).await.unwrap();
    assert!(cleared.overridden.version > set.overridden.version);
    assert_eq!(cleared.overridden.record, None);
    for view in [&set, &cleared] {
        assert_eq!((view.generation, view.revision), (opened.generation, opened.revision));
        assert!(matches!(view.state, RecordState::Open { .. }));
    }
}

pub(super) async fn a_reset_clears_the_override_and_closes_the_circuit(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..TERMS };
    let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
    let set = one.set_override(&name, &Set(override_record(None))).await.unwrap();
    let reset = other.set_override(&name, &Reset).await.unwrap();
    assert!(reset.overridden.version > set.overridden.version);
    assert_eq!(reset.overridden.record, None);
    assert!(reset.generation > opened.generation);
    assert_eq!((reset.state, reset.reason), (RecordState::Closed, Some(Reason::Override)));
    // It begins a generation whatever was before.
    let again = other.set_override(&name, &Reset).await.unwrap();
    assert!(again.generation > reset.generation);
    // And it does not expire before the interval that it ended would have.
    world.wait(EXPIRED).await;
    assert_eq!(one.load(&name).await.generation, again.generation);
}

pub(super) async fn an_override_outlives_the_record_and_the_newest_version_wins(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let old = one.set_override(&name, &Set(override_record(Some(s(60))))).await.unwrap();
    let newer = OverrideRecord { actor: None, ..override_record(None) };
    let new = one.set_override(&name, &Set(newer)).await.unwrap();
    world.forget().await;
    assert_eq!(
        other.restore(&name, &old).await.unwrap().overridden.version,
        old.overridden.version
    );
    assert_eq!(one.restore(&name, &new).await.unwrap().overridden, new.overridden);
    assert_eq!(other.restore(&name, &old).await.unwrap().overridden, new.overridden);
}
