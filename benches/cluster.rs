//! Ten replicas on one Redis: how fast all open, how many calls get through meanwhile, and what
//! Redis is asked. Beside them a naive circuit breaker, which asks Redis before and after each
//! call.

#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/naive.rs"]
mod naive;
#[expect(
    clippy::disallowed_methods,
    reason = "it reads a variable of the crate's, as the example does"
)]
#[path = "../examples/cluster/redis.rs"]
mod redis;

use std::time::Duration;

use anyhow::Context;
use fred::prelude::*;
use fred::types::InfoKind;
use load::{Breaker, Cluster, Trip};
use redis::Redis;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_breaker::backend::{RedisBackend, RedisConfig};
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::clock;
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
        async move {
            // At once a busy Redis may not answer; the circuit goes on telling it.
            while circuit.reset().await.is_err() {}
            Ok(())
        }
    };
    let ours_measured = measure(circuits, close, &server, trips, steady).await?;

    let naive = naive::join(&redis, REPLICAS, THRESHOLD).await?;
    let first = naive[0].clone();
    let close = || {
        let first = first.clone();
        async move { first.close().await }
    };
    let naive_measured = measure(naive, close, &server, trips, steady).await?;

    println!("\n{REPLICAS} replicas, {CALLS_PER_SECOND} calls a second each, {trips} trips\n");
    let mut rows = vec![
        [
            "",
            "all open after, p50 ms",
            "p99",
            "calls let through, p50",
            "p99",
            "commands per call",
            "wait per call, p50 us",
            "p99",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (name, measured) in [
        ("tower-breaker", &ours_measured),
        ("naive: a read before and a write after each call", &naive_measured),
    ] {
        let [open, through] = [measured.open(), measured.let_through()];
        let mut row = vec![name.to_owned()];
        row.extend([50, 99].map(|percent| figure(percentile(&open, percent))));
        row.extend([50, 99].map(|percent| figure(percentile(&through, percent))));
        row.push(format!("{:.4}", measured.commands_per_call));
        row.extend([50, 99].map(|percent| figure(percentile(&measured.waits, percent))));
        rows.push(row);
    }
    table(&rows);

    let (circuits, commands) = many(&ours, &server, steady).await?;
    println!(
        "\n{REPLICAS} replicas, {circuits} circuits each, all in use: {commands:.0} commands a second"
    );
    let lasting = if smoke { steady } else { steady * 3 };
    let frozen = match redis.is_ours() {
        true => Some(frozen(&redis, &ours, lasting).await?),
        false => None,
    };
    if let Some([closed, probing, grown, back]) = frozen {
        println!(
            "Redis frozen for {lasting:?}: the slowest admission took {closed:.1} ms closed, {probing:.1} \
             ms while probing; the process grew by {grown:.1} MB; all agreed {back:.0} ms after it thawed"
        );
    }
    if !smoke {
        println!();
        let Measured { commands_per_call, .. } = ours_measured;
        verdict("all open, p99, ms", percentile(&ours_measured.open(), 99), 20.0, "20");
        verdict(
            "calls let through, p99",
            percentile(&ours_measured.let_through(), 99),
            100.0,
            "100",
        );
        verdict("commands per hundred calls", commands_per_call * 100.0, 2.0, "2");
        // The budget, and one ping a second; and one command more, as a second begins anywhere.
        let allowed = REPLICAS as f64 * (50.0 + 1.0 + 1.0 / steady.as_secs_f64());
        verdict("commands a second with 100 circuits", commands, allowed, "the formula's");
        if let Some([closed, probing, _, back]) = frozen {
            verdict("slowest admission, frozen, ms", closed.max(probing), 70.0, "deadline + 20");
            verdict("agreement is back, ms", back, 2_000.0, "2000");
        }
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

struct Measured {
    trips: Vec<Trip>,
    commands_per_call: f64,
    /// While all is well, how long each call waited before it was made, in microseconds.
    waits: Vec<f64>,
}

impl Measured {
    fn open(&self) -> Vec<f64> {
        self.trips.iter().map(|trip| trip.all_open_ms).collect()
    }

    fn let_through(&self) -> Vec<f64> {
        self.trips.iter().map(|trip| trip.leaked as f64).collect()
    }
}

async fn measure<B, F>(
    breakers: Vec<B>,
    close: impl Fn() -> F,
    server: &Client,
    trips: usize,
    steady: Duration,
) -> anyhow::Result<Measured>
where
    B: Breaker,
    F: Future<Output = anyhow::Result<()>>,
{
    let cluster = Cluster::start(breakers, CALLS_PER_SECOND, THRESHOLD);
    cluster.settle().await;
    cluster.waits();
    let before = (commands(server).await?, cluster.calls());
    tokio::time::sleep(steady).await;
    let after = (commands(server).await?, cluster.calls());
    let commands_per_call = (after.0 - before.0) / (after.1 - before.1) as f64;
    let waits = cluster.waits();

    let mut measured = Vec::new();
    for _ in 0..trips {
        measured.push(cluster.trip().await?);
        // A naive replica may be about to say that it is open.
        let closed = async {
            loop {
                close().await?;
                if timeout(Duration::from_secs(1), cluster.settle()).await.is_ok() {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(Duration::from_secs(30), closed).await.context("not all closed")??;
    }
    cluster.stop().await;
    Ok(Measured { trips: measured, commands_per_call, waits })
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

/// What a call waits for while Redis is frozen, in milliseconds at worst: closed, and as a probe;
/// by how many megabytes this process grows; and how many milliseconds after its end what one
/// replica says holds on all again.
async fn frozen(redis: &Redis, stores: &[Store], lasting: Duration) -> anyhow::Result<[f64; 4]> {
    let short = Policy::builder()
        .consecutive_failures(1)
        .open_for(Duration::from_millis(200))
        .backoff(1.0, Duration::from_millis(200))
        .build()?;
    let join =
        |store: &Store| (store.circuit("closed"), store.circuit_with("probing", short.clone()));
    let circuits: Vec<_> = stores.iter().map(join).collect();
    circuits[0].1.acquire().await?.settle(Outcome::failure());
    for (_, probing) in &circuits {
        while probing.state() == State::Closed {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // The first probes are asked for when it has just been frozen, and nobody knows yet.
    tokio::time::sleep(Duration::from_millis(170)).await;
    redis.freeze(true)?;
    let before = resident_megabytes()?;
    let end = clock::now() + lasting;
    let mut drivers = JoinSet::new();
    for (closed, probing) in circuits {
        for (circuit, well) in [(closed, true), (probing, false)] {
            drivers.spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_millis(1));
                let (mut slowest, mut calls) = (Duration::ZERO, 0_u64);
                while clock::now() < end || calls == 0 && well {
                    tick.tick().await;
                    let start = clock::now();
                    let permit = circuit.acquire().await;
                    slowest = slowest.max(start.elapsed());
                    calls += u64::from(permit.is_ok());
                    if let Ok(permit) = permit {
                        permit.settle(if well { Outcome::Success } else { Outcome::failure() });
                    }
                }
                (well, slowest)
            });
        }
    }
    let (mut closed, mut probing) = (Duration::ZERO, Duration::ZERO);
    while let Some(driver) = drivers.join_next().await {
        let (well, slowest) = driver?;
        let worst = if well { &mut closed } else { &mut probing };
        *worst = slowest.max(*worst);
    }
    let grown = resident_megabytes()? - before;
    redis.freeze(false)?;
    let thawed = clock::now();
    let circuits: Vec<_> = stores.iter().map(|store| store.circuit("closed")).collect();
    while circuits[0].force_open("to be heard by all").await.is_err() {}
    while circuits.iter().any(|circuit| circuit.state() != State::ForcedOpen) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let back = thawed.elapsed();
    Ok([closed, probing, back].map(|time| time.as_secs_f64() * 1000.0))
        .map(|[closed, probing, back]| [closed, probing, grown, back])
}

fn resident_megabytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("Linux has it")?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
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

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
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
