//! Replicas, reports, terms and probes for the laws.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Attention, Backend, Batch, Changes, Count, Cursor, Failures, Geometry, Group, Heartbeat, Lease,
    Move, Notice, OpenTerms, Probed, Report, Roll, Sender, Shares, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use super::World;
use crate::support::{ms, s};

/// One start of a replica: it signs and numbers what it sends.
pub(super) struct Replica {
    backend: Arc<dyn Backend>,
    pub(super) sender: Sender,
    seq: Cell<u64>,
}

impl Deref for Replica {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

impl Replica {
    pub(super) fn new(backend: Arc<dyn Backend>, name: &str) -> Self {
        let id = format!("{name} {}", number());
        Self { backend, sender: Sender { name: name.to_owned(), id }, seq: Cell::new(0) }
    }

    /// Another replica on the same connection.
    pub(super) fn named(&self, name: &str) -> Self {
        Self::new(self.backend.clone(), name)
    }

    /// Another start of the same replica.
    pub(super) fn restarted(&self) -> Self {
        self.named(&self.sender.name)
    }

    /// The next batch.
    pub(super) fn batch(&self, reports: impl Into<Vec<Report>>) -> Batch {
        self.seq.set(self.seq.get() + 1);
        Batch {
            sender: self.sender.clone(),
            seq: self.seq.get(),
            since: Cursor::default(),
            seen: 0,
            reports: reports.into(),
            circuits: Vec::new(),
        }
    }

    pub(super) async fn load(&self, circuit: &CircuitName) -> View {
        let batch = Batch { circuits: vec![circuit.clone()], ..self.batch([]) };
        view(self.backend.sync(Group::of(circuit), &batch).await.unwrap(), circuit)
    }

    pub(super) async fn report(&self, report: &Report) -> View {
        self.send(&self.batch([report.clone()])).await
    }

    /// Sends a batch of one report, perhaps again.
    pub(super) async fn send(&self, batch: &Batch) -> View {
        let circuit = &batch.reports[0].circuit;
        view(self.backend.sync(Group::of(circuit), batch).await.unwrap(), circuit)
    }

    pub(super) async fn changes(&self, group: Group, since: Cursor) -> Changes {
        let batch = Batch { since, ..self.batch([]) };
        self.backend.sync(group, &batch).await.unwrap()
    }

    /// Returns where the changes of a group end.
    pub(super) async fn end(&self, group: Group) -> Cursor {
        let mut changes = self.changes(group, Cursor::default()).await;
        while changes.more {
            changes = self.changes(group, changes.cursor).await;
        }
        changes.cursor
    }

    pub(super) async fn call_roll(&self, circuit: &CircuitName, after: u64) -> Option<Roll> {
        let attention = Some(Attention::RollCall { after });
        self.report(&Report { attention, ..report(circuit, 1, 0) }).await.suspect
    }

    pub(super) async fn quiet(&self, circuit: &CircuitName, after: u64) -> View {
        let attention = Some(Attention::Quiet { after });
        self.report(&Report { attention, ..report(circuit, 1, 0) }).await
    }

    pub(super) fn beat(&self) -> Heartbeat {
        let version = "1.2.3".to_owned();
        Heartbeat { sender: self.sender.clone(), version, impaired: String::new(), seen: 0 }
    }

    pub(super) async fn live(&self) -> u64 {
        self.heartbeat(&self.beat()).await.unwrap().live
    }
}

fn view(changes: Changes, circuit: &CircuitName) -> View {
    let mut views = changes.views.into_iter().filter(|(name, _)| name == circuit);
    let (_, view) = views.next().expect("a view of a circuit of the batch");
    assert_eq!(views.next(), None, "one view for each circuit");
    view
}

fn number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn name() -> CircuitName {
    CircuitName::new(format!("circuit {}", number())).unwrap()
}

/// Names in one group.
pub(super) fn names(n: usize) -> Vec<CircuitName> {
    let group = Group::of(&name());
    std::iter::repeat_with(name).filter(|name| Group::of(name) == group).take(n).collect()
}

/// A name in another group.
pub(super) fn elsewhere(circuit: &CircuitName) -> CircuitName {
    std::iter::repeat_with(name).find(|name| Group::of(name) != Group::of(circuit)).unwrap()
}

/// The names of some circuits in an answer, in its order.
pub(super) fn of<'a>(changes: &'a Changes, among: &[CircuitName]) -> Vec<&'a CircuitName> {
    let names = changes.views.iter().map(|(name, _)| name);
    names.filter(|name| among.contains(name)).collect()
}

