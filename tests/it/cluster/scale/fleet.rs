//! A simulated fleet whose calls have a known order. `benches/fleet.rs` runs it for longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::event::{Event, Reason};
use tower_breaker::{Circuit, CircuitName, Outcome, Policy, State, Store};

use crate::support::traffic::{Fault, Traffic};
use crate::support::{ms, now, s};

/// A condition may have held this long before it opens a circuit: reports and answers take time.
const LAG: u64 = 2;

/// A circuit stays open for longer, so all events within it are of one opening.
const ONE_OPENING: Duration = s(10);

/// How many seconds the window of the default policy goes back, and the lag.
const WINDOW: u64 = 60 + LAG;

/// How long an answer of the backend takes.
pub(super) const LATENCY: Duration = ms(2);

/// How a fleet calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) replicas: usize,
    pub(super) circuits: usize,
    /// Of each replica on each circuit.
    pub(super) calls_per_second: f64,
    /// The fraction that fails.
    pub(super) failures: f64,
    /// The calls of this time are made at once.
    pub(super) step: Duration,
    /// So many replicas get no pushes.
    pub(super) polling: usize,
}

pub(super) struct Fleet {
    load: Load,
    rng: fastrand::Rng,
    start: Instant,
    pub(super) backend: MemoryBackend,
    pub(super) replicas: Vec<Replica>,
    truth: Vec<Truth>,
    openings: Arc<Mutex<Vec<(Instant, usize, Reason)>>>,
    /// The circuit whose upstream is down.
    pub(super) down: Option<usize>,
    pub(super) calls: u64,
    pub(super) opened: u64,
}

pub(super) struct Replica {
    pub(super) line: Traffic,
    pub(super) circuits: Vec<Circuit>,
    _store: Store,
}

/// What really happened to the calls of one circuit: of all replicas, and of each by itself, since
/// its own evidence opens the circuit too.
#[derive(Clone, Debug, Default)]
struct Truth {
    all: Order,
    own: BTreeMap<usize, Order>,
    opened: Option<Instant>,
}

/// Calls in their order.
#[derive(Clone, Debug, Default)]
struct Order {
    streak: u64,
    /// The second in which the streak last was long enough to open the circuit.
    reached: Option<u64>,
    /// Seconds with calls: which, how many calls, and how many of them failed.
    seconds: VecDeque<(u64, u64, u64)>,
}

impl Fleet {
    pub(super) fn new(load: Load, seed: u64) -> Self {
        let mut fleet = Self {
            load,
            rng: fastrand::Rng::with_seed(seed),
            start: now(),
            backend: MemoryBackend::new(),
            replicas: Vec::new(),
            truth: vec![Truth::default(); load.circuits],
            openings: Arc::default(),
            down: None,
            calls: 0,
            opened: 0,
        };
        fleet.replicas = (0..load.replicas).map(|number| fleet.start(number)).collect();
        fleet
    }

    /// Starts a replica, which has the same name at each start.
    pub(super) fn start(&self, number: usize) -> Replica {
        let polls = number < self.load.polling;
        let connect = if polls { Traffic::without_pushes } else { Traffic::over };
        let (line, openings) = (connect(&self.backend), self.openings.clone());
        line.set(Fault::Late(LATENCY));
        let opened = move |circuit: &CircuitName, event: &Event| {
            if let Event::Transition(transition) = event
                && (transition.from, transition.to) == (State::Closed, State::Open)
            {
                let number = circuit.as_str().parse().unwrap();
                openings.lock().unwrap().push((now(), number, transition.reason));
            }
        };
        let builder = Store::builder().backend(line.clone()).on_change(opened);
        let store = builder.replica(format!("replica {number}")).build();
        let circuits = (0..self.load.circuits).map(|n| store.circuit(n.to_string())).collect();
        Replica { line, circuits, _store: store }
    }

