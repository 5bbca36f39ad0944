//! A backend in this process, to test how replicas behave.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::{
    Answer, Backend, Geometry, Lease, Move, Notice, OpenTerms, Overridden, OverrideRecord, Probed,
    RecordState, Report, View,
};
use crate::clock;
use crate::machine::{Reason, Tally};
use crate::name::CircuitName;

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

#[derive(Clone, Debug)]
struct Record {
    generation: u64,
    revision: u64,
    state: State,
    reason: Option<Reason>,
    /// What had been counted when it opened.
    tally: Tally,
    streak: u64,
    /// How many streaks have ended: a replica's share of an earlier one is void.
    streaks: u64,
    windows: HashMap<Geometry, Ring>,
    replicas: BTreeMap<String, Reporter>,
}

#[derive(Clone, Debug)]
enum State {
    Closed,
    Open { terms: OpenTerms, until: u64 },
    HalfOpen { terms: OpenTerms, passed: u64, leases: BTreeMap<u64, u64> },
}

/// What one replica has reported in one generation.
#[derive(Clone, Debug, Default)]
struct Reporter {
    seq: u64,
    vote_until: u64,
    streak: u64,
    streaks: u64,
    windows: HashMap<Geometry, Ring>,
}

/// Totals over the last buckets of a window.
#[derive(Clone, Debug, Default)]
struct Ring {
    buckets: BTreeMap<u64, [u64; 3]>,
}

#[derive(Clone, Debug, Default)]
struct StoredOverride {
    version: u64,
    record: Option<OverrideRecord>,
    until: Option<u64>,
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

impl Record {
    fn first() -> Self {
        Self {
            generation: View::FIRST,
            revision: 1,
            state: State::Closed,
            reason: None,
            tally: Tally::default(),
            streak: 0,
            streaks: 0,
            windows: HashMap::new(),
            replicas: BTreeMap::new(),
        }
    }

    fn next(&self, state: State, reason: Reason, tally: Tally, now: u64) -> Self {
        let generation = (self.generation + 1).max(now);
        let streak = tally.consecutive_failures;
        Self { generation, state, reason: Some(reason), tally, streak, ..Self::first() }
    }

    fn restored(view: &View, now: u64) -> Self {
        let state = match view.state {
            RecordState::Closed => State::Closed,
            RecordState::Open { terms, remaining } => {
                let until = now + millis(remaining.min(terms.interval));
                State::Open { terms: usable(terms), until }
            }
            RecordState::HalfOpen { terms, .. } => State::Open { terms: usable(terms), until: now },
        };
        let open = !matches!(state, State::Closed);
        let tally = if open { view.tally } else { Tally::default() };
        Self {
            generation: view.generation,
            revision: view.revision + 1,
            state,
            reason: view.reason,
            tally,
            streak: tally.consecutive_failures,
            ..Self::first()
        }
    }

    fn rank(&self) -> (u64, u64) {
        (self.generation, self.revision)
    }

    fn report(&mut self, report: &Report, now: u64) -> (Tally, Vec<Tally>) {
        if report.generation != self.generation || !matches!(self.state, State::Closed) {
            return (Tally::default(), Vec::new());
        }
        let reporter = self.replicas.entry(report.replica.clone()).or_default();
        if report.seq > reporter.seq {
            let delta = report.delta;
            reporter.seq = report.seq;
            reporter.vote_until = report.vote.map_or(0, |vote| now + millis(vote));
            if delta.streak > 0 {
                self.streak += delta.streak;
                if reporter.streaks != self.streaks {
                    (reporter.streak, reporter.streaks) = (0, self.streaks);
                }
                reporter.streak += delta.streak;
            } else if delta.succeeded {
                self.streak = 0;
                self.streaks += 1;
            }
            if let Some(window) = report.window {
                let counted = [delta.calls, delta.failures, delta.slow_calls];
                self.windows.entry(window).or_default().add(window, counted, now);
                if report.shares {
                    reporter.windows.entry(window).or_default().add(window, counted, now);
                }
            }
        }
        let total = |windows: &mut HashMap<Geometry, Ring>, streak| {
            let ring = report.window.and_then(|window| Some((window, windows.get_mut(&window)?)));
            let [calls, failures, slow_calls] =
                ring.map(|(window, ring)| ring.total(window, now)).unwrap_or_default();
            Tally { calls, failures, slow_calls, consecutive_failures: streak, ..Tally::default() }
        };
        let tally = total(&mut self.windows, self.streak);
        let mut shares = Vec::new();
        if report.shares {
            for replica in self.replicas.values_mut() {
                let streak = if replica.streaks == self.streaks { replica.streak } else { 0 };
                shares.push(total(&mut replica.windows, streak));
            }
        }
        (tally, shares)
    }

