//! What is between replicas and their ledger: the weather, and a checker.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;
use tower_breaker::backend::{
    Answer, Backend, Delta, Geometry, MemoryBackend, RecordState, Report, View,
};
use tower_breaker::event::Tally;
use tower_breaker::{CircuitName, State};

use super::checker::Checker;
use super::now;

/// What befalls messages. Chances are in a thousand, times in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// The longest that a request takes, and that a reply takes.
    pub(crate) delay: u64,
    /// How long every request takes at least, and every reply.
    pub(crate) delay_all: u64,
    /// The request is lost: nothing happens.
    pub(crate) lose_request: u32,
    /// The reply is lost: it has happened, and nobody hears.
    pub(crate) lose_reply: u32,
    /// It happens twice, the second time a while later.
    pub(crate) duplicate: u32,
    pub(crate) lose_push: u32,
    pub(crate) delay_push: u64,
    /// What is lost is told as an error, in place of silence.
    pub(crate) fail_fast: u32,
}

/// The ledger, everybody's lines to it, and who watches.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) ledger: MemoryBackend,
    checker: Mutex<Checker>,
    weather: Mutex<(fastrand::Rng, Plan)>,
    start: Instant,
    trace: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, trace: bool) -> Arc<Self> {
        Arc::new(Self {
            ledger: MemoryBackend::new(),
            checker: Mutex::default(),
            weather: Mutex::new((fastrand::Rng::with_seed(seed), Plan::default())),
            start: now(),
            trace,
        })
    }

    pub(crate) fn set_plan(&self, plan: Plan) {
        self.weather().1 = plan;
    }

    pub(crate) fn checker(&self) -> MutexGuard<'_, Checker> {
        self.checker.lock().unwrap()
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) {
        let what = format!("{:?}: {}", self.start.elapsed(), what.into());
        self.trace(|| format!("WRONG {what}"));
        self.checker().wrong(what);
    }

    /// Empties the ledger.
    pub(crate) fn forget(&self) {
        self.trace(|| "the ledger forgets everything".into());
        self.checker().forgot();
        self.ledger.forget();
    }

    /// The circuit as the ledger has it.
    pub(crate) fn load(&self, circuit: &CircuitName) -> View {
        at_once(self.ledger.load(circuit))
    }

    /// What it has counted in the last `window`, in its present generation.
    pub(crate) fn totals(&self, circuit: &CircuitName, window: Geometry) -> Tally {
        let report = Report {
            replica: String::new(),
            seq: 0,
            generation: self.load(circuit).generation,
            delta: Delta::default(),
            window: Some(window),
            vote: None,
            shares: false,
        };
        at_once(self.ledger.report(circuit, &report)).tally
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>9.3} {}", self.start.elapsed().as_secs_f64(), what());
        }
    }

    pub(super) fn weather(&self) -> MutexGuard<'_, (fastrand::Rng, Plan)> {
        self.weather.lock().unwrap()
    }
}

/// The time of all ledgers in this process: what is new there bears it.
pub(crate) fn millis() -> u64 {
    at_once(MemoryBackend::new().set_override(&CircuitName::new("clock").unwrap(), None)).generation
}

/// What a ledger in this process says, it says at once.
pub(super) fn at_once<T>(mut answer: Answer<'_, T>) -> T {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => answer,
        _ => panic!("a ledger in memory answers at once"),
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
    let View { generation, revision, state, tally, votes, overridden, .. } = view;
    format!("{generation}.{revision} {state:?} {tally:?} votes {votes} {overridden:?}")
}
