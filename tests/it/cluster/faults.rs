//! One trouble at a time, with the network of the simulation (`cluster_sim.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::backend::{Geometry, RecordState, View};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, State};

use crate::support::network::Plan;
use crate::support::schedule::Schedule;
use crate::support::sim::{Replica, World};
use crate::support::*;

/// A cluster without callers, on a network that does nothing wrong yet.
async fn world(policy: PolicyBuilder) -> Arc<World> {
    World::new(schedule(0, policy), false).await
}

fn schedule(seed: u64, policy: PolicyBuilder) -> Schedule {
    Schedule {
        callers: 0,
        at_once: 0,
        cancelled: 0,
        background: 0,
        policy: policy.jitter(0.0).build().unwrap(),
        other_policy: None,
        plan: Plan::default(),
        ..Schedule::draw(seed)
    }
}

async fn opened(policy: PolicyBuilder, replicas: usize) -> (Arc<World>, Vec<Replica>) {
    let world = world(policy).await;
    let replicas: Vec<_> = (0..replicas).map(|index| world.start(index)).collect();
    sleep(s(1)).await;
    trip(&replicas[0].circuit);
    sleep(s(1)).await;
    for replica in &replicas {
        assert_state(&replica.circuit, State::Open);
    }
    (world, replicas)
}

fn out(view: &View) -> u64 {
    match view.state {
        RecordState::HalfOpen { out, .. } => out,
        _ => 0,
    }
}

fn no_wrong(world: &World) {
    assert_eq!(world.network.checker().wrong, Vec::<String>::new());
}

