//! Probes: what refused leases cost, and how many leases are out at once while replicas are killed
//! and lose their connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_breaker::circuit::Permit;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::Limits;
use tower_breaker_benches::watched::{Leases, Watched};

use super::server::Server;
use super::{REPLICAS, Times};

const PROBES: u64 = 2;
const LEASE: Duration = Duration::from_secs(1);

async fn join(
    server: &Server,
    policy: &Policy,
    leases: &Leases,
) -> anyhow::Result<(Watched, Store, Circuit)> {
    let line = Watched::counting(Arc::new(server.connect().await?), leases);
    let store = Store::builder().default_policy(policy.clone()).backend(line.clone()).build();
    let circuit = store.circuit("upstream");
    Ok((line, store, circuit))
}

/// Acquires until there is a permit.
async fn acquire(circuit: &Circuit) -> Permit {
    loop {
        match circuit.acquire().await {
            Ok(permit) => return permit,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The only probe hangs, and all replicas want another one.
pub async fn hanging(times: &Times) -> anyhow::Result<()> {
    let server = Server::start()?;
    let policy = Policy::builder()
        .consecutive_failures(1)
        .open_for(Duration::from_millis(500))
        .probes(1)
        .probe_lease(Duration::from_secs(3600))
        .build()?;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(join(&server, &policy, &Leases::default()).await?);
    }
    sleep(Duration::from_secs(1)).await;
    acquire(&replicas[0].2).await.settle(Outcome::failure());
    while replicas.iter().any(|(.., circuit)| circuit.state() == State::Closed) {
        sleep(Duration::from_millis(1)).await;
    }
    let probe = acquire(&replicas[0].2).await;
    sleep(Duration::from_millis(500)).await;
    let refused = || replicas.iter().map(|(line, ..)| line.refused_leases()).max();
    let before: Vec<_> = replicas.iter().map(|(line, ..)| line.refused_leases()).collect();
    let (start, mut calls) = (clock::now(), 0_u64);
    while start.elapsed() < times.hanging {
        for (.., circuit) in &replicas {
            calls += 1;
            assert!(circuit.acquire().await.is_err(), "the only probe hangs");
        }
        sleep(Duration::from_millis(5)).await;
    }
    let since =
        replicas.iter().zip(before).map(|((line, ..), before)| line.refused_leases() - before);
    let most = since.max().unwrap_or_default() as f64 / start.elapsed().as_secs_f64();
    println!(
        "\nthe only probe hangs, {REPLICAS} replicas make {calls} calls in {:?}: at most {most:.2} refused \
         leases a second of a replica ({} since it opened)",
        times.hanging,
        refused().unwrap_or_default(),
    );
    drop(probe);
    times.against("refused leases a second of a replica", most, Limits { must: 1.0, aim: 0.0 });
    Ok(())
}

/// Replicas probe an upstream that is down, while replicas are killed with their probes, and
/// connections are lost.
pub async fn kills(times: &Times) -> anyhow::Result<()> {
    let server = Server::start()?;
    let policy = Policy::builder()
        .consecutive_failures(1)
        .open_for(Duration::from_millis(50))
        .backoff(1.0, Duration::from_millis(50))
        .probes(PROBES)
        .successes_to_close(1_000_000)
        .probe_lease(LEASE)
        .build()?;
    let leases = Leases::default();
    let mut running = JoinSet::new();
    let (end, mut kills) = (clock::now() + times.kills, 0);
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(join(&server, &policy, &leases).await?);
    }
    sleep(Duration::from_millis(500)).await;
    acquire(&replicas[0].2).await.settle(Outcome::failure());
    while replicas.iter().any(|(.., circuit)| circuit.state() == State::Closed) {
        sleep(Duration::from_millis(1)).await;
    }
    let mut tasks: Vec<_> =
        replicas.into_iter().map(|it| (it.0.clone(), running.spawn(probe(it.1, it.2)))).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    while clock::now() < end {
        sleep(Duration::from_millis(100)).await;
        if rng.u8(..3) == 0 {
            server.drop_clients()?;
        }
        // Its probes stay out until their leases are over.
        let (line, task) = tasks.remove(rng.usize(..tasks.len()));
        line.kill();
        task.abort();
        kills += 1;
        let (line, store, circuit) = join(&server, &policy, &leases).await?;
        tasks.push((line, running.spawn(probe(store, circuit))));
    }
    running.shutdown().await;
    let most = leases.most();
    println!(
        "\n{} leases of {REPLICAS} replicas, {kills} of which were killed: {most} out at once at most",
        leases.number()
    );
    let limit = PROBES as f64;
    times.against("leases out at once", most as f64, Limits { must: limit, aim: limit });
    Ok(())
}

async fn probe(_store: Store, circuit: Circuit) {
    let mut rng = fastrand::Rng::new();
    loop {
        if let Ok(permit) = circuit.acquire().await {
            sleep(Duration::from_millis(rng.u64(1..60))).await;
            // A killed one settles nothing: its backend takes no command.
            permit.settle(if rng.u8(..4) == 0 { Outcome::failure() } else { Outcome::Success });
        }
        sleep(Duration::from_millis(3)).await;
    }
}
