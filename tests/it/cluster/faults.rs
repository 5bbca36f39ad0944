//! One fault at a time, on the network of the simulation (`simulation.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::backend::{Geometry, RecordState, View};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, State};

use crate::support::faulty::Gap;
use crate::support::network::Plan;
use crate::support::outage::{While, bring_to, unreachable_while};
use crate::support::schedule::Schedule;
use crate::support::sim::{Replica, World};
use crate::support::*;

/// A plan in which no request reaches the backend.
const UNREACHABLE: Plan = Plan { drop_request: 1000, ..Plan::NONE };

/// Replicas without callers, on a network without faults yet.
async fn cluster(policy: PolicyBuilder, replicas: usize) -> (Arc<World>, Vec<Replica>) {
    let world = World::new(schedule(0, policy), false).await;
    let replicas = (0..replicas).map(|index| world.start(index)).collect();
    sleep(s(1)).await;
    (world, replicas)
}

fn schedule(seed: u64, policy: PolicyBuilder) -> Schedule {
    Schedule {
        callers: 0,
        at_once: 0,
        cancelled: 0,
        background: 0,
        policy: policy.jitter(0.0).build().unwrap(),
        other_policy: None,
        plan: Plan::NONE,
        ..Schedule::draw(seed)
    }
}

fn out(view: &View) -> u64 {
    match view.state {
        RecordState::HalfOpen { out, .. } => out,
        _ => 0,
    }
}

fn assert_no_violation(world: &World) {
    assert_eq!(world.network.checker().violations, Vec::<String>::new());
}

