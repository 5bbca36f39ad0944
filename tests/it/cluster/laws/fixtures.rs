//! Terms, reports and probes for the laws.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, Delta, Geometry, Lease, Move, Notice, OpenTerms, Probed, Report, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use super::World;
use crate::support::{ms, s};

pub(super) fn name() -> CircuitName {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    CircuitName::new(format!("circuit {}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap()
}

pub(super) const TERMS: OpenTerms =
    OpenTerms { interval: ms(40), reopenings: 0, probes: 2, lease: s(60), successes_to_close: 2 };

pub(super) const WINDOW: Geometry = Geometry { millis: 3_600_000, buckets: 10 };

pub(super) fn open(terms: OpenTerms) -> Move {
    let tally =
        Tally { calls: 9, failures: 8, slow_calls: 1, consecutive_failures: 3, ..Tally::default() };
    Move::Open { terms, reason: Reason::FailureRate, tally }
}

pub(super) fn report(replica: &str, seq: u64, generation: u64, failures: u64) -> Report {
    let delta = Delta { calls: failures, failures, streak: failures, ..Delta::default() };
    Report {
        replica: replica.to_owned(),
        seq,
        generation,
        delta,
        window: Some(WINDOW),
        vote: None,
        shares: false,
    }
}

pub(super) fn failed(terms: OpenTerms) -> Probed {
    Probed::Failed { terms, reason: Reason::ProbeFailed }
}

/// Opens the circuit, and waits until a probe is due.
pub(super) async fn open_until_due(
    world: &impl World,
    backend: &dyn Backend,
    name: &CircuitName,
    terms: OpenTerms,
) -> View {
    let from = backend.load(name).await.unwrap().generation;
    let view = backend.transition(name, from, &open(terms)).await.unwrap();
    world.wait(terms.interval).await;
    view
}

pub(super) async fn probe(
    backend: &dyn Backend,
    name: &CircuitName,
    generation: u64,
    nonce: u64,
) -> Lease {
    let (lease, view) = backend.acquire_probe(name, generation, nonce).await.unwrap();
    lease.unwrap_or_else(|| panic!("no lease: {view:?}"))
}

pub(super) async fn next_view(notices: &mut Receiver<Notice>, name: &CircuitName) -> View {
    let next = async {
        loop {
            if let Notice::View(about, view) = notices.recv().await.unwrap()
                && about == *name
            {
                return view;
            }
        }
    };
    *tokio::time::timeout(s(20), next).await.expect("a notice")
}

pub(super) fn override_record(remaining: Option<Duration>) -> OverrideRecord {
    OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: "a \"reason\"\nof two lines, with ü".to_owned(),
        actor: Some("me".to_owned()),
        remaining,
    }
}
