//! Replicas whose backend answers again, and what had changed meanwhile, on either side.

use std::sync::Arc;

use tokio::time::sleep;
use tower_breaker::backend::RecordState;
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, Outcome, State};

use crate::support::faulty::{Faulty, Gap};
use crate::support::network::{Network, Plan};
use crate::support::outage::{While, unreachable_while, until_detached};
use crate::support::replica::Replica;
use crate::support::*;

async fn join(replicas: usize) -> (Arc<Network>, Vec<Replica<Faulty>>) {
    let network = Network::new(7, false);
    let line = |number| Faulty::new(number, 0, network.clone());
    let joined = (0..replicas).map(|number| Replica::join(&line(number), fragile())).collect();
    sleep(ms(20)).await;
    (network, joined)
}

/// The circuit of one more replica, which connects as an earlier one does.
fn another(replica: &Replica<Faulty>) -> Circuit {
    Replica::join(&replica.line, fragile()).circuit
}

/// Cuts off the last replica, whose circuit is then closed and detached.
async fn detach_last(replicas: &[Replica<Faulty>]) {
    let cut_off = &replicas[replicas.len() - 1];
    unreachable_while(While::Closed, replicas, || cut_off.line.cut()).await;
    until_detached(&[cut_off]).await;
}

async fn succeed_when_admitted(circuit: &Circuit) {
    circuit.acquire().await.unwrap().settle(Outcome::Success);
}

fn assert_all(replicas: &[Replica<Faulty>], state: State) {
    for replica in replicas {
        assert_state(&replica.circuit, state);
        assert!(!replica.circuit.snapshot().detached);
    }
}