#[test]
fn every_result_is_counted_once_under_any_network_fault() {
    let window = Geometry { millis: 600_000, buckets: 10 };
    let policy = || {
        // A few failures make the circuit suspect, so that successes are reported too. No number of
        // replicas opens it.
        let policy = Policy::builder().without_consecutive_failures().quorum(100);
        let policy = policy.failure_rate(1.0).minimum_calls(10);
        policy.time_window(Duration::from_millis(window.millis))
    };
    for seed in 0..300 {
        paused(async {
            let drawn = Schedule::draw(seed);
            let (plan, callers) = (drawn.plan, drawn.callers);
            let schedule = schedule(seed, policy());
            let schedule = Schedule { plan, callers, pause: 150, background: 300, ..schedule };
            let world = World::new(schedule, false).await;
            let replicas: Vec<_> = (0..4).map(|index| world.start(index)).collect();
            let rng = &mut fastrand::Rng::with_seed(seed);
            for _ in 0..6 {
                replicas[rng.usize(..4)].line.cut();
                sleep(ms(rng.u64(..3_000))).await;
                replicas[rng.usize(..4)].line.heal(Gap::draw(rng));
            }
            world.stop_callers();
            world.end_faults();
            for replica in &replicas {
                replica.line.heal(Gap::Notified);
            }
            sleep(s(5)).await;
            world.call_roll();
            sleep(s(1)).await;
            let tally = world.totals(window);
            let made = replicas.iter().map(Replica::counted);
            let made = made.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            assert_eq!((tally.calls, tally.failures), made, "seed {seed}");
            assert!(made.1 > 5, "{made:?}");
            assert_no_violation(&world);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_arrives_after_the_deadline_is_returned() {
    let (world, replicas) = cluster(fragile().probe_lease(s(5)), 2).await;
    bring_to(While::ProbeDue, &replicas).await;
    world.network.set_plan(Plan { delay_all: 200, ..Plan::NONE });
    let since = now();
    replicas[0].circuit.acquire().await.unwrap_err();
    assert!(since.elapsed() <= ms(51), "{:?}", since.elapsed());
    sleep(ms(160)).await;
    assert_eq!(out(&world.view()), 1, "granted, and its caller waits no more");
    // The lease is on its way to the replica, and then its return to the backend.
    world.network.set_plan(Plan::NONE);
    sleep(ms(250)).await;
    assert_eq!(out(&world.view()), 0);
    replicas[1].circuit.acquire().await.unwrap().settle(Outcome::Success);
    sleep(ms(100)).await;
    assert_state(&replicas[0].circuit, State::Closed);
    assert_no_violation(&world);
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_is_reported_again_until_the_backend_has_it() {
    let (world, replicas) = cluster(fragile().probe_lease(s(5)), 2).await;
    let cut = || world.network.set_plan(UNREACHABLE);
    let probe = unreachable_while(While::Probing, &replicas, cut).await;
    let round = world.view().generation;
    probe.unwrap().settle(Outcome::failure());
    sleep(ms(100)).await;
    assert_eq!(world.view().generation, round, "not reported yet");
    world.network.set_plan(Plan::NONE);
    // What was not answered within a second is sent again.
    sleep(s(2)).await;
    for replica in &replicas {
        assert_state(&replica.circuit, State::Open);
    }
    assert!(world.view().generation > round);
    assert_no_violation(&world);
}

#[tokio::test(start_paused = true)]
async fn an_emptied_backend_is_restored_by_a_replica_that_was_cut_off() {
    let (world, mut replicas) = cluster(fragile().open_for(s(60)), 2).await;
    unreachable_while(While::Open, &replicas, || replicas[0].line.cut()).await;
    let generation = world.view().generation;
    // One replica has crashed and the other is cut off, so that none can restore the record.
    replicas.remove(1).crash();
    world.network.forget();
    let new = world.start(1);
    sleep(s(3)).await;
    assert_state(&new.circuit, State::Closed);
    replicas[0].line.heal(Gap::Unnoticed);
    sleep(s(8)).await;
    for replica in [&replicas[0], &new] {
        assert_state(&replica.circuit, State::Open);
    }
    assert_eq!(world.view().generation, generation);
    assert_no_violation(&world);
}

#[tokio::test(start_paused = true)]
async fn an_override_is_restored_on_an_emptied_backend() {
    let (world, replicas) = cluster(fragile(), 3).await;
    replicas[0].circuit.force_open("maintenance").await.unwrap();
    sleep(ms(10)).await;
    world.network.forget();
    // Until each replica has read the group again.
    sleep(s(26)).await;
    let new = world.start(3);
    sleep(ms(100)).await;
    for replica in replicas.iter().chain([&new]) {
        assert_state(&replica.circuit, State::ForcedOpen);
    }
    assert_no_violation(&world);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_new_replica_waits_for_a_slow_backend() {
    let (world, replicas) = cluster(fragile().open_for(s(60)), 1).await;
    bring_to(While::Open, &replicas).await;
    world.network.set_plan(Plan { delay_all: 20, ..Plan::NONE });
    let new = world.start(1);
    let since = now();
    let rejection = new.circuit.acquire().await.unwrap_err();
    assert_eq!(rejection.state(), State::Open);
    assert_eq!(since.elapsed(), ms(40));
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_without_a_backend_admits_its_first_call() {
    let (world, replicas) = cluster(fragile().open_for(s(60)), 1).await;
    let cut = || world.network.set_plan(UNREACHABLE);
    unreachable_while(While::Open, &replicas, cut).await;
    let new = world.start(1);
    let since = now();
    let permit = new.circuit.acquire().await.unwrap();
    assert!(since.elapsed() <= ms(51), "{:?}", since.elapsed());
    // Once the backend answers, this replica is like any other.
    world.network.set_plan(Plan::NONE);
    sleep(s(2)).await;
    assert_state(&new.circuit, State::Open);
    drop(permit);
}

/// Replicas that all call all the time, with a few failures everywhere.
fn busy(policy: PolicyBuilder) -> Schedule {
    Schedule { callers: 3, pause: 100, background: 20, long: 0, ..schedule(7, policy) }
}

#[tokio::test(start_paused = true)]
async fn with_a_quorum_of_two_all_open_after_a_second_path_breaks() {
    let policy = Policy::builder().consecutive_failures(5).open_for(s(1)).quorum(2);
    let schedule = busy(policy.minimum_calls(50).time_window(s(10)));
    let world = World::new(schedule, false).await;
    fastrand::seed(7);
    let replicas: Vec<_> = (0..5).map(|index| world.start(index)).collect();
    sleep(s(3)).await;
    replicas[0].break_path();
    sleep(s(2)).await;
    for _ in 0..200 {
        sleep(ms(100)).await;
        assert_ne!(replicas[0].circuit.state(), State::Closed);
        for other in &replicas[1..] {
            assert_state(&other.circuit, State::Closed);
        }
    }
    replicas[1].break_path();
    for _ in 0..30 {
        sleep(ms(100)).await;
        if replicas.iter().all(|replica| has_opened(&replica.circuit)) {
            return assert_no_violation(&world);
        }
    }
    panic!("{:#?}", replicas.iter().map(Replica::brief).collect::<Vec<_>>());
}

fn has_opened(circuit: &Circuit) -> bool {
    matches!(circuit.state(), State::Open | State::HalfOpen)
}
