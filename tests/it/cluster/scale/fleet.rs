//! A simulated fleet whose calls have a known order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::event::{Event, Reason};
use tower_breaker::{Circuit, CircuitName, Outcome, Policy, State, Store};

use crate::support::traffic::Traffic;
use crate::support::{ms, now, s};

/// A condition may have held this long before it opens a circuit: reports and answers take time.
const LAG: Duration = s(2);

/// A circuit stays open for longer, so all events within it are of one opening.
const ONE_OPENING: Duration = s(10);

/// How far the window of the default policy goes back, and the lag.
const WINDOW: u64 = 62;

/// How a fleet calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) replicas: usize,
    pub(super) circuits: usize,
    /// Of each replica on each circuit.
    pub(super) calls_per_second: f64,
    pub(super) failures: f64,
}

pub(super) struct Fleet {
    load: Load,
    rng: fastrand::Rng,
    lines: Vec<Traffic>,
    _stores: Vec<Store>,
    /// By replica, then by circuit.
    circuits: Vec<Vec<Circuit>>,
    truth: Vec<Truth>,
    openings: Arc<Mutex<Vec<(Instant, usize, Reason)>>>,
    pub(super) calls: u64,
}

/// What really happened to the calls of one circuit, in their order.
#[derive(Clone, Debug, Default)]
struct Truth {
    streak: u64,
    /// When the streak last was long enough to open the circuit.
    reached: Option<Instant>,
    opened: Option<Instant>,
    /// By second: calls, and how many of them failed.
    seconds: BTreeMap<u64, (u64, u64)>,
}

impl Fleet {
    pub(super) fn new(load: Load, seed: u64) -> Self {
        let backend = MemoryBackend::new();
        let openings: Arc<Mutex<Vec<_>>> = Arc::default();
        let (mut lines, mut stores, mut circuits) = (Vec::new(), Vec::new(), Vec::new());
        for replica in 0..load.replicas {
            let (line, openings) = (Traffic::over(&backend), openings.clone());
            let opened = move |circuit: &CircuitName, event: &Event| {
                if let Event::Transition(transition) = event
                    && (transition.from, transition.to) == (State::Closed, State::Open)
                {
                    let number = circuit.as_str().parse().unwrap();
                    openings.lock().unwrap().push((now(), number, transition.reason));
                }
            };
            let builder = Store::builder().backend(line.clone()).on_change(opened);
            let store = builder.replica(format!("replica {replica}")).build();
            circuits.push((0..load.circuits).map(|n| store.circuit(n.to_string())).collect());
            lines.push(line);
            stores.push(store);
        }
        Self {
            load,
            rng: fastrand::Rng::with_seed(seed),
            lines,
            _stores: stores,
            circuits,
            truth: vec![Truth::default(); load.circuits],
            openings,
            calls: 0,
        }
    }

    /// Runs the fleet for this long. Returns what opened by a condition that never held.
    pub(super) async fn run(&mut self, time: Duration) -> Vec<String> {
        const STEP: Duration = ms(10);
        let (start, mut wrong) = (now(), Vec::new());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let pairs = (self.load.replicas * self.load.circuits) as f64;
        let per_step = pairs * self.load.calls_per_second * STEP.as_secs_f64();
        let mut due = 0.0;
        while now() - start < time {
            sleep(STEP).await;
            due += per_step;
            while due >= 1.0 {
                due -= 1.0;
                self.call();
            }
            let openings = std::mem::take(&mut *self.openings.lock().unwrap());
            wrong.extend(openings.into_iter().filter_map(|opening| self.judge(opening)));
        }
        wrong
    }

    pub(super) fn commands(&self) -> u64 {
        self.lines.iter().map(Traffic::commands).sum()
    }

    fn call(&mut self) {
        let number = self.rng.usize(..self.load.circuits);
        let circuit = &self.circuits[self.rng.usize(..self.load.replicas)][number];
        let Ok(permit) = circuit.try_acquire() else { return };
        let failed = self.rng.f64() < self.load.failures;
        self.truth[number].called(failed);
        self.calls += 1;
        permit.settle(if failed { Outcome::failure() } else { Outcome::Success });
    }

    /// Returns an opening that nothing in the true order of calls explains.
    fn judge(&mut self, (at, circuit, reason): (Instant, usize, Reason)) -> Option<String> {
        let truth = &mut self.truth[circuit];
        if truth.opened.is_some_and(|opened| at - opened < ONE_OPENING) {
            return None;
        }
        truth.opened = Some(at);
        let held = match reason {
            Reason::ConsecutiveFailures => truth.reached.is_some_and(|then| at - then <= LAG),
            Reason::FailureRate => truth.rate_was_reached(),
            _ => false,
        };
        (!held).then(|| format!("circuit {circuit}: {reason}"))
    }
}

impl Truth {
    fn called(&mut self, failed: bool) {
        self.streak = if failed { self.streak + 1 } else { 0 };
        if self.streak >= Policy::default().consecutive_failures().unwrap() {
            self.reached = Some(now());
        }
        let second = second();
        let (calls, failures) = self.seconds.entry(second).or_default();
        *calls += 1;
        *failures += u64::from(failed);
        self.seconds = self.seconds.split_off(&second.saturating_sub(WINDOW));
    }

    /// Whether there is a period in the window, up to the lag before now, with such a rate.
    fn rate_was_reached(&self) -> bool {
        let policy = Policy::default();
        let (rate, least) = (policy.failure_rate().unwrap(), policy.minimum_calls());
        (0..=LAG.as_secs()).any(|lag| {
            let (mut calls, mut failures) = (0, 0);
            let until = second().saturating_sub(lag);
            self.seconds.range(..=until).rev().any(|(_, counted)| {
                calls += counted.0;
                failures += counted.1;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let reached = failures as f64 >= rate * calls as f64;
                calls >= least && reached
            })
        })
    }
}

/// Seconds on the paused clock.
fn second() -> u64 {
    std::thread_local! {
        static START: Instant = now();
    }
    START.with(|start| now().duration_since(*start).as_secs())
}
