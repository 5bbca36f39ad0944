//! A Redis that loses data: records, scripts, or the latest writes before a failover.

use tower_breaker::State;
use tower_breaker::backend::RecordState;

use crate::support::outage::{While, bring_to};
use crate::support::redis::replicas::*;
use crate::support::redis::{Ask, Server, eventually, real, record, until};
use crate::support::*;

#[test]
fn an_emptied_redis_is_restored_and_no_circuit_closes() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 3, open_for_long()).await;
        bring_to(While::Open, &replicas).await;
        let backend = watcher(&server).await;
        let name = replicas[0].circuit.name().clone();
        let generation = backend.load(&name).await.unwrap().generation;
        server.cli(&["FLUSHALL"]);
        eventually("a restored record", || async {
            let view = backend.load(&name).await.unwrap();
            view.generation == generation && matches!(view.state, RecordState::Open { .. })
        })
        .await;
        for replica in &replicas {
            assert_state(&replica.circuit, State::Open);
        }
        let new = join_patiently(&server, policy()).await;
        assert_eq!(new.circuit.acquire().await.unwrap_err().state(), State::Open);
    });
}

#[test]
fn an_outdated_record_after_a_failover_is_replaced() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 3, open_for_long()).await;
        fail(&replicas[0].circuit);
        let key = record("test");
        until("a record", || server.cli(&["HEXISTS", &key, "streak"]) == "1");
        let backend = watcher(&server).await;
        let name = replicas[0].circuit.name().clone();
        // An outdated copy, as a Redis replica has it that was promoted too early.
        assert_eq!(server.cli(&["COPY", &key, "old"]), "1");
        assert_eq!(server.cli(&["PERSIST", "old"]), "1");
        bring_to(While::Open, &replicas).await;
        let generation = backend.load(&name).await.unwrap().generation;
        assert!(server.number(&["HGET", "old", "generation"]) < generation);
        assert_eq!(server.cli(&["COPY", "old", &key, "REPLACE"]), "1");
        eventually("a restored record", || async {
            backend.load(&name).await.unwrap().generation == generation
        })
        .await;
        all_in(&replicas, State::Open).await;
    });
}

#[test]
fn deleted_scripts_are_loaded_again() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 2, policy()).await;
        for _ in 0..5 {
            server.cli(&["SCRIPT", "FLUSH"]);
            agree(&replicas).await;
        }
        assert!(replicas.iter().all(|replica| !replica.store.backend().is_degraded()));
    });
}

#[test]
fn a_forced_open_circuit_survives_restarts_and_a_deleted_record() {
    // What was written survives the process. A crash of the machine is not tested.
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "no"]);
    real(async {
        let replicas = cluster(&server, 2, policy()).await;
        eventually("an acknowledged override", || async {
            replicas[0].circuit.force_open("until noon").await.is_ok()
        })
        .await;
        all_in(&replicas, State::ForcedOpen).await;
        drop(replicas);
        server.cli(&["DEL", &record("test")]);
        let new = join_patiently(&server, policy()).await;
        assert_eq!(new.circuit.acquire().await.unwrap_err().state(), State::ForcedOpen);
        server.kill();
        server.restart();
        let new = join_patiently(&server, policy()).await;
        assert_eq!(new.circuit.acquire().await.unwrap_err().state(), State::ForcedOpen);
    });
}
