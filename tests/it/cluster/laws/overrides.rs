//! Overrides: how long they last, and which one wins.

use tower_breaker::backend::{RecordState, View};
use tower_breaker::event::Reason;
use tower_breaker::overrides::OverrideRecord;

use super::World;
use super::fixtures::{name, override_record};
use crate::support::{ms, s};

pub(super) async fn an_override_expires_and_its_end_starts_a_generation(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let first = one.set_override(&name, Some(&override_record(None))).await.unwrap();
    assert_eq!(first.overridden.record, Some(override_record(None)));
    assert_eq!((first.generation, first.revision), (View::FIRST, 0));

    let second = other.set_override(&name, Some(&override_record(Some(ms(80))))).await.unwrap();
    assert!(second.overridden.version > first.overridden.version);
    assert!(second.overridden.record.unwrap().remaining.unwrap() <= ms(80));
    world.wait(ms(80)).await;
    let over = one.load(&name).await.unwrap();
    assert_eq!(
        (over.overridden.version, over.overridden.record),
        (second.overridden.version, None)
    );

    let ended = one.set_override(&name, None).await.unwrap();
    assert!(
        ended.overridden.version > second.overridden.version && ended.overridden.record.is_none()
    );
    assert!(ended.generation > View::FIRST);
    assert_eq!((ended.state, ended.reason), (RecordState::Closed, Some(Reason::Override)));
}

pub(super) async fn an_override_outlives_the_record_and_the_newest_version_wins(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let old = one.set_override(&name, Some(&override_record(Some(s(60))))).await.unwrap();
    let new = one
        .set_override(&name, Some(&OverrideRecord { actor: None, ..override_record(None) }))
        .await
        .unwrap();
    world.forget().await;
    assert_eq!(
        other.restore(&name, &old).await.unwrap().overridden.version,
        old.overridden.version
    );
    assert_eq!(one.restore(&name, &new).await.unwrap().overridden, new.overridden);
    assert_eq!(other.restore(&name, &old).await.unwrap().overridden, new.overridden);
}
