//! The network between replicas and their backend, with its faults, and the checker.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tower_breaker::backend::{
    Answer, Attention, Backend, Batch, Cursor, Geometry, Group, MemoryBackend, OverrideChange,
    RecordState, Report, Sender, Shares, View,
};
use tower_breaker::event::Tally;
use tower_breaker::{CircuitName, State};

use super::checker::Checker;
use super::now;

/// What may happen to messages. Chances are in a thousand, times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The longest that a request takes; a reply likewise.
    pub(crate) delay: u64,
    /// The shortest that a request takes; a reply likewise.
    pub(crate) delay_all: u64,
    /// The request is dropped: nothing happens.
    pub(crate) drop_request: u32,
    /// The reply is dropped: the operation happened, and its caller does not know.
    pub(crate) drop_reply: u32,
    /// The operation happens twice, the second time a while later.
    pub(crate) duplicate: u32,
    pub(crate) drop_push: u32,
    pub(crate) delay_push: u64,
    /// The caller of a dropped message gets an error at once, in place of no answer.
    pub(crate) fail_fast: u32,
}

impl Plan {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        delay: 0,
        delay_all: 0,
        drop_request: 0,
        drop_reply: 0,
        duplicate: 0,
        drop_push: 0,
        delay_push: 0,
        fail_fast: 0,
    };

    /// Returns a plan of delays and repetitions only, so short that a roll call is answered within
    /// the settling time.
    pub(crate) fn without_faults(self, rng: &mut fastrand::Rng) -> Self {
        let (delay, delay_push) = ([0, 8, 20][rng.usize(..3)], [0, 0, 20][rng.usize(..3)]);
        Self { delay, delay_push, duplicate: self.duplicate, ..Self::NONE }
    }
}

/// The backend, what may happen on the way to it, and the checker of every operation.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) backend: MemoryBackend,
    checker: Mutex<Checker>,
    faults: Mutex<(fastrand::Rng, Plan)>,
    emptied: Mutex<Option<Instant>>,
    start: Instant,
    trace: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, trace: bool) -> Arc<Self> {
        Arc::new(Self {
            backend: MemoryBackend::new(),
            checker: Mutex::default(),
            faults: Mutex::new((fastrand::Rng::with_seed(seed), Plan::NONE)),
            emptied: Mutex::default(),
            start: now(),
            trace,
        })
    }

    pub(crate) fn set_plan(&self, plan: Plan) {
        self.faults().1 = plan;
    }

    pub(crate) fn checker(&self) -> MutexGuard<'_, Checker> {
        self.checker.lock().unwrap()
    }

    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = format!("{:?}: {}", self.start.elapsed(), what.into());
        self.trace(|| format!("VIOLATION {what}"));
        self.checker().violation(what);
    }

    /// Empties the backend.
    pub(crate) fn forget(&self) {
        self.trace(|| "the backend is emptied".into());
        self.checker().emptied();
        *self.emptied.lock().unwrap() = Some(now());
        self.backend.forget();
    }

    pub(crate) fn was_emptied_within(&self, time: Duration) -> bool {
        self.emptied.lock().unwrap().is_some_and(|at| at.elapsed() < time)
    }

    /// The circuit as the backend describes it.
    pub(crate) fn load(&self, circuit: &CircuitName) -> View {
        load(&self.backend, circuit)
    }

    /// What the backend has counted in the last `window`, in the current generation.
    pub(crate) fn totals(&self, circuit: &CircuitName, window: Geometry) -> Tally {
        let report = Report { window: Some(window), ..self.report(circuit) };
        read(&self.backend, circuit, 0, vec![report]).tally
    }

    /// Has all replicas report what they hold.
    pub(crate) fn call_roll(&self, circuit: &CircuitName) {
        let after = self.load(circuit).suspect.map_or(0, |roll| roll.id);
        let attention = Some(Attention::RollCall { after });
        let view =
            read(&self.backend, circuit, 1, vec![Report { attention, ..self.report(circuit) }]);
        assert!(view.suspect.is_some_and(|roll| roll.id > after), "{view:?}");
    }

    fn report(&self, circuit: &CircuitName) -> Report {
        Report {
            circuit: circuit.clone(),
            generation: self.load(circuit).generation,
            window: None,
            counts: Vec::new(),
            failures: Vec::new(),
            last_success: None,
            vote: None,
            shares: Shares::None,
            attention: None,
        }
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>9.3} {}", self.start.elapsed().as_secs_f64(), what());
        }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, (fastrand::Rng, Plan)> {
        self.faults.lock().unwrap()
    }
}

/// The circuit as a backend in memory describes it.
pub(crate) fn load(backend: &MemoryBackend, circuit: &CircuitName) -> View {
    read(backend, circuit, 0, Vec::new())
}

/// Reads a circuit as one that is no replica. A batch with the number 0 adds nothing.
fn read(backend: &MemoryBackend, circuit: &CircuitName, seq: u64, reports: Vec<Report>) -> View {
    let batch = Batch {
        sender: Sender { name: String::new(), id: String::new() },
        seq,
        since: Cursor::default(),
        seen: 0,
        reports,
        circuits: vec![circuit.clone()],
    };
    let changes = at_once(backend.sync(Group::of(circuit), &batch));
    let view = changes.views.into_iter().find(|(name, _)| name == circuit);
    view.expect("a view of the circuit").1
}

/// The time of all memory backends in this process, which new generations are drawn from.
pub(crate) fn millis() -> u64 {
    let name = CircuitName::new("clock").unwrap();
    at_once(MemoryBackend::new().set_override(&name, &OverrideChange::Reset)).generation
}

/// The answer of a backend in memory, which never waits.
pub(super) fn at_once<T>(mut answer: Answer<'_, T>) -> T {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => answer,
        _ => panic!("a backend in memory answers at once"),
    }
}

pub(crate) fn state_of(view: &View) -> State {
    match view.state {
        RecordState::Closed => State::Closed,
        RecordState::Open { .. } => State::Open,
        RecordState::HalfOpen { .. } => State::HalfOpen,
    }
}

pub(crate) fn brief(view: &View) -> String {
    let View { generation, revision, state, tally, votes, suspect, overridden, .. } = view;
    format!("{generation}.{revision} {state:?} {tally:?} {suspect:?} votes {votes} {overridden:?}")
}