#[tokio::test(start_paused = true)]
async fn circuits_closed_while_detached_stay_closed_over_an_emptied_backend() {
    let (network, replicas) = join(2).await;
    let cut = || replicas.iter().for_each(|replica| replica.line.cut());
    unreachable_while(While::Open, &replicas, cut).await;
    sleep(s(12)).await;
    for replica in &replicas {
        succeed_when_admitted(&replica.circuit).await;
        assert_state(&replica.circuit, State::Closed);
    }
    network.forget();
    for replica in &replicas {
        replica.line.heal(Gap::Notified);
    }
    sleep(s(3)).await;
    assert_all(&replicas, State::Closed);
    let view = network.load(replicas[0].circuit.name());
    assert_eq!(view.state, RecordState::Closed);
    trip(&replicas[0].circuit);
    sleep(ms(50)).await;
    assert_all(&replicas, State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_extended_override_lasts_longer_on_every_replica() {
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
async fn an_unsent_override_does_not_replace_a_newer_one() {
    let (_, replicas) = join(2).await;
    unreachable_while(While::Closed, &replicas, || replicas[0].line.cut()).await;
    let unsent = replicas[0].circuit.force_open("before");
    assert!(unsent.await.unwrap_err().is_unavailable());
    assert_state(&replicas[0].circuit, State::ForcedOpen);
    replicas[1].circuit.disable("since").await.unwrap();
    sleep(s(60)).await;
    replicas[0].line.heal(Gap::Notified);
    sleep(s(3)).await;
    assert_all(&replicas, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn an_override_whose_answer_was_dropped_gives_way_to_a_newer_one() {
    let network = Network::new(7, false);
    let line = |number| Faulty::new(number, 0, network.clone());
    let replicas: Vec<_> = (0..2).map(|n| Replica::join(&line(n), fragile())).collect();
    sleep(ms(20)).await;
    network.set_plan(Plan { drop_reply: 1000, ..Plan::NONE });
    drop(replicas[0].circuit.force_open("first"));
    sleep(ms(10)).await;
    network.set_plan(Plan::NONE);
    replicas[1].circuit.disable("second").await.unwrap();
    sleep(s(5)).await;
    assert_all(&replicas, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn an_unsent_override_is_sent_when_the_backend_answers_again() {
    let (_, replicas) = join(2).await;
    unreachable_while(While::Closed, &replicas, || replicas[0].line.cut()).await;
    drop(replicas[0].circuit.force_open("stop"));
    sleep(s(60)).await;
    assert_state(&replicas[1].circuit, State::Closed);
    replicas[0].line.heal(Gap::Unnoticed);
    sleep(s(6)).await;
    assert_all(&replicas, State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn an_override_set_right_after_the_start_replaces_any_older_one() {
    let (_, replicas) = join(2).await;
    replicas[0].circuit.force_open("yesterday").await.unwrap();
    replicas[0].circuit.reset().await.unwrap();
    sleep(s(86_400)).await;
    let new = another(&replicas[0]);
    new.force_open("maintenance").await.unwrap();
    sleep(s(1)).await;
    assert_all(&replicas, State::ForcedOpen);
    assert_state(&new, State::ForcedOpen);
    let newer = another(&replicas[0]);
    newer.reset().await.unwrap();
    sleep(s(1)).await;
    assert_all(&replicas, State::Closed);
    assert_state(&newer, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opened_long_ago_while_detached_opens_no_other_replica() {
    let (_, replicas) = join(2).await;
    detach_last(&replicas).await;
    trip(&replicas[1].circuit);
    // Its interval ended long ago, without a call since.
    sleep(s(600)).await;
    replicas[1].line.heal(Gap::Notified);
    sleep(s(3)).await;
    assert_state(&replicas[0].circuit, State::Closed);
    succeed_when_admitted(&replicas[1].circuit).await;
    assert_all(&replicas, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opened_while_detached_opens_all_until_its_interval_ends() {
    let (_, replicas) = join(2).await;
    detach_last(&replicas).await;
    trip(&replicas[1].circuit);
    let end = now() + s(10);
    sleep(s(5)).await;
    replicas[1].line.heal(Gap::Notified);
    sleep(s(3)).await;
    assert_all(&replicas, State::Open);
    for replica in &replicas {
        let left = replica.circuit.snapshot().retry_after.unwrap();
        assert!(left <= end - now() + ms(20), "{left:?} and not {:?}", end - now());
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_that_opened_a_detached_circuit_does_not_open_it_again() {
    let line = Faulty::new(0, 0, Network::new(7, false));
    let policy = fragile().without_consecutive_failures().failure_rate(0.5).minimum_calls(20);
    let replicas = [Replica::join(&line, policy)];
    let circuit = &replicas[0].circuit;
    sleep(s(1)).await;
    detach_last(&replicas).await;
    times(20, fail, circuit);
    assert_state(circuit, State::Open);
    sleep(s(11)).await;
    for _ in 0..10 {
        succeed_when_admitted(circuit).await;
    }
    line.heal(Gap::Notified);
    for _ in 0..30 {
        sleep(ms(100)).await;
        assert_state(circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_of_two_overrides_holds() {
    let (_, replicas) = join(2).await;
    let first = replicas[0].circuit.force_open("first");
    tokio::task::yield_now().await;
    replicas[0].circuit.reset().await.unwrap();
    drop(first);
    sleep(s(1)).await;
    assert_all(&replicas, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_whether_everything_was_sent() {
    let (_, replicas) = join(1).await;
    replicas[0].line.cut();
    fail(&replicas[0].circuit);
    assert!(!replicas[0].store.shutdown(s(5)).await);
    let (network, replicas) = join(1).await;
    fail(&replicas[0].circuit);
    assert!(replicas[0].store.shutdown(s(5)).await);
    let view = network.load(replicas[0].circuit.name());
    assert!(matches!(view.state, RecordState::Open { .. }), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_circuits_that_load_at_once_do_not_degrade_the_replica() {
    let (_, replicas) = join(1).await;
    let store = &replicas[0].store;
    let circuits: Vec<_> = (0..10_000).map(|n| store.circuit(format!("circuit {n}"))).collect();
    sleep(s(30)).await;
    assert!(!store.backend().is_degraded());
    let detached = circuits.iter().filter(|circuit| circuit.snapshot().detached).count();
    assert_eq!(detached, 0);
}
