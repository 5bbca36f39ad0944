//! Health tells what is wrong, and never that a working replica must go.

use tower_breaker::backend::MemoryBackend;
use tower_breaker::health::{Health, Status};
use tower_breaker::{Outcome, Policy, State, Store};

use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic};
use crate::support::*;

fn names(health: &Health) -> Vec<&str> {
    health.circuits.iter().map(|circuit| circuit.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_degrades_the_store_and_keeps_it_ready() {
    let store = Store::builder().default_policy(fragile().build().unwrap()).build();
    assert_eq!(store.health().status, Status::Healthy);
    let [_, bad] = ["a", "b"].map(|name| store.circuit(name));
    trip(&bad);
    let health = store.health();
    assert_eq!((health.status, health.is_ready()), (Status::Degraded, true));
    assert_eq!(health.http_status(), 200);
    assert_eq!(names(&health), ["b", "a"], "what is wrong first");
    let bad = &health.circuits[0];
    assert!(bad.rejects && bad.state == State::Open && bad.retry_after.is_some());
    assert_eq!(health.circuits[1].status(), Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_critical_circuit_lets_the_replica_be_ready_for_its_probe() {
    let policy = fragile().open_for(s(10)).jitter(0.0).build().unwrap();
    let store = Store::builder().default_policy(policy).critical("database").build();
    let database = store.circuit("database");
    trip(&database);
    assert_eq!(
        (store.health().status, store.health().http_status().as_u16()),
        (Status::Unready, 503)
    );
    // Without calls there is no probe: nothing but time may make the replica ready.
    advance(s(10)).await;
    assert_eq!(store.health().status, Status::Degraded);
    let mut probes = Vec::new();
    while let Ok(probe) = database.try_acquire() {
        probes.push(probe);
    }
    assert_eq!(store.health().status, Status::Unready, "every probe slot is taken");
    for probe in probes {
        probe.settle(Outcome::Success);
    }
    assert_eq!(store.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_degrades_the_store_and_keeps_it_ready() {
    let replica = Replica::join(&Traffic::over(&MemoryBackend::new()), fragile());
    wait_for("a connected store", || replica.store.health().status == Status::Healthy).await;
    replica.line.set(Fault::Pauses);
    wait_for("a degraded store", || replica.store.backend().is_degraded()).await;
    let health = replica.store.health();
    assert_eq!((health.status, health.is_ready()), (Status::Degraded, true));
    assert!(health.circuits[0].detached);
}

#[test]
fn circuits_of_keys_are_listed_if_they_are_not_closed() {
    let store = Store::builder().default_policy(fragile().build().unwrap()).build();
    let keyed = store.keyed("hosts");
    let circuits: Vec<_> = (0..2_000).map(|n| keyed.circuit(&n.to_string()).unwrap()).collect();
    let health = store.health();
    assert_eq!((health.status, health.circuits.len(), health.omitted), (Status::Healthy, 0, 2_000));
    trip(&circuits[7]);
    assert_eq!(names(&store.health()), ["hosts:7"]);
    circuits.iter().for_each(trip);
    let health = store.health();
    assert_eq!((health.circuits.len(), health.omitted), (Health::MOST_CIRCUITS, 1_000));
}

#[test]
fn a_failure_ratio_is_a_number_once_there_are_enough_calls() {
    let policy = Policy::only().failure_rate(0.5).minimum_calls(10).build().unwrap();
    let store = Store::builder().default_policy(policy).build();
    let circuit = store.circuit("a");
    let ratio = || store.health().circuits[0].failure_ratio;
    for call in 0..9 {
        let outcome = if call % 3 == 0 { Outcome::failure() } else { Outcome::Success };
        circuit.try_acquire().unwrap().settle(outcome);
        assert_eq!(ratio(), None);
    }
    circuit.try_acquire().unwrap().settle(Outcome::Success);
    assert_eq!(ratio(), Some(0.3));
    assert_eq!(store.health().circuits[0].failure_ratio_threshold, Some(0.5));
}
