//! What replicas cost and how fast they agree, on a real redis-server, which each part starts for
//! itself. Every replica is a store with a connection of its own.
//!
//! ```text
//! cargo bench -p tower-breaker-benches --bench cluster
//! cargo bench -p tower-breaker-benches --bench cluster -- trips kills
//! cargo bench -p tower-breaker-benches --bench cluster -- --smoke
//! ```
//!
//! Words select parts: trips, healthy, failing, roll, recovery, hanging, kills, frozen, scripts.

#[path = "cluster/cost.rs"]
mod cost;
#[path = "cluster/frozen.rs"]
mod frozen;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/naive.rs"]
mod naive;
#[path = "cluster/probes.rs"]
mod probes;
#[path = "cluster/server.rs"]
mod server;
#[path = "cluster/stall.rs"]
mod stall;
#[path = "cluster/steady.rs"]
mod steady;
#[path = "cluster/trips.rs"]
mod trips;

use std::time::Duration;

use tower_breaker_benches::report::{self, Limits};

const REPLICAS: usize = 10;

/// How long the parts take, or how often they do what they do.
struct Times {
    smoke: bool,
    /// Before anything is counted.
    settle: Duration,
    trips: usize,
    steady: Duration,
    healthy: Duration,
    failing: Duration,
    rolls: usize,
    /// Stores, and circuits of each.
    fleet: (usize, usize),
    stalls: usize,
    /// After a stall.
    watch: Duration,
    hanging: Duration,
    kills: Duration,
    frozen: Duration,
    /// Commands of each kind.
    commands: usize,
}

impl Times {
    const SMOKE: Self = Self {
        smoke: true,
        settle: s(1),
        trips: 1,
        steady: s(1),
        healthy: s(1),
        failing: s(1),
        rolls: 1,
        fleet: (2, 50),
        stalls: 1,
        watch: s(1),
        hanging: s(1),
        kills: s(1),
        frozen: s(1),
        commands: 100,
    };

    const FULL: Self = Self {
        smoke: false,
        settle: s(5),
        trips: 100,
        steady: s(10),
        healthy: s(60),
        failing: s(30),
        rolls: 25,
        fleet: (24, 1000),
        stalls: 3,
        watch: s(5),
        hanging: s(20),
        kills: s(30),
        frozen: s(20),
        commands: 5_000,
    };

    /// Prints whether a figure keeps its limits, if it means anything.
    fn against(&self, figure: &str, is: f64, limits: Limits) {
        if !self.smoke {
            report::against(figure, is, limits);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let has = |option: &str| args.iter().any(|it| it == option);
    let times = if has("--smoke") || !has("--bench") { Times::SMOKE } else { Times::FULL };
    let words: Vec<_> = args.iter().filter(|it| !it.starts_with('-')).collect();
    let runs = |part: &str| words.is_empty() || words.iter().any(|word| *word == part);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if runs("trips") {
            trips::trips(&times).await?;
        }
        if runs("healthy") {
            steady::healthy(&times).await?;
        }
        if runs("failing") {
            steady::failing(&times).await?;
        }
        if runs("roll") {
            steady::roll_call(&times).await?;
        }
        if runs("recovery") {
            stall::recovery(&times).await?;
        }
        if runs("hanging") {
            probes::hanging(&times).await?;
        }
        if runs("kills") {
            probes::kills(&times).await?;
        }
        if runs("frozen") {
            frozen::frozen(&times).await?;
        }
        if runs("scripts") {
            cost::scripts(times.commands).await?.print();
        }
        Ok(())
    })
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
