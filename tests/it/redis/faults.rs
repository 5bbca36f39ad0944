//! Replicas on a real Redis, and what befalls it: killed, frozen, emptied, started late, set back.
//!
//! In real time, as a server's is. No test depends on a duration: what is waited for is certain to
//! come, and what must not happen is looked at when it would have.

use std::collections::BTreeSet;

use tower_breaker::backend::{Backend, RecordState, RedisBackend, RedisConfig};
use tower_breaker::circuit::Permit;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

use crate::support::redis::{Cluster, Server, connect, eventually, real};
use crate::support::*;

/// Opens after three failures, for half a second; one good probe closes it.
fn policy() -> PolicyBuilder {
    Policy::builder()
        .consecutive_failures(3)
        .open_for(ms(500))
        .backoff(1.0, s(60))
        .jitter(0.0)
        .probes(1)
        .successes_to_close(1)
        .probe_lease(s(2))
}

struct Replica {
    store: Store,
    circuit: Circuit,
}

/// A replica that has waited for Redis as long as `Store::redis` does.
async fn join(config: &RedisConfig, policy: PolicyBuilder) -> Replica {
    let backend = RedisBackend::start(config).unwrap();
    backend.ready(ms(500)).await;
    let store = Store::builder().default_policy(policy.build().unwrap()).backend(backend).build();
    let circuit = store.circuit("test");
    Replica { store, circuit }
}

/// The same, where a busy machine must not be taken for a Redis that is gone.
async fn join_patiently(server: &Server, policy: PolicyBuilder) -> Replica {
    let backend = watcher(server).await;
    let store = Store::builder().default_policy(policy.build().unwrap());
    let store = store.backend(backend).deadline(s(5)).build();
    let circuit = store.circuit("test");
    Replica { store, circuit }
}

/// Looks at the ledger, more patiently than a replica.
async fn watcher(server: &Server) -> RedisBackend {
    connect(&server.config()).await
}

/// So many replicas that are connected.
async fn cluster(server: &Server, replicas: usize, policy: PolicyBuilder) -> Vec<Replica> {
    let mut joined = Vec::new();
    for _ in 0..replicas {
        joined.push(join(&server.config(), policy.clone()).await);
    }
    agree(&joined).await;
    joined
}

/// Waits until what a hand does on one replica holds on all, both ways: then all are in touch.
async fn agree(replicas: &[Replica]) {
    all_are(replicas, |replica| !replica.store.backend().is_degraded()).await;
    eventually("an override that all are told", || async {
        replicas[0].circuit.force_open("a test").await.is_ok()
    })
    .await;
    all_are(replicas, |replica| replica.circuit.state() == State::ForcedOpen).await;
    eventually("a reset that all are told", || async { replicas[0].circuit.reset().await.is_ok() })
        .await;
    all_are(replicas, |replica| replica.circuit.state() == State::Closed).await;
}

async fn all_are(replicas: &[Replica], is_so: impl Fn(&Replica) -> bool) {
    eventually("all replicas", || std::future::ready(replicas.iter().all(&is_so))).await;
}

async fn all_open(replicas: &[Replica]) {
    all_are(replicas, |replica| replica.circuit.state() == State::Open).await;
}

/// Makes good calls, of which each that is made comes back as what it was, until all are closed.
async fn recover(replicas: &[Replica]) {
    eventually("all closed", || async {
        for replica in replicas {
            let called = replica.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
            assert!(matches!(called, Ok(7)) || called.is_err_and(|error| error.is_rejected()));
        }
        replicas.iter().all(|replica| replica.circuit.state() == State::Closed)
    })
    .await;
}

async fn probe(replica: &Replica) -> Permit {
    loop {
        match replica.circuit.acquire().await {
            Ok(permit) => return permit,
            Err(_) => tokio::time::sleep(ms(5)).await,
        }
    }
}

/// What befalls the server, and its end.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Frozen,
    Killed,
}

impl Fault {
    fn begin(self, server: &mut Server) {
        match self {
            Self::Frozen => server.freeze(),
            Self::Killed => server.kill(),
        }
    }

    fn end(self, server: &mut Server) {
        match self {
            Self::Frozen => server.thaw(),
            Self::Killed => server.restart(),
        }
    }
}

const FAULTS: [Fault; 2] = [Fault::Frozen, Fault::Killed];

async fn degraded(replicas: &[Replica]) {
    all_are(replicas, |replica| replica.store.backend().is_degraded()).await;
}

#[test]
fn lost_while_closed_calls_go_on_and_each_replica_judges_alone() {
    for fault in FAULTS {
        let mut server = Server::start();
        real(async {
            let replicas = cluster(&server, 3, policy()).await;
            fault.begin(&mut server);
            eventually("a replica that knows", || async {
                for replica in &replicas {
                    let called = replica.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
                    assert_eq!(called.unwrap(), 7, "{fault:?}");
                }
                replicas.iter().all(|replica| replica.store.backend().is_degraded())
            })
            .await;
            times(3, fail, &replicas[0].circuit);
            assert_state(&replicas[0].circuit, State::Open);
            assert_state(&replicas[1].circuit, State::Closed);
            fault.end(&mut server);
            recover(&replicas).await;
            agree(&replicas).await;
        });
    }
}

