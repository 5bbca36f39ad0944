//! A slow server stalls for a moment, or drops all connections: when the fleet is whole again.

use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::{Circuit, Outcome, Store};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::Limits;

use super::Times;
use super::server::Server;

type Fleet = Vec<(Store, Vec<Circuit>)>;

pub async fn recovery(times: &Times) -> anyhow::Result<()> {
    let (stores, circuits) = times.fleet;
    let server = Server::start()?;
    let mut fleet = Vec::new();
    for _ in 0..stores {
        let store = Store::builder().backend(server.connect().await?).build();
        let circuits: Vec<_> = (0..circuits).map(|n| store.circuit(n.to_string())).collect();
        fleet.push((store, circuits));
    }
    // Until the last has read all of its groups.
    sleep(times.settle).await;
    println!("\n{stores} x {circuits} on a slow server");
    let mut paused = Vec::new();
    for stall in ["a pause of 400 ms", "the loss of all connections"] {
        for _ in 0..times.stalls {
            let slowed = server.slow()?;
            call(&fleet, Duration::from_secs(1)).await;
            let before = detached(&fleet);
            if stall.starts_with('a') {
                server.ask("CLIENT PAUSE 400 ALL")?;
            } else {
                server.drop_clients()?;
            }
            let (mut most, mut back) = (0, None);
            let start = clock::now();
            // Until it has been well for a while: what is noticed late counts.
            while start.elapsed() < Duration::from_secs(30)
                && back.is_none_or(|back| start.elapsed() < back + times.watch)
            {
                call(&fleet, Duration::from_millis(40)).await;
                most = most.max(detached(&fleet));
                match (is_synced(&fleet), back) {
                    (true, None) => back = Some(start.elapsed()),
                    (false, Some(_)) => back = None,
                    _ => {}
                }
            }
            drop(slowed);
            let back = back.map_or(f64::INFINITY, |back| back.as_secs_f64());
            println!(
                "after {stall}: all synced within {back:.2} s; {before} circuits were detached before, \
                 {most} at most since"
            );
            paused.push((stall, back, most));
            sleep(Duration::from_millis(500)).await;
        }
    }
    for (stall, back, most) in paused {
        let limits = Limits { must: 5.0, aim: 5.0 };
        times.against(&format!("synced after {stall}, s"), back, limits);
        if stall.starts_with('a') {
            let limits = Limits { must: f64::INFINITY, aim: 0.0 };
            times.against("circuits detached by the pause", most as f64, limits);
        }
    }
    Ok(())
}

/// Calls each circuit once, spread over this time.
async fn call(fleet: &Fleet, time: Duration) {
    for tenth in 0..10 {
        for (_, circuits) in fleet {
            for circuit in circuits.iter().skip(tenth).step_by(10) {
                if let Ok(permit) = circuit.try_acquire() {
                    permit.settle(Outcome::Success);
                }
            }
        }
        sleep(time / 10).await;
    }
}

fn detached(fleet: &Fleet) -> usize {
    let circuits = fleet.iter().flat_map(|(_, circuits)| circuits);
    circuits.filter(|circuit| circuit.snapshot().detached).count()
}

fn is_synced(fleet: &Fleet) -> bool {
    let connected = |(store, _): &(Store, _)| store.backend().to_string() == "connected";
    fleet.iter().all(connected) && detached(fleet) == 0
}