    /// Returns the lease that was already granted to this nonce.
    fn lease(&self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { leases, .. } = &self.state else { return None };
        let expires = leases.get(&nonce).filter(|expires| **expires > now)?;
        let remaining = Duration::from_millis(expires - now);
        Some(Lease { generation: self.generation, nonce, remaining })
    }

    fn acquire(&mut self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { terms, leases, .. } = &mut self.state else { return None };
        leases.retain(|_, expires| *expires > now);
        if leases.len() as u64 >= terms.probes {
            return None;
        }
        leases.insert(nonce, now + millis(terms.lease));
        self.revision += 1;
        self.lease(nonce, now)
    }

    /// Returns false if the lease is over.
    fn settle(&mut self, lease: Lease, result: Probed, now: u64) -> bool {
        let State::HalfOpen { terms, passed, leases } = &mut self.state else { return false };
        let out = leases.get(&lease.nonce).is_some_and(|expires| *expires > now);
        if self.generation != lease.generation || !out {
            return false;
        }
        leases.remove(&lease.nonce);
        match result {
            Probed::Passed if *passed + 1 >= terms.successes_to_close => {
                *self = self.next(State::Closed, Reason::ProbesSucceeded, Tally::default(), now);
            }
            Probed::Failed { terms, reason } => {
                *self = self.next(open(terms, now), reason, Tally::default(), now);
            }
            Probed::Passed => {
                *passed += 1;
                self.revision += 1;
            }
            Probed::Released => self.revision += 1,
        }
        true
    }
}

impl State {
    fn record_state(&self, now: u64) -> RecordState {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(now));
        match self {
            Self::Closed => RecordState::Closed,
            Self::Open { terms, until } => {
                RecordState::Open { terms: *terms, remaining: left(*until) }
            }
            Self::HalfOpen { terms, passed, leases } => {
                let out = || leases.values().filter(|expires| **expires > now);
                RecordState::HalfOpen {
                    terms: *terms,
                    passed: *passed,
                    out: out().count() as u64,
                    next_expiry: out().min().map(|expires| left(*expires)),
                }
            }
        }
    }
}

impl Ring {
    fn add(&mut self, window: Geometry, counted: [u64; 3], now: u64) {
        let bucket = self.buckets.entry(now / window.bucket_millis()).or_default();
        for (sum, more) in bucket.iter_mut().zip(counted) {
            *sum += more;
        }
    }

    fn total(&mut self, window: Geometry, now: u64) -> [u64; 3] {
        let current = now / window.bucket_millis();
        self.buckets.retain(|bucket, _| bucket + u64::from(window.buckets) > current);
        let mut total = [0; 3];
        for bucket in self.buckets.values() {
            for (sum, more) in total.iter_mut().zip(bucket) {
                *sum += more;
            }
        }
        total
    }
}

impl StoredOverride {
    fn new(version: u64, record: Option<OverrideRecord>, now: u64) -> Self {
        let remaining = record.as_ref().and_then(|record| record.remaining);
        Self { version, record, until: remaining.map(|remaining| now + millis(remaining)) }
    }

    fn in_force(self, now: u64) -> Overridden {
        let over = self.until.is_some_and(|until| until <= now);
        let remaining = self.until.map(|until| Duration::from_millis(until.saturating_sub(now)));
        let record = self.record.filter(|_| !over);
        Overridden {
            version: self.version,
            record: record.map(|record| OverrideRecord { remaining, ..record }),
        }
    }
}

fn open(terms: OpenTerms, now: u64) -> State {
    State::Open { terms: usable(terms), until: now + millis(terms.interval) }
}

fn usable(terms: OpenTerms) -> OpenTerms {
    let lease = if terms.lease.is_zero() { Duration::from_secs(10) } else { terms.lease };
    OpenTerms { probes: terms.probes.max(1), lease, ..terms }
}

/// Returns the view of an answer that has nothing else.
fn view(answer: Answer<'_, ((), View)>) -> Answer<'_, View> {
    Box::pin(async { Ok(answer.await?.1) })
}

fn now() -> u64 {
    clock::now().as_nanos() / 1_000_000
}

/// Rounded up: what lasts at all lasts a millisecond.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    // Far enough in the future, and no sum with it overflows.
    u64::try_from(millis).unwrap_or(u64::MAX).min(u64::MAX >> 16)
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