    /// Runs the fleet for this long. Returns what opened by a condition that never held.
    pub(super) async fn run(&mut self, time: Duration) -> Vec<String> {
        let (start, mut wrong, mut due) = (now(), Vec::new(), 0.0);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let pairs = (self.load.replicas * self.load.circuits) as f64;
        let per_step = pairs * self.load.calls_per_second * self.load.step.as_secs_f64();
        while now() - start < time {
            sleep(self.load.step).await;
            due += per_step;
            let second = self.second();
            while due >= 1.0 {
                due -= 1.0;
                self.call(second);
            }
            let openings = std::mem::take(&mut *self.openings.lock().unwrap());
            wrong.extend(openings.into_iter().filter_map(|opening| self.judge(opening)));
        }
        wrong
    }

    pub(super) fn commands(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.line.commands()).sum()
    }

    /// The most commands in a second, but for the first ones, in which replicas start.
    pub(super) fn busiest_second(&self) -> u64 {
        let sent = |second| self.replicas.iter().map(|it| it.line.commands_in(second)).sum();
        (3..self.second()).map(sent).max().unwrap_or_default()
    }

    fn second(&self) -> u64 {
        now().duration_since(self.start).as_secs()
    }

    fn call(&mut self, second: u64) {
        let number = self.rng.usize(..self.load.circuits);
        let replica = self.rng.usize(..self.load.replicas);
        let circuit = &self.replicas[replica].circuits[number];
        let Ok(permit) = circuit.try_acquire() else { return };
        let failed = self.down == Some(number) || self.rng.f64() < self.load.failures;
        self.truth[number].called(replica, failed, second);
        self.calls += 1;
        permit.settle(if failed { Outcome::failure() } else { Outcome::Success });
    }

    /// Returns an opening that nothing in the true order of calls explains.
    fn judge(&mut self, (at, circuit, reason): (Instant, usize, Reason)) -> Option<String> {
        let second = self.second();
        let truth = &mut self.truth[circuit];
        if truth.opened.is_some_and(|opened| at - opened < ONE_OPENING) {
            return None;
        }
        truth.opened = Some(at);
        self.opened += 1;
        let held =
            std::iter::once(&truth.all).chain(truth.own.values()).any(|order| match reason {
                Reason::ConsecutiveFailures => {
                    order.reached.is_some_and(|then| second - then <= LAG)
                }
                Reason::FailureRate => order.rate_was_reached(second),
                _ => false,
            });
        (!held).then(|| format!("circuit {circuit}: {reason}"))
    }
}

impl Truth {
    fn called(&mut self, replica: usize, failed: bool, second: u64) {
        self.all.called(failed, second);
        self.own.entry(replica).or_default().called(failed, second);
    }
}

impl Order {
    fn called(&mut self, failed: bool, second: u64) {
        self.streak = if failed { self.streak + 1 } else { 0 };
        if self.streak >= Policy::default().consecutive_failures().unwrap_or(u64::MAX) {
            self.reached = Some(second);
        }
        match self.seconds.back_mut() {
            Some((last, calls, failures)) if *last == second => {
                *calls += 1;
                *failures += u64::from(failed);
            }
            _ => self.seconds.push_back((second, 1, failed.into())),
        }
        while self.seconds.front().is_some_and(|(first, ..)| first + WINDOW < second) {
            self.seconds.pop_front();
        }
    }

    /// Whether there is a period in the window, up to the lag before now, with such a rate.
    fn rate_was_reached(&self, now: u64) -> bool {
        let policy = Policy::default();
        let (rate, least) = (policy.failure_rate().unwrap_or(1.0), policy.minimum_calls());
        (0..=LAG).any(|lag| {
            let (mut calls, mut failures) = (0, 0);
            let until = self.seconds.iter().rev().filter(|(second, ..)| second + lag <= now);
            until.into_iter().any(|(_, called, failed)| {
                calls += called;
                failures += failed;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let reached = failures as f64 >= rate * calls as f64;
                calls >= least && reached
            })
        })
    }
}