/// How the last call failed before the circuit opened, with what must be escaped.
pub(super) const ERROR: &str = "503 \"\u{1b}[31m\n\\ü";

/// How a probe failed.
pub(super) const PROBE_ERROR: &str = "timeout";

pub(super) const TERMS: OpenTerms =
    OpenTerms { interval: ms(40), reopenings: 0, probes: 2, lease: s(60), successes_to_close: 2 };

pub(super) const WINDOW: Geometry = Geometry { millis: 3_600_000, buckets: 10 };

/// So short that a record with it expires as soon as a record can.
pub(super) const SHORT: Geometry = Geometry { millis: 200, buckets: 2 };

/// Longer than a record lasts that has nothing but evidence in a short window.
pub(super) const EXPIRED: Duration = ms(1_100);

pub(super) fn open(terms: OpenTerms) -> Move {
    let tally =
        Tally { calls: 9, failures: 8, slow_calls: 1, consecutive_failures: 3, ..Tally::default() };
    let last_error = Some(ERROR.into());
    Move::Open { terms, reason: Reason::FailureRate, tally, last_error }
}

/// Failures that have just ended.
pub(super) fn report(circuit: &CircuitName, generation: u64, failures: u64) -> Report {
    let aged = |number| Failures { age: Duration::ZERO, number };
    Report {
        circuit: circuit.clone(),
        generation,
        window: Some(WINDOW),
        counts: (failures > 0)
            .then(|| failed_calls(Duration::ZERO, failures))
            .into_iter()
            .collect(),
        failures: (failures > 0).then(|| aged(failures)).into_iter().collect(),
        last_success: None,
        vote: None,
        shares: Shares::None,
        attention: None,
    }
}

pub(super) fn failed_calls(age: Duration, number: u64) -> Count {
    Count { age, calls: number, failures: number, slow_calls: 0 }
}

/// Consecutive failures of this age, and nothing that needs a window.
pub(super) fn streak(circuit: &CircuitName, age: Duration, number: u64) -> Report {
    Report { failures: vec![Failures { age, number }], ..report(circuit, 1, 0) }
}

pub(super) fn success(circuit: &CircuitName, age: Duration) -> Report {
    Report { last_success: Some(age), ..report(circuit, 1, 0) }
}

pub(super) fn failed(terms: OpenTerms) -> Probed {
    let last_error = Some(PROBE_ERROR.into());
    Probed::Failed { terms, reason: Reason::ProbeFailed, last_error }
}

/// Opens the circuit, and waits until a probe is due.
pub(super) async fn open_until_due(
    world: &impl World,
    replica: &Replica,
    name: &CircuitName,
    terms: OpenTerms,
) -> View {
    let from = replica.load(name).await.generation;
    let view = replica.transition(name, from, &open(terms)).await.unwrap();
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

/// Waits for the next change of a circuit. Returns its view, and the versions before and after.
pub(super) async fn next_change(
    notices: &mut Receiver<Notice>,
    name: &CircuitName,
) -> (View, u64, u64) {
    let next = async {
        loop {
            if let Notice::Changed { circuit, view, previous, version } =
                notices.recv().await.unwrap()
                && circuit == *name
            {
                return (*view, previous, version);
            }
        }
    };
    tokio::time::timeout(s(20), next).await.expect("a notice")
}

pub(super) fn override_record(remaining: Option<Duration>) -> OverrideRecord {
    OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: "a \"reason\"\nof two lines, with ü".to_owned(),
        actor: Some("me".to_owned()),
        remaining,
    }
}
