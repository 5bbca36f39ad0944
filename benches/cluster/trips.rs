//! How fast all replicas open, and how many calls get through meanwhile. Beside them a naive circuit
//! breaker, which asks Redis before and after each call.

use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::report::{Limits, figure, percentile, table};

use super::load::{Breaker, Cluster, Trip};
use super::server::Server;
use super::{REPLICAS, Times, naive};

const CALLS_PER_SECOND: u64 = 1_000;

/// Failures in a row, over all replicas, that open the circuit.
const THRESHOLD: usize = 20;

/// How many circuits the replicas have besides.
const OTHERS: usize = 1000;

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

pub async fn trips(times: &Times) -> anyhow::Result<()> {
    let server = Server::start()?;
    let policy = Policy::builder()
        .consecutive_failures(THRESHOLD as u64)
        .open_for(Duration::from_secs(60))
        .build()?;
    let mut stores = Vec::new();
    for number in 0..REPLICAS {
        let store = Store::builder().default_policy(policy.clone());
        let store = store.backend(server.connect().await?).replica(format!("replica {number}"));
        stores.push(store.build());
    }
    let others = stores.iter().flat_map(|store| (0..OTHERS).map(|n| store.circuit(n.to_string())));
    let others: Vec<_> = others.collect();
    let circuits: Vec<Circuit> = stores.iter().map(|store| store.circuit("upstream")).collect();
    let closed = circuits[0].clone();
    let close = || {
        let circuit = closed.clone();
        async move {
            // A busy Redis may not answer at once.
            while circuit.reset().await.is_err() {}
            Ok(())
        }
    };
    let ours = measure(circuits, close, &server, times).await?;
    drop(others);
    drop(stores);

    let naive = naive::join(&server, REPLICAS, THRESHOLD).await?;
    let first = naive[0].clone();
    let close = || {
        let first = first.clone();
        async move { first.close().await }
    };
    let naive = measure(naive, close, &server, times).await?;

    println!(
        "\n{REPLICAS} replicas, {CALLS_PER_SECOND} calls a second each, {} trips\n",
        times.trips
    );
    let header = [
        "",
        "all open after, p50 ms",
        "p99",
        "calls let through, p50",
        "p99",
        "commands per call",
        "wait per call, p50 us",
        "p99",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (name, measured) in
        [("tower-breaker", &ours), ("naive: a read before and a write after each call", &naive)]
    {
        let [open, through] = [measured.open(), measured.let_through()];
        let mut row = vec![name.to_owned()];
        row.extend([50, 99].map(|percent| figure(percentile(&open, percent))));
        row.extend([50, 99].map(|percent| figure(percentile(&through, percent))));
        row.push(format!("{:.4}", measured.commands_per_call));
        row.extend([50, 99].map(|percent| figure(percentile(&measured.waits, percent))));
        rows.push(row);
    }
    table(&rows);
    println!();
    let limits = Limits { must: 20.0, aim: 5.0 };
    times.against("all open, p99, ms", percentile(&ours.open(), 99), limits);
    let limits = Limits { must: 100.0, aim: 40.0 };
    times.against("calls let through, p99", percentile(&ours.let_through(), 99), limits);
    Ok(())
}

async fn measure<B, F>(
    breakers: Vec<B>,
    close: impl Fn() -> F,
    server: &Server,
    times: &Times,
) -> anyhow::Result<Measured>
where
    B: Breaker,
    F: Future<Output = anyhow::Result<()>>,
{
    let cluster = Cluster::start(breakers, CALLS_PER_SECOND, THRESHOLD);
    cluster.settle().await;
    tokio::time::sleep(times.settle).await;
    cluster.waits();
    let before = (server.commands()?, cluster.calls());
    tokio::time::sleep(times.steady).await;
    let after = (server.commands()?, cluster.calls());
    let commands_per_call = (after.0 - before.0) / (after.1 - before.1) as f64;
    let waits = cluster.waits();

    let mut measured = Vec::new();
    for _ in 0..times.trips {
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
