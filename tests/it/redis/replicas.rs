//! Replicas on a Redis that works: what they count together, and how they leave.

use tower_breaker::State;

use crate::support::redis::replicas::*;
use crate::support::redis::{Ask, Server, real};
use crate::support::*;

#[test]
fn a_hundred_concurrent_failures_are_all_counted() {
    let server = Server::start();
    real(async {
        let policy = open_for_long().without_consecutive_failures().without_failure_rate();
        let replicas = cluster(&server, 10, policy.failure_count(100)).await;
        let failing = replicas.iter().map(|replica| {
            let circuit = replica.circuit.clone();
            tokio::task::spawn_blocking(move || times(10, fail, &circuit))
        });
        for task in failing.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        all_in(&replicas, State::Open).await;
        let backend = watcher(&server).await;
        let view = backend.load(replicas[0].circuit.name()).await.unwrap();
        assert_eq!((view.tally.calls, view.tally.failures), (100, 100));
    });
}

#[test]
fn shutdown_sends_what_was_not_reported_yet() {
    let server = Server::start();
    real(async {
        let replicas = [join_patiently(&server, policy().consecutive_failures(50)).await];
        agree(&replicas).await;
        times(2, fail, &replicas[0].circuit);
        assert!(replicas[0].store.shutdown(s(5)).await);
        let backend = watcher(&server).await;
        let view = backend.load(replicas[0].circuit.name()).await.unwrap();
        assert_eq!(view.tally.consecutive_failures, 2);
        succeed(&replicas[0].circuit);
        let clients = || server.cli(&["CLIENT", "LIST", "TYPE", "NORMAL"]).lines().count();
        let before = clients();
        drop(replicas);
        assert!(clients() <= before, "no client connects again");
    });
}