#[test]
fn every_result_is_counted_once_whatever_the_network_does() {
    let window = Geometry { millis: 600_000, buckets: 10 };
    let policy = || {
        let policy = Policy::builder().without_consecutive_failures().without_failure_rate();
        policy.failure_count(1_000_000).time_window(Duration::from_millis(window.millis))
    };
    for seed in 0..300 {
        paused(async {
            let drawn = Schedule::draw(seed);
            let (plan, callers) = (drawn.plan, drawn.callers);
            let schedule = Schedule { plan, callers, background: 300, ..schedule(seed, policy()) };
            let world = World::new(schedule, false).await;
            let replicas: Vec<_> = (0..4).map(|index| world.start(index)).collect();
            let rng = &mut fastrand::Rng::with_seed(seed);
            for _ in 0..6 {
                replicas[rng.usize(..4)].line.cut();
                sleep(ms(rng.u64(..3_000))).await;
                replicas[rng.usize(..4)].line.heal(rng.bool());
            }
            world.fall_quiet();
            world.calm_down();
            for replica in &replicas {
                replica.line.heal(true);
            }
            sleep(s(6)).await;
            let tally = world.totals(window);
            let made = replicas.iter().map(Replica::counted);
            let made = made.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            assert_eq!((tally.calls, tally.failures), made, "seed {seed}");
            assert!(made.1 > 10, "{made:?}");
            no_wrong(&world);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_late_is_given_back_at_once() {
    let (world, replicas) = opened(fragile().probe_lease(s(5)), 2).await;
    sleep(s(10)).await;
    world.network.set_plan(Plan { delay_all: 200, ..Plan::default() });
    let since = now();
    replicas[0].circuit.acquire().await.unwrap_err();
    assert!(since.elapsed() <= ms(51), "{:?}", since.elapsed());
    sleep(ms(160)).await;
    assert_eq!(out(&world.ledger()), 1, "granted, and nobody waits any more");
    // The grant is on its way, and then what gives it back.
    world.network.set_plan(Plan::default());
    sleep(ms(250)).await;
    assert_eq!(out(&world.ledger()), 0);
    replicas[1].circuit.acquire().await.unwrap().settle(Outcome::Success);
    sleep(ms(100)).await;
    assert_state(&replicas[0].circuit, State::Closed);
    no_wrong(&world);
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_of_which_the_ledger_did_not_hear_is_told_again() {
    let (world, replicas) = opened(fragile().probe_lease(s(5)), 2).await;
    sleep(s(10)).await;
    let permit = replicas[0].circuit.acquire().await.unwrap();
    let round = world.ledger().generation;
    world.network.set_plan(Plan { lose_request: 1000, ..Plan::default() });
    permit.settle(Outcome::failure());
    sleep(ms(100)).await;
    assert_eq!(world.ledger().generation, round, "it does not know yet");
    world.network.set_plan(Plan::default());
    sleep(s(1)).await;
    for replica in &replicas {
        assert_state(&replica.circuit, State::Open);
    }
    assert!(world.ledger().generation > round);
    no_wrong(&world);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_has_forgotten_is_told_by_who_was_away_and_nobody_closes_for_it() {
    let (world, mut replicas) = opened(fragile().open_for(s(60)), 2).await;
    let generation = world.ledger().generation;
    // The one is gone, the other away: nobody who is left knows.
    replicas.remove(1).crash();
    replicas[0].line.cut();
    world.network.forget();
    let fresh = world.start(1);
    sleep(s(3)).await;
    assert_state(&fresh.circuit, State::Closed);
    replicas[0].line.heal(false);
    sleep(s(3)).await;
    for replica in [&replicas[0], &fresh] {
        assert_state(&replica.circuit, State::Open);
    }
    assert_eq!(world.ledger().generation, generation);
    no_wrong(&world);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_forgets_an_override_is_told_it_again() {
    let world = world(fragile()).await;
    let replicas: Vec<_> = (0..3).map(|index| world.start(index)).collect();
    sleep(s(1)).await;
    replicas[0].circuit.force_open("maintenance").await.unwrap();
    sleep(ms(10)).await;
    world.network.forget();
    sleep(s(16)).await;
    let fresh = world.start(3);
    sleep(ms(100)).await;
    for replica in replicas.iter().chain([&fresh]) {
        assert_state(&replica.circuit, State::ForcedOpen);
    }
    no_wrong(&world);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_fresh_replica_waits_for_a_slow_ledger_and_is_rejected() {
    let (world, _replicas) = opened(fragile().open_for(s(60)), 1).await;
    world.network.set_plan(Plan { delay_all: 20, ..Plan::default() });
    let fresh = world.start(1);
    let since = now();
    let rejection = fresh.circuit.acquire().await.unwrap_err();
    assert_eq!(rejection.state(), State::Open);
    assert_eq!(since.elapsed(), ms(40));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_replica_without_a_ledger_lets_its_first_call_pass_within_the_deadline() {
    let (world, _replicas) = opened(fragile().open_for(s(60)), 1).await;
    world.network.set_plan(Plan { lose_request: 1000, ..Plan::default() });
    let fresh = world.start(1);
    let since = now();
    let permit = fresh.circuit.acquire().await.unwrap();
    assert!(since.elapsed() <= ms(51), "{:?}", since.elapsed());
    // Once it is found, it is a replica like any.
    world.network.set_plan(Plan::default());
    sleep(s(2)).await;
    assert_state(&fresh.circuit, State::Open);
    drop(permit);
}

/// Calls of all, at all times, some of which fail everywhere.
fn busy(policy: PolicyBuilder) -> Schedule {
    Schedule { callers: 3, pause: 100, background: 20, long: 0, ..schedule(7, policy) }
}

#[tokio::test(start_paused = true)]
async fn with_a_quorum_of_two_a_broken_path_opens_one_replica_and_a_second_one_opens_all() {
    let policy = Policy::builder().consecutive_failures(5).open_for(s(1)).quorum(2);
    let schedule = busy(policy.minimum_calls(50).time_window(s(10)));
    let world = World::new(schedule, false).await;
    fastrand::seed(7);
    let replicas: Vec<_> = (0..5).map(|index| world.start(index)).collect();
    sleep(s(3)).await;
    replicas[0].break_path(true);
    sleep(s(2)).await;
    for _ in 0..200 {
        sleep(ms(100)).await;
        assert_ne!(replicas[0].circuit.state(), State::Closed);
        for other in &replicas[1..] {
            assert_state(&other.circuit, State::Closed);
        }
    }
    replicas[1].break_path(true);
    let all_open = |circuits: &[Replica]| circuits.iter().all(|r| is_shut(&r.circuit));
    for _ in 0..30 {
        sleep(ms(100)).await;
        if all_open(&replicas) {
            return no_wrong(&world);
        }
    }
    panic!("{:#?}", replicas.iter().map(Replica::brief).collect::<Vec<_>>());
}

fn is_shut(circuit: &Circuit) -> bool {
    matches!(circuit.state(), State::Open | State::HalfOpen)
}
