//! Replicas of one cluster, in one process, on a backend in memory.

use std::sync::{Arc, Mutex};

use tower_breaker::backend::{MemoryBackend, RecordState};
use tower_breaker::event::{Event, Origin, Reason};
use tower_breaker::overrides::Override;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

use crate::support::network::load;
use crate::support::replica::Replica;
use crate::support::*;

/// Stores on one backend, each with a circuit of this policy whose record it has loaded.
async fn cluster(replicas: usize, policy: PolicyBuilder) -> (MemoryBackend, Vec<Circuit>) {
    let backend = MemoryBackend::new();
    let circuits = (0..replicas).map(|_| Replica::join(&backend, policy.clone()).circuit).collect();
    run_tasks().await;
    (backend, circuits)
}

/// Lets every task do what it has to do now.
async fn run_tasks() {
    advance(ms(1)).await;
    tokio::time::sleep(ms(1)).await;
}

async fn probe(circuit: &Circuit) -> tower_breaker::circuit::Permit {
    circuit.acquire().await.unwrap_or_else(|rejected| panic!("{rejected}"))
}

#[tokio::test(start_paused = true)]
async fn an_operator_makes_the_whole_cluster_probe_now() {
    let (_, circuits) = cluster(3, fragile().open_for(s(3_600)).backoff(1.0, s(3_600))).await;
    fail(&circuits[0]);
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
    assert!(circuits[1].probe_now());
    advance(ms(10)).await;
    run_tasks().await;
    let permit = probe(&circuits[2]).await;
    assert!(permit.is_probe());
    permit.settle(Outcome::Success);
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_of_each_of_ten_replicas_opens_all_circuits() {
    let (_, circuits) = cluster(10, fragile().consecutive_failures(10)).await;
    for circuit in &circuits {
        fail(circuit);
        assert_state(circuit, State::Closed);
    }
    // A failure that is far from any threshold waits for others of its group.
    tokio::time::sleep(s(1)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().origin, Origin::Cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_twenty_replicas_are_added_up() {
    let policy = fragile().without_consecutive_failures().failure_count(100);
    let (_, circuits) = cluster(20, policy).await;
    for circuit in &circuits {
        times(9, fail, circuit);
    }
    // In the first seconds of a replica, a roll call takes the settling time.
    tokio::time::sleep(ms(300)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn totals_wait_for_all_replicas_that_started_together() {
    let policy = fragile().without_consecutive_failures().failure_rate(0.5).minimum_calls(20);
    let (_, circuits) = cluster(10, policy).await;
    for (replica, circuit) in circuits.iter().enumerate() {
        times(12, if replica < 2 { fail } else { succeed }, circuit);
    }
    tokio::time::sleep(s(2)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_applied_with_its_generation_reason_and_interval() {
    let (backend, circuits) = cluster(3, fragile()).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let observer = events.clone();
    circuits[1].on_change(move |event| observer.lock().unwrap().push(event.clone()));
    fail(&circuits[0]);
    assert_eq!(circuits[0].snapshot().origin, Origin::Local, "at once, by its own evidence");
    run_tasks().await;
    let view = load(&backend, circuits[0].name());
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!((snapshot.state, snapshot.origin), (State::Open, Origin::Cluster));
        assert_eq!(snapshot.generation, view.generation);
        let wait = snapshot.retry_after.unwrap();
        assert!(wait > s(9) && wait <= s(10), "{wait:?}");
    }
    let events = events.lock().unwrap();
    let [Event::Transition(transition)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((transition.from, transition.to), (State::Closed, State::Open));
    assert_eq!(
        (transition.reason, transition.origin),
        (Reason::ConsecutiveFailures, Origin::Cluster)
    );
    assert_eq!(transition.tally.consecutive_failures, 1, "the cluster's");
}

#[tokio::test(start_paused = true)]
async fn probes_are_limited_over_the_cluster_and_close_all_circuits() {
    let policy = fragile().probes(2).successes_to_close(3);
    let (_, circuits) = cluster(5, policy).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    let mut probes = Vec::new();
    for circuit in &circuits {
        probes.extend(circuit.acquire().await.ok());
    }
    assert_eq!(probes.len(), 2);
    for probe in probes.drain(..) {
        probe.settle(Outcome::Success);
    }
    run_tasks().await;
    let third = probe(&circuits[4]).await;
    assert_state(&circuits[4], State::HalfOpen);
    third.settle(Outcome::Success);
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_all_circuits_for_longer() {
    let (_, circuits) = cluster(3, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    probe(&circuits[2]).await.settle(Outcome::failure());
    run_tasks().await;
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!((snapshot.state, snapshot.reopenings), (State::Open, 1));
        assert!(snapshot.retry_after.unwrap() > s(19));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_after_the_lease_expired_does_not_close_the_circuit() {
    let (_, circuits) = cluster(2, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    let hanging = probe(&circuits[0]).await;
    tokio::time::sleep(ms(5_100)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
    hanging.settle(Outcome::Success);
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().reopenings, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_returns_its_slot_to_the_cluster() {
    let (_, circuits) = cluster(2, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    let dropped = probe(&circuits[0]).await;
    assert!(circuits[1].acquire().await.is_err());
    drop(dropped);
    run_tasks().await;
    probe(&circuits[1]).await.settle(Outcome::Success);
    run_tasks().await;
    assert_state(&circuits[0], State::Closed);
}

#[tokio::test(start_paused = true)]
async fn try_acquire_gets_the_slot_that_its_last_call_asked_for() {
    let (_, circuits) = cluster(1, fragile()).await;
    let circuit = &circuits[0];
    fail(circuit);
    tokio::time::sleep(s(11)).await;
    rejected(circuit);
    run_tasks().await;
    assert!(circuit.is_available());
    succeed(circuit);
    run_tasks().await;
    assert_state(circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_new_replica_is_rejected_while_open() {
    let (backend, circuits) = cluster(1, fragile()).await;
    fail(&circuits[0]);
    run_tasks().await;
    let new = Replica::join(&backend, circuits[0].policy().to_builder()).circuit;
    let rejected = new.acquire().await.unwrap_err();
    assert_eq!(rejected.state(), State::Open);
    assert_eq!(rejected.generation(), circuits[0].snapshot().generation);
}

#[tokio::test(start_paused = true)]
async fn an_override_holds_everywhere_and_outlives_its_replica() {
    let (backend, mut circuits) = cluster(3, fragile()).await;
    circuits
        .remove(0)
        .set_override(Override::force_open("maintenance").actor("alice"))
        .await
        .unwrap();
    run_tasks().await;
    tokio::time::sleep(s(8 * 24 * 3600)).await;
    circuits.push(Replica::join(&backend, circuits[0].policy().to_builder()).circuit);
    run_tasks().await;
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!(snapshot.state, State::ForcedOpen);
        assert_eq!(snapshot.override_reason.as_deref(), Some("maintenance"));
        assert_eq!(snapshot.override_actor.as_deref(), Some("alice"));
    }
    circuits[1].reset().await.unwrap();
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
        succeed(circuit);
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_expires_on_every_replica() {
    let (backend, circuits) = cluster(2, fragile()).await;
    circuits[0].set_override(Override::force_open("deploy").lasting(s(60))).await.unwrap();
    run_tasks().await;
    assert_state(&circuits[1], State::ForcedOpen);
    tokio::time::sleep(s(61)).await;
    for circuit in &circuits {
        succeed(circuit);
        assert_state(circuit, State::Closed);
    }
    let new = Replica::join(&backend, circuits[0].policy().to_builder()).circuit;
    run_tasks().await;
    assert_state(&new, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_reset_closes_what_a_replica_opened_by_itself_under_an_override() {
    let (_, circuits) = cluster(2, fragile().quorum(2)).await;
    fail(&circuits[0]);
    assert_state(&circuits[0], State::Open);
    circuits[1].disable("maintenance").await.unwrap();
    run_tasks().await;
    assert_state(&circuits[0], State::Disabled);
    circuits[1].reset().await.unwrap();
    run_tasks().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_backend_is_restored_and_no_circuit_closes() {
    let (backend, circuits) = cluster(3, fragile().open_for(s(60))).await;
    fail(&circuits[0]);
    tokio::time::sleep(ms(50)).await;
    let generation = circuits[0].snapshot().generation;
    backend.forget();
    // Until a replica has read the group again.
    tokio::time::sleep(s(8)).await;
    let view = load(&backend, circuits[0].name());
    assert_eq!(view.generation, generation);
    assert!(matches!(view.state, RecordState::Open { .. }));
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().generation, generation);
    }
}

/// Two seconds of traffic. Calls of the replicas in `broken` always fail, the others now and then.
async fn traffic(circuits: &[Circuit], broken: &[usize]) {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        for (replica, circuit) in circuits.iter().enumerate() {
            if let Ok(permit) = circuit.acquire().await {
                let fails = broken.contains(&replica) || random.u8(..100) < 5;
                permit.settle(if fails { Outcome::failure() } else { Outcome::Success });
            }
        }
        tokio::time::sleep(ms(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_of_two_needs_a_second_failing_replica_to_open_all() {
    let policy = Policy::builder().quorum(2).open_for(s(30)).probes(1).successes_to_close(1);
    let (_, circuits) = cluster(10, policy).await;
    traffic(&circuits, &[3]).await;
    for (replica, circuit) in circuits.iter().enumerate() {
        let state = if replica == 3 { State::Open } else { State::Closed };
        assert_state(circuit, state);
    }
    assert_eq!(circuits[3].snapshot().origin, Origin::Local);
    traffic(&circuits, &[3, 7]).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().origin, Origin::Cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_a_name_is_not_shared() {
    use tower::{Layer, ServiceExt};
    use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures};
    let backend = MemoryBackend::new();
    let store = || Store::builder().backend(backend.clone()).build();
    let layer = |store| CircuitBreakerLayer::new(store).classify(ErrorsAsFailures);
    let inner = tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) });
    let [one, other] = [store(), store()].map(|store| layer(store).layer(inner));
    one.circuit().force_open("here").await.unwrap();
    run_tasks().await;
    assert_state(other.circuit(), State::Closed);
    assert!(one.oneshot(()).await.is_err());
    assert!(other.oneshot(()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_woken_by_another_replica() {
    use tower::{Layer, ServiceExt};
    use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures};
    let (backend, circuits) = cluster(1, fragile()).await;
    circuits[0].force_open("elsewhere").await.unwrap();
    let store = Store::builder().backend(backend).build();
    let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
    let inner = tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) });
    let waiting = tokio::spawn(layer.wait_while_open().layer(inner).oneshot(()));
    tokio::time::sleep(s(3600)).await;
    assert!(!waiting.is_finished());
    circuits[0].reset().await.unwrap();
    run_tasks().await;
    assert!(waiting.is_finished());
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_a_streak_of_all_replicas_with_and_without_a_window() {
    for windowless in [false, true] {
        let backend = MemoryBackend::new();
        let policy = || Policy::only().consecutive_failures(10);
        let policy = || if windowless { policy().no_window() } else { policy() };
        let stores: Vec<_> = (0..3).map(|_| store_on(backend.clone(), policy()).build()).collect();
        let [a, b, c] = [0, 1, 2].map(|n: usize| stores[n].circuit("test"));
        tokio::time::sleep(s(5)).await;
        times(6, fail, &a);
        tokio::time::sleep(s(3)).await;
        times(5, succeed, &b);
        tokio::time::sleep(s(1)).await;
        times(6, fail, &c);
        tokio::time::sleep(s(5)).await;
        for circuit in [&a, &b, &c] {
            assert_state(circuit, State::Closed);
        }
    }
}