#[test]
fn lost_while_open_it_stays_open_and_then_each_replica_probes_alone() {
    for fault in FAULTS {
        let mut server = Server::start();
        real(async {
            let replicas = cluster(&server, 3, policy()).await;
            times(3, fail, &replicas[0].circuit);
            all_open(&replicas).await;
            fault.begin(&mut server);
            degraded(&replicas).await;
            let probes = [probe(&replicas[0]).await, probe(&replicas[1]).await];
            assert!(replicas[0].circuit.acquire().await.is_err(), "one probe at a time");
            for probe in probes {
                probe.settle(Outcome::Success);
            }
            assert_state(&replicas[0].circuit, State::Closed);
            fault.end(&mut server);
            recover(&replicas).await;
            agree(&replicas).await;
        });
    }
}

#[test]
fn lost_while_it_asks_for_a_place_a_call_is_rejected_or_probes_alone() {
    for fault in FAULTS {
        let mut server = Server::start();
        real(async {
            let replicas = cluster(&server, 3, policy()).await;
            times(3, fail, &replicas[0].circuit);
            all_open(&replicas).await;
            tokio::time::sleep(ms(500)).await;
            fault.begin(&mut server);
            let first = replicas[1].circuit.acquire().await;
            assert!(first.is_err() || replicas[1].store.backend().is_degraded());
            drop(first);
            recover(&replicas).await;
            fault.end(&mut server);
            recover(&replicas).await;
            agree(&replicas).await;
        });
    }
}

#[test]
fn lost_while_a_probe_is_out_its_result_decides_here_and_is_not_lost_for_good() {
    for fault in FAULTS {
        for outcome in [Outcome::Success, Outcome::failure()] {
            let mut server = Server::start();
            real(async {
                let replicas = cluster(&server, 3, policy()).await;
                times(3, fail, &replicas[0].circuit);
                all_open(&replicas).await;
                let probe = probe(&replicas[0]).await;
                assert_state(&replicas[0].circuit, State::HalfOpen);
                fault.begin(&mut server);
                probe.settle(outcome);
                degraded(&replicas[..1]).await;
                fault.end(&mut server);
                recover(&replicas).await;
                agree(&replicas).await;
            });
        }
    }
}

#[test]
fn lost_at_the_start_a_store_starts_alone_and_joins_when_it_can() {
    let mut server = Server::start();
    real(async {
        let before = cluster(&server, 1, policy()).await;
        for fault in FAULTS {
            fault.begin(&mut server);
            let late = join(&server.config(), policy()).await;
            let called = late.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
            assert_eq!(called.unwrap(), 7);
            degraded(std::slice::from_ref(&late)).await;
            fault.end(&mut server);
            let both = [late, join(&server.config(), policy()).await];
            agree(&both).await;
            agree(&before).await;
        }
    });
}

#[test]
fn lost_one_master_of_a_cluster_calls_go_on_and_all_agree_when_it_is_back() {
    for fault in FAULTS {
        let mut cluster = Cluster::start();
        real(async {
            // Circuits "a", "b" and "d" are with different masters, each of them with two replicas.
            let names = ["a", "b", "d"];
            let masters: BTreeSet<_> =
                names.map(|name| cluster.master_of(&format!("{{cb:{name}}}"))).into();
            assert_eq!(masters.len(), 3);
            let stores =
                [join(&cluster.config(), policy()).await, join(&cluster.config(), policy()).await];
            let circuits = names.map(|name| {
                let of = |replica: &Replica| Replica {
                    circuit: replica.store.circuit(name),
                    store: replica.store.clone(),
                };
                [of(&stores[0]), of(&stores[1])]
            });
            for replicas in &circuits {
                agree(replicas).await;
            }
            times(3, fail, &circuits[0][0].circuit);
            all_open(&circuits[0]).await;

            let lost = cluster.master_of("{cb:a}");
            fault.begin(&mut cluster.nodes[lost]);
            for replicas in &circuits {
                recover(replicas).await;
            }
            // The one alone, or all: a cluster that misses a master serves nobody after a while.
            times(3, fail, &circuits[0][1].circuit);
            assert_state(&circuits[0][1].circuit, State::Open);
            fault.end(&mut cluster.nodes[lost]);
            for replicas in &circuits {
                recover(replicas).await;
                agree(replicas).await;
            }
        });
    }
}

