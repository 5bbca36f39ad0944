//! What 200 replicas with 1000 circuits send, each circuit with 2 % failures, and what that costs a
//! Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::sleep;
use tower_breaker::backend::{Backend, MemoryBackend, Notice};
use tower_breaker::{Circuit, Outcome, State, Store};
use tower_breaker_benches::watched::{Kind, Watched};

use super::cost::{CIRCUITS, REPLICAS};
use super::fleet::LATENCY;
use super::support::{ms, now, s};

const CALLS_PER_SECOND: f64 = 1.0;
const FAILURES: f64 = 0.02;
const STEP: Duration = ms(10);

/// Before anything is counted: all circuits are suspect by then.
const SETTLE: Duration = s(60);

/// A second of the fleet.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    pub(crate) sent: [f64; Kind::ALL.len()],
    pub(crate) reports: f64,
    pub(crate) views: f64,
    /// Changes that are published.
    pub(crate) changes: f64,
    pub(crate) open: usize,
}

pub(crate) async fn measure(time: Duration, smoke: bool) -> Rates {
    let (replicas, circuits) = if smoke { (20, 50) } else { (REPLICAS, CIRCUITS) };
    let backend = MemoryBackend::new();
    let mut changes = backend.subscribe();
    let mut joined: Vec<(Watched, Store, Vec<Circuit>)> = Vec::new();
    for number in 0..replicas {
        let line = Watched::new(Arc::new(backend.clone()), LATENCY);
        let store = Store::builder().backend(line.clone()).replica(format!("replica {number}"));
        let store = store.build();
        let circuits = (0..circuits).map(|n| store.circuit(n.to_string())).collect();
        joined.push((line, store, circuits));
    }
    let mut rng = fastrand::Rng::with_seed(1);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each_step = (replicas * circuits) as f64 * CALLS_PER_SECOND * STEP.as_secs_f64();
    let (mut due, mut published, start) = (0.0, 0_u64, now());
    let mut before: Option<([u64; Kind::ALL.len()], u64, u64)> = None;
    let settle = if smoke { s(5) } else { SETTLE };
    while now() - start < settle + time {
        sleep(STEP).await;
        due += each_step;
        while due >= 1.0 {
            due -= 1.0;
            let circuit = &joined[rng.usize(..replicas)].2[rng.usize(..circuits)];
            let Ok(permit) = circuit.try_acquire() else { continue };
            let failed = rng.f64() < FAILURES;
            permit.settle(if failed { Outcome::failure() } else { Outcome::Success });
        }
        loop {
            match changes.try_recv() {
                Ok(Notice::Changed { .. }) => published += 1,
                Err(TryRecvError::Lagged(missed)) => published += missed,
                Err(_) => break,
                Ok(_) => {}
            }
        }
        if before.is_none() && now() - start >= settle {
            (before, published) = (Some(totals(&joined)), 0);
        }
    }
    let (sent, reports, views) = totals(&joined);
    let before = before.unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = |before: u64, after: u64| (after - before) as f64 / time.as_secs_f64();
    let circuits = joined.iter().flat_map(|(.., circuits)| circuits);
    Rates {
        sent: std::array::from_fn(|kind| rate(before.0[kind], sent[kind])),
        reports: rate(before.1, reports),
        views: rate(before.2, views),
        changes: rate(0, published),
        open: circuits.filter(|circuit| circuit.state() != State::Closed).count(),
    }
}

fn totals(joined: &[(Watched, Store, Vec<Circuit>)]) -> ([u64; Kind::ALL.len()], u64, u64) {
    let sum = |count: &dyn Fn(&Watched) -> u64| joined.iter().map(|(line, ..)| count(line)).sum();
    (
        Kind::ALL.map(|kind| sum(&|line| line.sent(kind))),
        sum(&Watched::reports),
        sum(&Watched::views),
    )
}
