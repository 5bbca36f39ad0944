//! Replicas of one cluster, in one process, on a ledger in memory.

use std::sync::{Arc, Mutex};

use tower_breaker::backend::{Backend, MemoryBackend, RecordState};
use tower_breaker::event::{Event, Origin, Reason};
use tower_breaker::overrides::Override;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

use crate::support::*;

/// So many stores on one ledger, each with a circuit of this policy, whose state they know.
async fn cluster(replicas: usize, policy: PolicyBuilder) -> (MemoryBackend, Vec<Circuit>) {
    let ledger = MemoryBackend::new();
    let policy = policy.jitter(0.0).build().unwrap();
    let circuits = (0..replicas).map(|_| join(&ledger, policy.clone())).collect();
    settle_down().await;
    (ledger, circuits)
}

fn join(ledger: &MemoryBackend, policy: Policy) -> Circuit {
    let store = Store::builder().default_policy(policy).backend(ledger.clone()).build();
    store.circuit("test")
}

/// Lets every task do what it has to do now.
async fn settle_down() {
    advance(ms(1)).await;
    tokio::time::sleep(ms(1)).await;
}

async fn probe(circuit: &Circuit) -> tower_breaker::circuit::Permit {
    circuit.acquire().await.unwrap_or_else(|open| panic!("{open}"))
}

