//! Replicas that were away, and what had happened meanwhile: at the ledger, and here.

use std::sync::Arc;

use tokio::time::sleep;
use tower_breaker::backend::{Backend, RecordState};
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, Outcome, State, Store};

use crate::support::faulty::Faulty;
use crate::support::network::Network;
use crate::support::*;

/// A replica whose line to the ledger can be cut.
struct Replica {
    line: Faulty,
    store: Store,
    circuit: Circuit,
}

async fn join(replicas: usize) -> (Arc<Network>, Vec<Replica>) {
    let network = Network::new(7, false);
    let join = |number| {
        let line = Faulty::new(number, 0, network.clone());
        let policy = fragile().jitter(0.0).build().unwrap();
        let store = Store::builder().default_policy(policy).backend(line.clone()).build();
        let circuit = store.circuit("test");
        Replica { line, store, circuit }
    };
    let joined = (0..replicas).map(join).collect();
    sleep(ms(20)).await;
    (network, joined)
}

fn assert_all(replicas: &[Replica], state: State) {
    for replica in replicas {
        assert_state(&replica.circuit, state);
        assert!(!replica.circuit.snapshot().detached);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_closed_without_a_ledger_stays_so_although_that_comes_back_empty() {
    let (network, replicas) = join(2).await;
    trip(&replicas[0].circuit);
    sleep(ms(50)).await;
    for replica in &replicas {
        replica.line.cut();
    }
    sleep(s(12)).await;
    for replica in &replicas {
        replica.circuit.acquire().await.unwrap().settle(Outcome::Success);
        assert_state(&replica.circuit, State::Closed);
    }
    network.forget();
    for replica in &replicas {
        replica.line.heal(true);
    }
    sleep(s(3)).await;
    assert_all(&replicas, State::Closed);
    let view = network.ledger.load(replicas[0].circuit.name()).await.unwrap();
    assert_eq!(view.state, RecordState::Closed);
    trip(&replicas[0].circuit);
    sleep(ms(50)).await;
    assert_all(&replicas, State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_override_that_is_prolonged_lasts_longer_everywhere() {
    let (_, replicas) = join(2).await;
    let forced = |seconds| Override::force_open("deploy").lasting(s(seconds));
    replicas[0].circuit.set_override(forced(60)).await.unwrap();
    sleep(s(1)).await;
    replicas[0].circuit.set_override(forced(600)).await.unwrap();
    sleep(s(120)).await;
    assert_all(&replicas, State::ForcedOpen);
    sleep(s(600)).await;
    for replica in &replicas {
        succeed(&replica.circuit);
    }
    assert_all(&replicas, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_override_that_nobody_heard_of_does_not_come_after_a_newer_one() {
    let (_, replicas) = join(2).await;
    replicas[0].line.cut();
    let unheard = replicas[0].circuit.force_open("before");
    assert!(unheard.await.unwrap_err().is_unavailable());
    assert_state(&replicas[0].circuit, State::ForcedOpen);
    replicas[1].circuit.disable("since").await.unwrap();
    sleep(s(60)).await;
    replicas[0].line.heal(true);
    sleep(s(3)).await;
    assert_all(&replicas, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn an_override_that_nobody_heard_of_is_told_when_that_is_possible() {
    let (_, replicas) = join(2).await;
    replicas[0].line.cut();
    drop(replicas[0].circuit.force_open("stop"));
    sleep(s(60)).await;
    assert_state(&replicas[1].circuit, State::Closed);
    replicas[0].line.heal(false);
    sleep(s(3)).await;
    assert_all(&replicas, State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn what_a_hand_does_on_a_replica_that_has_just_started_holds_whatever_was_set_before() {
    let (_, replicas) = join(2).await;
    replicas[0].circuit.force_open("yesterday").await.unwrap();
    replicas[0].circuit.reset().await.unwrap();
    sleep(s(86_400)).await;
    let fresh = another(&replicas[0], "test");
    fresh.force_open("maintenance").await.unwrap();
    sleep(s(1)).await;
    assert_all(&replicas, State::ForcedOpen);
    assert_state(&fresh, State::ForcedOpen);
    let fresher = another(&replicas[0], "test");
    fresher.reset().await.unwrap();
    sleep(s(1)).await;
    assert_all(&replicas, State::Closed);
    assert_state(&fresher, State::Closed);
}

/// The circuit of one more replica, on the line of another.
fn another(replica: &Replica, name: &str) -> Circuit {
    let policy = fragile().jitter(0.0).build().unwrap();
    let store = Store::builder().default_policy(policy).backend(replica.line.clone()).build();
    store.circuit(name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_opened_alone_long_ago_opens_nobody_else() {
    let (_, replicas) = join(2).await;
    replicas[1].line.cut();
    sleep(s(3)).await;
    trip(&replicas[1].circuit);
    // Its interval is long over, and nobody has called.
    sleep(s(600)).await;
    replicas[1].line.heal(true);
    sleep(s(3)).await;
    assert_state(&replicas[0].circuit, State::Closed);
    replicas[1].circuit.acquire().await.unwrap().settle(Outcome::Success);
    assert_all(&replicas, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_opened_alone_is_open_for_all_until_its_own_end_and_no_longer() {
    let (_, replicas) = join(2).await;
    replicas[1].line.cut();
    sleep(s(3)).await;
    trip(&replicas[1].circuit);
    let end = now() + s(10);
    sleep(s(8)).await;
    replicas[1].line.heal(true);
    sleep(s(1)).await;
    assert_all(&replicas, State::Open);
    for replica in &replicas {
        let left = replica.circuit.snapshot().retry_after.unwrap();
        assert!(left <= end - now() + ms(20), "{left:?} and not {:?}", end - now());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_has_paid_for_alone_trips_nobody_again() {
    let (network, _) = join(0).await;
    let line = Faulty::new(0, 0, network);
    let policy = fragile().without_consecutive_failures().failure_rate(0.5).minimum_calls(20);
    let policy = policy.jitter(0.0).build().unwrap();
    let store = Store::builder().default_policy(policy).backend(line.clone()).build();
    let circuit = store.circuit("test");
    sleep(s(1)).await;
    line.cut();
    sleep(s(3)).await;
    times(20, fail, &circuit);
    assert_state(&circuit, State::Open);
    sleep(s(11)).await;
    for _ in 0..10 {
        circuit.acquire().await.unwrap().settle(Outcome::Success);
    }
    line.heal(true);
    for _ in 0..30 {
        sleep(ms(100)).await;
        assert_state(&circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_overrides_one_after_the_other_the_second_holds() {
    let (_, replicas) = join(2).await;
    let first = replicas[0].circuit.force_open("first");
    tokio::task::yield_now().await;
    replicas[0].circuit.reset().await.unwrap();
    drop(first);
    sleep(s(1)).await;
    assert_all(&replicas, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_could_not_tell_everything_says_so() {
    let (_, replicas) = join(1).await;
    fail_quietly(&replicas[0]).await;
    replicas[0].line.cut();
    assert!(!replicas[0].store.shutdown(s(5)).await);
    let (_, replicas) = join(1).await;
    fail_quietly(&replicas[0]).await;
    assert!(replicas[0].store.shutdown(s(5)).await);
}

/// Has something to report, which is not urgent.
async fn fail_quietly(replica: &Replica) {
    replica.circuit.acquire().await.unwrap().settle(Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_circuits_that_load_at_once_are_no_outage() {
    let (_, replicas) = join(1).await;
    let store = &replicas[0].store;
    let circuits: Vec<_> = (0..10_000).map(|n| store.circuit(format!("circuit {n}"))).collect();
    sleep(s(30)).await;
    assert!(!store.backend().is_degraded());
    let alone = circuits.iter().filter(|circuit| circuit.snapshot().detached).count();
    assert_eq!(alone, 0);
}
