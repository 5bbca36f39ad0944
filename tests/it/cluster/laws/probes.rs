//! Probes: who may make one, for how long, and what their results do.

use tower_breaker::backend::{Lease, OpenTerms, Probed, RecordState};
use tower_breaker::event::{Reason, Tally};

use super::World;
use super::fixtures::{TERMS, failed, name, open_until_due, probe};
use crate::support::{ms, s};

pub(super) async fn leases_are_limited_and_the_same_nonce_gets_the_same_lease(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = open_until_due(&world, &one, &name, TERMS).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let second = probe(&*other, &name, first.generation, u64::MAX).await;
    let (third, view) = other.acquire_probe(&name, first.generation, 3).await.unwrap();
    assert_eq!(third, None);
    let RecordState::HalfOpen { out, next_expiry, passed, .. } = view.state else { panic!() };
    assert_eq!((out, passed, first.generation), (2, 0, second.generation));
    assert!(next_expiry.unwrap() <= TERMS.lease);
    // Also with the generation of its first request.
    for generation in [opened.generation, first.generation] {
        let again = probe(&*one, &name, generation, 1).await;
        assert_eq!((again.generation, again.nonce), (first.generation, 1));
        assert!(again.remaining <= first.remaining);
    }
}

pub(super) async fn an_unsettled_lease_frees_its_slot_when_it_expires(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { probes: 1, lease: ms(100), ..TERMS };
    let opened = open_until_due(&world, &one, &name, terms).await;
    let lease = probe(&*one, &name, opened.generation, 1).await;
    world.wait(ms(100)).await;
    let before = other.load(&name).await;
    assert!(matches!(before.state, RecordState::HalfOpen { out: 0, next_expiry: None, .. }));
    // A late result changes nothing, and does not revive the lease.
    for late in [Probed::Passed, Probed::Released] {
        assert_eq!(one.settle_probe(&name, lease, &late).await.unwrap(), before);
    }
    let next = probe(&*other, &name, lease.generation, 2).await;
    assert_eq!(next.generation, lease.generation);
}

pub(super) async fn a_failed_probe_ends_its_round(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened =
        open_until_due(&world, &one, &name, OpenTerms { successes_to_close: 1, ..TERMS }).await;
    let failing = probe(&*one, &name, opened.generation, 1).await;
    let succeeding = probe(&*other, &name, failing.generation, 2).await;

    let longer = OpenTerms { interval: s(60), reopenings: 1, ..TERMS };
    let view = one.settle_probe(&name, failing, &failed(longer)).await.unwrap();
    assert!(view.generation > failing.generation);
    assert_eq!(view.reason, Some(Reason::ProbeFailed));
    let late = other.settle_probe(&name, succeeding, &Probed::Passed).await.unwrap();
    assert_eq!(late.generation, view.generation);
    assert!(matches!(late.state, RecordState::Open { terms, .. } if terms == longer));
}

pub(super) async fn a_failed_probe_ends_its_round_even_if_its_lease_has_expired(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { lease: ms(100), ..TERMS };
    let opened = open_until_due(&world, &one, &name, terms).await;
    let failing = probe(&*one, &name, opened.generation, 1).await;
    world.wait(ms(100)).await;
    // A probe of another round changes nothing.
    let stale = Lease { generation: opened.generation, ..failing };
    let view = one.settle_probe(&name, stale, &failed(TERMS)).await.unwrap();
    assert_eq!(view.generation, failing.generation);
    let view = one.settle_probe(&name, failing, &failed(TERMS)).await.unwrap();
    assert!(view.generation > failing.generation);
    assert_eq!(view.reason, Some(Reason::ProbeFailed));
    assert!(matches!(view.state, RecordState::Open { .. }));
    assert_eq!(other.load(&name).await.generation, view.generation);
}

pub(super) async fn enough_successful_probes_close_the_circuit(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = open_until_due(&world, &one, &name, TERMS).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let half = one.settle_probe(&name, first, &Probed::Passed).await.unwrap();
    assert!(matches!(half.state, RecordState::HalfOpen { passed: 1, out: 0, .. }));
    // A lease can be settled once.
    assert_eq!(one.settle_probe(&name, first, &Probed::Passed).await.unwrap(), half);
    let second = probe(&*other, &name, first.generation, 2).await;
    let closed = other.settle_probe(&name, second, &Probed::Passed).await.unwrap();
    assert_eq!((closed.state, closed.reason), (RecordState::Closed, Some(Reason::ProbesSucceeded)));
    assert!(closed.generation > first.generation);
    assert_eq!(closed.tally, Tally::default());
}

pub(super) async fn a_released_probe_frees_its_slot_and_is_not_counted(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let terms = OpenTerms { probes: 1, successes_to_close: 1, ..TERMS };
    let opened = open_until_due(&world, &one, &name, terms).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let view = one.settle_probe(&name, first, &Probed::Released).await.unwrap();
    assert!(matches!(view.state, RecordState::HalfOpen { passed: 0, out: 0, .. }));
    let next = probe(&*one, &name, first.generation, 2).await;
    assert_eq!(next.generation, first.generation);
}