#[tokio::test(start_paused = true)]
async fn an_operator_lets_the_cluster_probe_now() {
    let (_, circuits) = cluster(3, fragile().open_for(s(3_600)).backoff(1.0, s(3_600))).await;
    fail(&circuits[0]);
    settle_down().await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
    assert!(circuits[1].probe_now());
    advance(ms(10)).await;
    settle_down().await;
    let permit = probe(&circuits[2]).await;
    assert!(permit.is_probe());
    permit.settle(Outcome::Success);
    settle_down().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_failures_of_ten_replicas_open_the_circuit_of_all() {
    let (_, circuits) = cluster(10, fragile().consecutive_failures(10)).await;
    for circuit in &circuits {
        fail(circuit);
        assert_state(circuit, State::Closed);
    }
    tokio::time::sleep(ms(150)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().origin, Origin::Cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn nine_failures_each_of_twenty_replicas_are_a_hundred_and_eighty() {
    let policy = fragile().without_consecutive_failures().failure_count(100);
    let (_, circuits) = cluster(20, policy).await;
    for circuit in &circuits {
        times(9, fail, circuit);
    }
    tokio::time::sleep(ms(150)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_adopted_with_its_generation_its_reason_and_its_interval() {
    let (ledger, circuits) = cluster(3, fragile()).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    circuits[1].on_change(move |event| heard.lock().unwrap().push(*event));
    fail(&circuits[0]);
    assert_eq!(circuits[0].snapshot().origin, Origin::Local, "at once, by its own evidence");
    settle_down().await;
    let view = ledger.load(circuits[0].name()).await.unwrap();
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!((snapshot.state, snapshot.origin), (State::Open, Origin::Cluster));
        assert_eq!(snapshot.generation, view.generation);
        let wait = snapshot.retry_after.unwrap();
        assert!(wait > s(9) && wait <= s(10), "{wait:?}");
    }
    let told = told.lock().unwrap();
    let [Event::Transition(transition)] = told[..] else { panic!("{told:?}") };
    assert_eq!((transition.from, transition.to), (State::Closed, State::Open));
    assert_eq!(
        (transition.reason, transition.origin),
        (Reason::ConsecutiveFailures, Origin::Cluster)
    );
    assert_eq!(transition.tally.consecutive_failures, 0, "its own");
}

#[tokio::test(start_paused = true)]
async fn probes_are_counted_over_the_cluster_and_close_it_for_all() {
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
    settle_down().await;
    let third = probe(&circuits[4]).await;
    assert_state(&circuits[4], State::HalfOpen);
    third.settle(Outcome::Success);
    settle_down().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_all_again_for_longer() {
    let (_, circuits) = cluster(3, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    probe(&circuits[2]).await.settle(Outcome::failure());
    settle_down().await;
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!((snapshot.state, snapshot.reopenings), (State::Open, 1));
        assert!(snapshot.retry_after.unwrap() > s(19));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_outlives_its_lease_fails_and_a_late_success_does_not_close() {
    let (_, circuits) = cluster(2, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    let hanging = probe(&circuits[0]).await;
    tokio::time::sleep(ms(5_100)).await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
    }
    hanging.settle(Outcome::Success);
    settle_down().await;
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().reopenings, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_gives_its_place_back_to_the_cluster() {
    let (_, circuits) = cluster(2, fragile()).await;
    fail(&circuits[0]);
    tokio::time::sleep(s(11)).await;
    let dropped = probe(&circuits[0]).await;
    assert!(circuits[1].acquire().await.is_err());
    drop(dropped);
    settle_down().await;
    probe(&circuits[1]).await.settle(Outcome::Success);
    settle_down().await;
    assert_state(&circuits[0], State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_cannot_wait_finds_its_place_the_next_time() {
    let (_, circuits) = cluster(1, fragile()).await;
    let circuit = &circuits[0];
    fail(circuit);
    tokio::time::sleep(s(11)).await;
    rejected(circuit);
    settle_down().await;
    assert!(circuit.is_available());
    succeed(circuit);
    settle_down().await;
    assert_state(circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_fresh_replica_to_an_open_circuit_is_rejected() {
    let (ledger, circuits) = cluster(1, fragile()).await;
    fail(&circuits[0]);
    settle_down().await;
    let fresh = join(&ledger, circuits[0].policy());
    let open = fresh.acquire().await.unwrap_err();
    assert_eq!(open.state(), State::Open);
    assert_eq!(open.generation(), circuits[0].snapshot().generation);
}

#[tokio::test(start_paused = true)]
async fn an_override_holds_for_all_and_outlives_who_set_it() {
    let (ledger, mut circuits) = cluster(3, fragile()).await;
    circuits
        .remove(0)
        .set_override(Override::force_open("maintenance").actor("alice"))
        .await
        .unwrap();
    settle_down().await;
    tokio::time::sleep(s(8 * 24 * 3600)).await;
    circuits.push(join(&ledger, circuits[0].policy()));
    settle_down().await;
    for circuit in &circuits {
        let snapshot = circuit.snapshot();
        assert_eq!(snapshot.state, State::ForcedOpen);
        assert_eq!(snapshot.override_reason.as_deref(), Some("maintenance"));
        assert_eq!(snapshot.override_actor.as_deref(), Some("alice"));
    }
    circuits[1].reset().await.unwrap();
    settle_down().await;
    for circuit in &circuits {
        assert_state(circuit, State::Closed);
        succeed(circuit);
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_with_a_time_ends_everywhere_by_itself() {
    let (ledger, circuits) = cluster(2, fragile()).await;
    circuits[0].set_override(Override::force_open("deploy").lasting(s(60))).await.unwrap();
    settle_down().await;
    assert_state(&circuits[1], State::ForcedOpen);
    tokio::time::sleep(s(61)).await;
    for circuit in &circuits {
        succeed(circuit);
        assert_state(circuit, State::Closed);
    }
    let fresh = join(&ledger, circuits[0].policy());
    settle_down().await;
    assert_state(&fresh, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_forgets_is_restored_and_nobody_closes_for_it() {
    let (ledger, circuits) = cluster(3, fragile()).await;
    fail(&circuits[0]);
    settle_down().await;
    let generation = circuits[0].snapshot().generation;
    ledger.forget();
    tokio::time::sleep(s(2)).await;
    let view = ledger.load(circuits[0].name()).await.unwrap();
    assert_eq!(view.generation, generation);
    assert!(matches!(view.state, RecordState::Open { .. }));
    for circuit in &circuits {
        assert_state(circuit, State::Open);
        assert_eq!(circuit.snapshot().generation, generation);
    }
}

/// Two seconds of traffic: those in `broken` fail always, all others now and then.
async fn traffic(circuits: &[Circuit], broken: &[usize]) {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        for (replica, circuit) in circuits.iter().enumerate() {
            if let Ok(permit) = circuit.acquire().await {
                let bad = broken.contains(&replica) || random.u8(..100) < 5;
                permit.settle(if bad { Outcome::failure() } else { Outcome::Success });
            }
        }
        tokio::time::sleep(ms(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_quorum_one_bad_replica_opens_itself_and_a_second_one_opens_all() {
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
    let ledger = MemoryBackend::new();
    let store = || Store::builder().backend(ledger.clone()).build();
    let layer = |store| CircuitBreakerLayer::new(store).classify(ErrorsAsFailures);
    let inner = tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) });
    let [one, other] = [store(), store()].map(|store| layer(store).layer(inner));
    one.circuit().force_open("here").await.unwrap();
    settle_down().await;
    assert_state(other.circuit(), State::Closed);
    assert!(one.oneshot(()).await.is_err());
    assert!(other.oneshot(()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_waits_is_woken_by_what_another_replica_does() {
    use tower::{Layer, ServiceExt};
    use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures};
    let (ledger, circuits) = cluster(1, fragile()).await;
    circuits[0].force_open("elsewhere").await.unwrap();
    let store = Store::builder().backend(ledger).build();
    let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
    let inner = tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) });
    let waiting = tokio::spawn(layer.wait_while_open().layer(inner).oneshot(()));
    tokio::time::sleep(s(3600)).await;
    assert!(!waiting.is_finished());
    circuits[0].reset().await.unwrap();
    settle_down().await;
    assert!(waiting.is_finished());
    waiting.await.unwrap().unwrap();
}