#[test]
fn read_only_while_open_each_replica_recovers_alone_and_all_agree_when_it_can_be_written() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 2, policy()).await;
        times(3, fail, &replicas[0].circuit);
        all_open(&replicas).await;
        // As a master that has become somebody's replica: it is read, and not written.
        server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
        recover(&replicas).await;
        server.cli(&["REPLICAOF", "NO", "ONE"]);
        all_are(&replicas, |replica| !replica.circuit.snapshot().detached).await;
        recover(&replicas).await;
        agree(&replicas).await;
    });
}

#[test]
fn emptied_while_open_it_is_restored_and_nobody_closes_for_it() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 3, policy().open_for(s(600)).backoff(1.0, s(600))).await;
        times(3, fail, &replicas[0].circuit);
        all_open(&replicas).await;
        let ledger = watcher(&server).await;
        let name = replicas[0].circuit.name().clone();
        let generation = ledger.load(&name).await.unwrap().generation;
        server.cli(&["FLUSHALL"]);
        eventually("a ledger that knows again", || async {
            let view = ledger.load(&name).await.unwrap();
            view.generation == generation && matches!(view.state, RecordState::Open { .. })
        })
        .await;
        for replica in &replicas {
            assert_state(&replica.circuit, State::Open);
        }
        let fresh = join_patiently(&server, policy()).await;
        assert_eq!(fresh.circuit.acquire().await.unwrap_err().state(), State::Open);
    });
}

#[test]
fn set_back_by_a_stale_failover_it_is_brought_forward() {
    let server = Server::start();
    real(async {
        let open = policy().open_for(s(600)).backoff(1.0, s(600));
        let replicas = cluster(&server, 3, open).await;
        times(3, succeed, &replicas[0].circuit);
        let ledger = watcher(&server).await;
        let name = replicas[0].circuit.name().clone();
        // An older copy, as a replica has it that was promoted too early.
        assert_eq!(server.cli(&["COPY", "{cb:test}", "old"]), "1");
        times(3, fail, &replicas[0].circuit);
        all_open(&replicas).await;
        let generation = ledger.load(&name).await.unwrap().generation;
        assert!(server.number(&["HGET", "old", "generation"]) < generation);
        assert_eq!(server.cli(&["COPY", "old", "{cb:test}", "REPLACE"]), "1");
        eventually("a ledger that knows again", || async {
            ledger.load(&name).await.unwrap().generation == generation
        })
        .await;
        all_open(&replicas).await;
    });
}

#[test]
fn without_its_scripts_it_serves_on() {
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
fn a_hundred_failures_at_once_count_as_a_hundred() {
    let server = Server::start();
    real(async {
        let count = |n| {
            let policy = policy().without_consecutive_failures().without_failure_rate();
            policy.failure_count(n).open_for(s(600))
        };
        let replicas = cluster(&server, 10, count(100).backoff(1.0, s(600))).await;
        let failing = replicas.iter().map(|replica| {
            let circuit = replica.circuit.clone();
            tokio::task::spawn_blocking(move || times(10, fail, &circuit))
        });
        for task in failing.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        all_open(&replicas).await;
        let ledger = watcher(&server).await;
        let view = ledger.load(replicas[0].circuit.name()).await.unwrap();
        assert_eq!((view.tally.calls, view.tally.failures), (100, 100));
    });
}

#[test]
fn forced_open_survives_new_clients_a_restart_and_the_eviction_of_idle_circuits() {
    // What was written survives the process; that the machine ends is not what this is about.
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "no"]);
    real(async {
        let replicas = cluster(&server, 2, policy()).await;
        eventually("an override that is told", || async {
            replicas[0].circuit.force_open("until noon").await.is_ok()
        })
        .await;
        all_are(&replicas, |replica| replica.circuit.state() == State::ForcedOpen).await;
        drop(replicas);
        server.cli(&["DEL", "{cb:test}"]);
        let fresh = join_patiently(&server, policy()).await;
        assert_eq!(fresh.circuit.acquire().await.unwrap_err().state(), State::ForcedOpen);
        server.kill();
        server.restart();
        let fresh = join_patiently(&server, policy()).await;
        assert_eq!(fresh.circuit.acquire().await.unwrap_err().state(), State::ForcedOpen);
    });
}

#[test]
fn a_store_that_is_shut_down_has_told_what_it_knew() {
    let server = Server::start();
    real(async {
        let replicas = [join_patiently(&server, policy().consecutive_failures(50)).await];
        agree(&replicas).await;
        times(2, fail, &replicas[0].circuit);
        assert!(replicas[0].store.shutdown(s(5)).await);
        let ledger = watcher(&server).await;
        let view = ledger.load(replicas[0].circuit.name()).await.unwrap();
        assert_eq!(view.tally.consecutive_failures, 2);
        succeed(&replicas[0].circuit);
        let clients = || server.cli(&["CLIENT", "LIST", "TYPE", "NORMAL"]).lines().count();
        let before = clients();
        drop(replicas);
        assert!(clients() <= before, "nothing connects again");
    });
}
