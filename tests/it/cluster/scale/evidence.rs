//! Evidence of many replicas, added up, is what really happened: nothing opens by less.

use tokio::time::sleep;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Outcome, Policy, State};

use super::fleet::{Fleet, Load};
use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic, Verb};
use crate::support::*;

/// Runs a fleet. Nothing may open by a condition that never held in the true order of its calls.
fn opens_nothing_healthy(load: Load, seconds: u64) {
    paused(async {
        let mut fleet = Fleet::new(load, 1);
        let wrong = fleet.run(s(seconds)).await;
        assert!(
            wrong.is_empty(),
            "{} false openings in {} calls, at {} commands a second, {} in the busiest: {:?}",
            wrong.len(),
            fleet.calls,
            fleet.commands() / seconds,
            fleet.busiest_second(),
            &wrong[..wrong.len().min(5)],
        );
    });
}

#[test]
fn two_percent_of_failures_open_none_of_a_thousand_circuits() {
    let load = Load {
        replicas: 10,
        circuits: 1000,
        calls_per_second: 1.0,
        failures: 0.02,
        step: ms(10),
        polling: 0,
    };
    opens_nothing_healthy(load, 60);
}

#[test]
fn ten_percent_of_failures_open_no_circuit_that_had_no_streak() {
    let load = Load {
        replicas: 10,
        circuits: 100,
        calls_per_second: 2.0,
        failures: 0.1,
        step: ms(10),
        polling: 0,
    };
    opens_nothing_healthy(load, 120);
}

#[test]
fn two_percent_of_failures_open_nothing_on_a_hundred_replicas() {
    let load = Load {
        replicas: 100,
        circuits: 10,
        calls_per_second: 10.0,
        failures: 0.02,
        step: ms(10),
        polling: 0,
    };
    opens_nothing_healthy(load, 60);
}

/// Opens after ten failures in ten seconds, however many calls succeed.
fn ten_failures() -> PolicyBuilder {
    Policy::only().failure_count(10).time_window(s(10)).open_for(s(600)).backoff(1.0, s(600))
}

#[tokio::test(start_paused = true)]
async fn a_report_that_arrives_late_counts_at_the_time_of_its_calls() {
    let backend = MemoryBackend::new();
    let [one, other] = [(); 2].map(|()| Traffic::over(&backend));
    let [one, other] = [one, other].map(|line| Replica::join(&line, ten_failures()));
    sleep(s(1)).await;
    one.line.set_for(Verb::Sync, Fault::Pauses);
    times(6, fail, &one.circuit);
    sleep(s(9)).await;
    one.line.set_for(Verb::Sync, Fault::None);
    // Those six are 13 seconds old when the next ones happen.
    sleep(s(4)).await;
    times(6, fail, &other.circuit);
    sleep(s(2)).await;
    for replica in [one, other] {
        assert_state(&replica.circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_an_hour_ago_do_not_join_a_streak() {
    let backend = MemoryBackend::new();
    let five = || Policy::only().consecutive_failures(5).no_window().open_for(s(600));
    let [one, other] = [(); 2].map(|()| Replica::join(&Traffic::over(&backend), five()));
    sleep(s(1)).await;
    one.line.set_for(Verb::Sync, Fault::LosesAnswers);
    times(4, fail, &one.circuit);
    sleep(s(3600)).await;
    one.line.set_for(Verb::Sync, Fault::None);
    sleep(s(30)).await;
    fail(&other.circuit);
    sleep(s(2)).await;
    for replica in [one, other] {
        assert_state(&replica.circuit, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_streak_of_three_that_opens_nothing_reports_at_the_interval() {
    let backend = MemoryBackend::new();
    // No call is ever enough for the rate.
    let policy = Policy::only().failure_rate(1.0).minimum_calls(1_000_000);
    let replica = Replica::join(&Traffic::over(&backend), policy);
    sleep(s(1)).await;
    let before = replica.line.commands();
    for _ in 0..10_000 {
        fail(&replica.circuit);
        sleep(ms(1)).await;
    }
    let a_second = (replica.line.commands() - before) / 10;
    // Ten reports, a heartbeat, and a few polls.
    assert!(a_second <= 20, "{a_second} commands a second");
}

#[tokio::test(start_paused = true)]
async fn shares_are_sent_only_where_the_totals_would_open_the_circuit() {
    const REPLICAS: usize = 50;
    let backend = MemoryBackend::new();
    let policy = || Policy::only().failure_rate(0.5).minimum_calls(100).quorum(2);
    let join = |_| Replica::join(&Traffic::over(&backend), policy());
    let replicas: Vec<_> = (0..REPLICAS).map(join).collect();
    for _ in 0..20 {
        for replica in &replicas {
            times(9, succeed, &replica.circuit);
            fail(&replica.circuit);
        }
        sleep(s(1)).await;
    }
    let shares: u64 = replicas.iter().map(|replica| replica.line.shares()).sum();
    let commands: u64 = replicas.iter().map(|replica| replica.line.commands()).sum();
    assert!(shares <= REPLICAS as u64, "{shares} shares in the answers to {commands} commands");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_restarts_is_still_one_voter() {
    let backend = MemoryBackend::new();
    let policy = || Policy::only().consecutive_failures(5).quorum(2).open_for(s(60));
    let start = |name: &str| {
        let line = Traffic::over(&backend);
        let store = store_on(line.clone(), policy()).replica(name).build();
        let circuit = store.circuit("test");
        Replica { line, store, circuit }
    };
    let healthy = ["a", "b", "c"].map(start);
    for round in 0..5 {
        let bad = start("bad");
        sleep(s(1)).await;
        for _ in 0..5 {
            // After the first restart, the cluster must not have opened its circuit.
            if let Ok(permit) = bad.circuit.try_acquire() {
                permit.settle(Outcome::failure());
            }
        }
        sleep(s(1)).await;
        for replica in &healthy {
            assert_eq!(replica.circuit.state(), State::Closed, "after start {round}");
            succeed(&replica.circuit);
        }
        // Killed: it withdraws nothing.
        bad.line.set(Fault::Pauses);
        drop(bad);
    }
}
