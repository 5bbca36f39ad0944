//! What a call waits for while Redis is frozen or gone.

use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::Limits;

use super::server::Server;
use super::{REPLICAS, Times, ms};

/// The most that a call waits, of a store that sets no other.
const DEADLINE: f64 = 50.0;

#[derive(Default)]
struct Slowest {
    closed: Duration,
    probing: Duration,
}

pub async fn frozen(times: &Times) -> anyhow::Result<()> {
    for kill in [false, true] {
        let mut server = Server::start()?;
        let mut stores = Vec::new();
        for _ in 0..REPLICAS {
            stores.push(Store::builder().backend(server.connect().await?).build());
        }
        let circuits = open(&stores).await?;
        // The first probes are asked for when it has just been frozen, and nobody knows yet.
        sleep(Duration::from_millis(170)).await;
        if kill {
            server.kill()?
        } else {
            server.freeze(true)?
        }
        let before = resident_megabytes()?;
        let slowest = admit(circuits, times.frozen).await?;
        let grown = resident_megabytes()? - before;
        if kill {
            server.restart()?
        } else {
            server.freeze(false)?
        }
        let start = clock::now();
        let circuits: Vec<_> = stores.iter().map(|store| store.circuit("closed")).collect();
        while circuits[0].force_open("to be known to all").await.is_err() {}
        while circuits.iter().any(|circuit| circuit.state() != State::ForcedOpen) {
            sleep(Duration::from_millis(1)).await;
        }
        let back = ms(start.elapsed());
        let [closed, probing] = [slowest.closed, slowest.probing].map(ms);
        let what = if kill { "killed" } else { "frozen" };
        println!(
            "\nRedis {what} for {:?}: the slowest admission took {closed:.1} ms closed, {probing:.1} ms \
             while probing; the process grew by {grown:.1} MB; all agreed {back:.0} ms after its return",
            times.frozen
        );
        // The tasks of two threads wait for each other, too.
        let limits = Limits { must: DEADLINE + 20.0, aim: DEADLINE };
        times.against(&format!("slowest admission, {what}, probing, ms"), probing, limits);
        let limits = Limits { must: 20.0, aim: 1.0 };
        times.against(&format!("slowest admission, {what}, closed, ms"), closed, limits);
        times.against("agreement is back, ms", back, Limits { must: 5_000.0, aim: 2_000.0 });
    }
    Ok(())
}

/// Of each store a circuit that is closed, and one that is open for a moment only.
async fn open(stores: &[Store]) -> anyhow::Result<Vec<(Circuit, Circuit)>> {
    let short = Policy::builder()
        .consecutive_failures(1)
        .open_for(Duration::from_millis(200))
        .backoff(1.0, Duration::from_millis(200))
        .build()?;
    let join =
        |store: &Store| (store.circuit("closed"), store.circuit_with("probing", short.clone()));
    let circuits: Vec<_> = stores.iter().map(join).collect();
    sleep(Duration::from_millis(500)).await;
    circuits[0].1.acquire().await?.settle(Outcome::failure());
    for (_, probing) in &circuits {
        while probing.state() == State::Closed {
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(circuits)
}

/// A thousand admissions a second of each circuit.
async fn admit(circuits: Vec<(Circuit, Circuit)>, lasting: Duration) -> anyhow::Result<Slowest> {
    let end = clock::now() + lasting;
    let mut drivers = JoinSet::new();
    for (closed, probing) in circuits {
        for (circuit, succeeds) in [(closed, true), (probing, false)] {
            drivers.spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_millis(1));
                let mut slowest = Duration::ZERO;
                while clock::now() < end {
                    tick.tick().await;
                    let start = clock::now();
                    let permit = circuit.acquire().await;
                    slowest = slowest.max(start.elapsed());
                    if let Ok(permit) = permit {
                        permit.settle(if succeeds { Outcome::Success } else { Outcome::failure() });
                    }
                }
                (succeeds, slowest)
            });
        }
    }
    let mut slowest = Slowest::default();
    while let Some(driver) = drivers.join_next().await {
        let (succeeds, time) = driver?;
        let worst = if succeeds { &mut slowest.closed } else { &mut slowest.probing };
        *worst = time.max(*worst);
    }
    Ok(slowest)
}

fn resident_megabytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("Linux has it")?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}
