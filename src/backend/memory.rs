//! A backend in this process, to test how replicas behave.

mod record;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::{
    Answer, Backend, Lease, Move, Notice, OverrideRecord, Probed, RecordState, Report, View,
};
use crate::clock;
use crate::machine::{Reason, Tally};
use crate::name::CircuitName;
use record::{Record, State, StoredOverride, open};

/// A backend in this process, for tests: [`Store`](crate::Store)s that share one are replicas of
/// one cluster.
///
/// It reads tokio's clock, so that a test can pause it. Clones share the same records.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_breaker::backend::BackendError> {
/// use tower_breaker::backend::MemoryBackend;
/// use tower_breaker::{State, Store};
///
/// let backend = MemoryBackend::new();
/// let one = Store::builder().backend(backend.clone()).build().circuit("payments");
/// let other = Store::builder().backend(backend).build().circuit("payments");
///
/// one.force_open("an example").await?;
/// tokio::time::sleep(std::time::Duration::from_millis(1)).await;
/// assert_eq!(other.state(), State::ForcedOpen);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryBackend {
    circuits: Arc<Mutex<Circuits>>,
    notices: broadcast::Sender<Notice>,
}

/// What is stored.
#[derive(Default)]
struct Circuits {
    records: HashMap<CircuitName, Record>,
    overridden: HashMap<CircuitName, StoredOverride>,
}

impl MemoryBackend {
    /// Returns a backend without records.
    #[must_use]
    pub fn new() -> Self {
        Self { circuits: Arc::default(), notices: broadcast::channel(1024).0 }
    }

    /// Deletes all records and overrides, as if a server were emptied.
    pub fn forget(&self) {
        *self.circuits() = Circuits::default();
    }

    fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act`, and publishes the new view if it returns true.
    fn act<'a, T: Send + 'a>(
        &'a self,
        circuit: &'a CircuitName,
        act: impl FnOnce(&mut Circuits, u64) -> (T, bool),
    ) -> Answer<'a, (T, View)> {
        let now = now();
        let mut circuits = self.circuits();
        let (answer, publish) = act(&mut circuits, now);
        let view = circuits.view(circuit, now);
        if publish {
            // Under the lock, so that notices are sent in order. There may be no receiver.
            let _ = self.notices.send(Notice::View(circuit.clone(), Box::new(view.clone())));
        }
        Box::pin(ready(Ok((answer, view))))
    }
}

impl Backend for MemoryBackend {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        view(self.act(circuit, |_, _| ((), false)))
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        let answer = self.act(circuit, |circuits, now| {
            if report.generation == View::FIRST && report.seq > 0 {
                circuits.records.entry(circuit.clone()).or_insert_with(Record::first);
            }
            let record = circuits.records.get_mut(circuit);
            let counted = record.map(|record| record.report(report, now)).unwrap_or_default();
            (counted, false)
        });
        Box::pin(async {
            let ((tally, shares), mut view) = answer.await?;
            if view.state == RecordState::Closed {
                (view.tally, view.shares) = (tally, shares);
            }
            Ok(view)
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        view(self.act(circuit, |circuits, now| {
            let record = circuits.record(circuit);
            let wins = record.generation == from;
            if wins {
                let (state, reason, tally) = match *to {
                    Move::Open { terms, reason, tally } => (open(terms, now), reason, tally),
                    Move::Closed { reason } => (State::Closed, reason, Tally::default()),
                };
                let next = record.next(state, reason, tally, now);
                circuits.records.insert(circuit.clone(), next);
            }
            ((), wins)
        }))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.act(circuit, |circuits, now| {
            let Some(record) = circuits.records.get_mut(circuit) else { return (None, false) };
            if let Some(lease) = record.lease(nonce, now) {
                return (Some(lease), false);
            }
            if record.generation != generation {
                return (None, false);
            }
            let mut moved = false;
            if let State::Open { terms, until } = record.state
                && until <= now
            {
                let round = State::HalfOpen { terms, passed: 0, leases: BTreeMap::new() };
                *record = record.next(round, Reason::IntervalOver, Tally::default(), now);
                moved = true;
            }
            (record.acquire(nonce, now), moved)
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        view(self.act(circuit, |circuits, now| {
            let record = circuits.records.get_mut(circuit);
            ((), record.is_some_and(|record| record.settle(lease, *result, now)))
        }))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self::view(self.act(circuit, |circuits, now| {
            let older = circuits.record(circuit).rank() < view.rank();
            if older {
                circuits.records.insert(circuit.clone(), Record::restored(view, now));
            }
            let stored = circuits.overridden.entry(circuit.clone()).or_default();
            let forgotten = stored.version < view.overridden.version;
            if forgotten {
                *stored = StoredOverride::new(
                    view.overridden.version,
                    view.overridden.record.clone(),
                    now,
                );
            }
            ((), older || forgotten)
        }))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        record: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        view(self.act(circuit, |circuits, now| {
            let stored = circuits.overridden.entry(circuit.clone()).or_default();
            *stored = StoredOverride::new((stored.version + 1).max(now), record.cloned(), now);
            if record.is_none() {
                let current = circuits.record(circuit);
                let closed = current.next(State::Closed, Reason::Override, Tally::default(), now);
                circuits.records.insert(circuit.clone(), closed);
            }
            ((), true)
        }))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}

impl Circuits {
    /// Returns the record; an absent one as what that means.
    fn record(&self, circuit: &CircuitName) -> Record {
        let absent = || Record { revision: 0, ..Record::first() };
        self.records.get(circuit).cloned().unwrap_or_else(absent)
    }

    fn view(&self, circuit: &CircuitName, now: u64) -> View {
        let record = self.record(circuit);
        let stored = self.overridden.get(circuit).cloned().unwrap_or_default();
        View {
            generation: record.generation,
            revision: record.revision,
            state: record.state.record_state(now),
            reason: record.reason,
            tally: Tally { consecutive_failures: record.streak, ..record.tally },
            shares: Vec::new(),
            votes: record.replicas.values().filter(|r| r.vote_until > now).count() as u64,
            overridden: stored.in_force(now),
        }
    }
}

/// Returns the view of an answer that has nothing else.
fn view(answer: Answer<'_, ((), View)>) -> Answer<'_, View> {
    Box::pin(async { Ok(answer.await?.1) })
}

fn now() -> u64 {
    clock::now().as_nanos() / 1_000_000
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}
