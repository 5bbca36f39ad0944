//! Ten replicas on one Redis: how fast all open, how many calls get through meanwhile, and what Redis
//! is asked. Beside them a naive circuit breaker, which asks Redis before and after each call.

#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/naive.rs"]
mod naive;
#[path = "../examples/cluster/redis.rs"]
mod redis;

use std::time::Duration;

use anyhow::Context;
use fred::prelude::*;
use load::{Breaker, Cluster, Trip};
use redis::Redis;
use tower_breaker::backend::{RedisBackend, RedisConfig};
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::report::{figure, table, verdict};

const REPLICAS: usize = 10;
const CALLS_PER_SECOND: u64 = 1_000;

/// Failures in a row, over all replicas, that open the circuit.
const THRESHOLD: usize = 20;

fn main() -> anyhow::Result<()> {
    let smoke =
        std::env::args().any(|it| it == "--smoke") || !std::env::args().any(|it| it == "--bench");
    let (trips, steady) = if smoke { (1, 1) } else { (100, 10) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(trips, Duration::from_secs(steady), smoke))
}

async fn run(trips: usize, steady: Duration, smoke: bool) -> anyhow::Result<()> {
    let redis = Redis::from_env_or_start().await?;
    let server = Client::new(Config::from_url(redis.url())?, None, None, None);
    server.init().await?;

    let policy = Policy::builder()
        .consecutive_failures(THRESHOLD as u64)
        .open_for(Duration::from_secs(60))
        .build()?;
    let ours = join(&redis, &policy).await?;
    let circuits = ours.iter().map(|store| store.circuit("upstream")).collect();
    let circuits: Vec<Circuit> = circuits;
    let closed = circuits[0].clone();
    let close = || {
        let circuit = closed.clone();
        async move { circuit.reset().await.context("nobody was told") }
    };
    let (our_trips, our_commands) = measure(circuits, close, &server, trips, steady).await?;

    let naive = naive::join(&redis, REPLICAS, THRESHOLD).await?;
    let first = naive[0].clone();
    let close = || {
        let first = first.clone();
        async move { first.close().await }
    };
    let (naive_trips, naive_commands) = measure(naive, close, &server, trips, steady).await?;

    println!("\n{REPLICAS} replicas, {CALLS_PER_SECOND} calls a second each, {trips} trips\n");
    let mut rows = vec![
        ["", "all open after, p50 ms", "p99", "calls let through, p50", "p99", "commands per call"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, trips, commands) in [
        ("tower-breaker", &our_trips, our_commands),
        ("naive: a read before and a write after each call", &naive_trips, naive_commands),
    ] {
        let open = |percent| percentile(trips.iter().map(|trip| trip.all_open_ms), percent);
        let leaked = |percent| percentile(trips.iter().map(|trip| trip.leaked as f64), percent);
        let figures = [open(50), open(99), leaked(50), leaked(99)].map(figure);
        let mut row = vec![name.to_owned()];
        row.extend(figures);
        row.push(format!("{commands:.4}"));
        rows.push(row);
    }
    table(&rows);

    let (circuits, commands) = many(&ours, &server, steady).await?;
    println!(
        "\n{REPLICAS} replicas, {circuits} circuits each, all in use: {commands:.0} commands a second"
    );
    if !smoke {
        println!();
        let p99 = percentile(our_trips.iter().map(|trip| trip.all_open_ms), 99);
        verdict("all open, p99, ms", p99, 20.0, "20");
        let leaked = percentile(our_trips.iter().map(|trip| trip.leaked as f64), 99);
        verdict("calls let through, p99", leaked, 100.0, "100");
        verdict("commands per hundred calls", our_commands * 100.0, 2.0, "2");
        // The budget, and one ping a second.
        let allowed = (REPLICAS * (50 + 1)) as f64;
        verdict("commands a second with 100 circuits", commands, allowed, "the formula's");
    }
    Ok(())
}

async fn join(redis: &Redis, policy: &Policy) -> anyhow::Result<Vec<Store>> {
    let mut stores = Vec::new();
    for _ in 0..REPLICAS {
        let backend = RedisBackend::connect(&RedisConfig::from_url(redis.url())?).await?;
        stores.push(Store::builder().default_policy(policy.clone()).backend(backend).build());
    }
    Ok(stores)
}

/// Trips, and commands per call while all is well.
async fn measure<B, F>(
    breakers: Vec<B>,
    close: impl Fn() -> F,
    server: &Client,
    trips: usize,
    steady: Duration,
) -> anyhow::Result<(Vec<Trip>, f64)>
where
    B: Breaker,
    F: Future<Output = anyhow::Result<()>>,
{
    let cluster = Cluster::start(breakers, CALLS_PER_SECOND, THRESHOLD);
    cluster.settle().await;
    let before = (commands(server).await?, cluster.calls());
    tokio::time::sleep(steady).await;
    let after = (commands(server).await?, cluster.calls());
    let per_call = (after.0 - before.0) / (after.1 - before.1) as f64;

    let mut measured = Vec::new();
    for _ in 0..trips {
        measured.push(cluster.trip().await?);
        close().await?;
        cluster.settle().await;
    }
    cluster.stop().await;
    Ok((measured, per_call))
}

/// A hundred circuits in each replica, all in use.
async fn many(stores: &[Store], server: &Client, steady: Duration) -> anyhow::Result<(usize, f64)> {
    const CIRCUITS: usize = 100;
    let circuits: Vec<_> = stores
        .iter()
        .flat_map(|store| (0..CIRCUITS).map(|n| store.circuit(format!("circuit {n}"))))
        .collect();
    let calls = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            for circuit in &circuits {
                if let Ok(permit) = circuit.acquire().await {
                    permit.settle(Outcome::Success);
                }
            }
        }
    };
    let count = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = commands(server).await?;
        tokio::time::sleep(steady).await;
        anyhow::Ok((commands(server).await? - before) / steady.as_secs_f64())
    };
    tokio::select! {
        () = calls => unreachable!("they go on"),
        commands = count => Ok((CIRCUITS, commands?)),
    }
}

/// How many commands the server has run that no script has called, and how many scripts.
async fn commands(server: &Client) -> anyhow::Result<f64> {
    let stats: String = server.info(Some(InfoKind::CommandStats)).await?;
    let calls = |command: &str| -> f64 {
        let line =
            stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
    };
    // What the naive one sends; scripts of ours call neither.
    let naive = ["get", "set", "incr"].into_iter().map(calls).sum::<f64>();
    Ok(calls("evalsha") + calls("eval") + calls("ping") + naive)
}

fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    values[rank.min(values.len() - 1)]
}

impl Breaker for Circuit {
    async fn call<F: Future<Output = bool> + Send>(&self, call: impl FnOnce() -> F + Send) {
        if let Ok(permit) = self.acquire().await {
            let well = call().await;
            permit.settle(if well { Outcome::Success } else { Outcome::failure() });
        }
    }

    async fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }
}
