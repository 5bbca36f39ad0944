//! A Redis that does not answer: killed, frozen, down at the start, read-only, or one master of
//! many.
//!
//! These tests run in real time, as a server does, and depend on no duration: they wait for what
//! must come, and check what must not happen at the time when it would.

use tower_breaker::circuit::Permit;
use tower_breaker::{Outcome, State};

use crate::support::outage::{While, bring_to, probe, unreachable_while};
use crate::support::redis::replicas::*;
use crate::support::redis::{Cluster, Server, eventually, real};
use crate::support::replica::Replica;
use crate::support::*;

/// What happens to the server.
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

/// Begins each fault when the circuit of three replicas is in a phase, and runs `test`. Once the
/// fault has ended, all circuits must close and agree again.
fn during_each_fault(phase: While, test: &impl AsyncFn(&[Replica], Option<Permit>)) {
    for fault in FAULTS {
        println!("fault: {fault:?}");
        let mut server = Server::start();
        real(async {
            let replicas = cluster(&server, 3, policy()).await;
            let begin = || fault.begin(&mut server);
            let probe = unreachable_while(phase, &replicas, begin).await;
            test(&replicas, probe).await;
            fault.end(&mut server);
            recover(&replicas).await;
            agree(&replicas).await;
        });
    }
}

#[test]
fn unreachable_while_closed_each_replica_judges_its_own_calls() {
    during_each_fault(While::Closed, &async |replicas, _| {
        eventually("degraded replicas", || async {
            for replica in replicas {
                let called = replica.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
                assert_eq!(called.unwrap(), 7);
            }
            replicas.iter().all(|replica| replica.store.backend().is_degraded())
        })
        .await;
        times(3, fail, &replicas[0].circuit);
        assert_state(&replicas[0].circuit, State::Open);
        assert_state(&replicas[1].circuit, State::Closed);
    });
}

#[test]
fn unreachable_while_open_each_replica_probes_by_itself() {
    during_each_fault(While::Open, &async |replicas, _| {
        all_degraded(replicas).await;
        let probes = [probe(&replicas[0].circuit).await, probe(&replicas[1].circuit).await];
        assert!(replicas[0].circuit.acquire().await.is_err(), "one probe at a time");
        for probe in probes {
            probe.settle(Outcome::Success);
        }
        assert_state(&replicas[0].circuit, State::Closed);
    });
}

#[test]
fn unreachable_when_a_probe_is_due_the_call_is_rejected_or_probes() {
    during_each_fault(While::ProbeDue, &async |replicas, _| {
        let first = replicas[1].circuit.acquire().await;
        let detached = replicas[1].circuit.snapshot().detached;
        assert!(first.is_err() || detached);
        drop(first);
        recover(replicas).await;
    });
}

#[test]
fn unreachable_while_probing_the_result_decides_in_its_replica() {
    for outcome in [Outcome::Success, Outcome::failure()] {
        during_each_fault(While::Probing, &async |replicas, probe| {
            probe.unwrap().settle(outcome);
            all_degraded(&replicas[..1]).await;
        });
    }
}

#[test]
fn unreachable_at_the_start_a_store_starts_detached_and_joins_later() {
    let mut server = Server::start();
    real(async {
        let before = cluster(&server, 1, policy()).await;
        for fault in FAULTS {
            fault.begin(&mut server);
            let late = join(&server.config(), policy()).await;
            let called = late.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
            assert_eq!(called.unwrap(), 7);
            all_degraded(std::slice::from_ref(&late)).await;
            fault.end(&mut server);
            let both = [late, join(&server.config(), policy()).await];
            agree(&both).await;
            agree(&before).await;
        }
    });
}

#[test]
fn with_one_master_unreachable_calls_go_on_and_all_agree_later() {
    for fault in FAULTS {
        let mut cluster = Cluster::start();
        real(async {
            // The groups of these circuits have different masters. Each has two replicas.
            let names = [0, 1, 2].map(|master| cluster.circuit_on(master));
            let stores =
                [join(&cluster.config(), policy()).await, join(&cluster.config(), policy()).await];
            let circuits = names.map(|name| {
                let of = |replica: &Replica| Replica {
                    line: (),
                    circuit: replica.store.circuit(name.clone()),
                    store: replica.store.clone(),
                };
                [of(&stores[0]), of(&stores[1])]
            });
            for replicas in &circuits {
                agree(replicas).await;
            }
            let begin = || fault.begin(&mut cluster.nodes[0]);
            unreachable_while(While::Open, &circuits[0], begin).await;
            for replicas in &circuits {
                recover(replicas).await;
            }
            // After a while a Redis Cluster that misses a master serves no key at all.
            times(3, fail, &circuits[0][1].circuit);
            assert_state(&circuits[0][1].circuit, State::Open);
            fault.end(&mut cluster.nodes[0]);
            for replicas in &circuits {
                recover(replicas).await;
                agree(replicas).await;
            }
        });
    }
}

#[test]
fn while_redis_is_read_only_each_replica_recovers_by_itself() {
    let server = Server::start();
    real(async {
        let replicas = cluster(&server, 2, policy()).await;
        bring_to(While::Open, &replicas).await;
        // As a master that was demoted to a Redis replica: it serves reads and no writes.
        server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
        recover(&replicas).await;
        server.cli(&["REPLICAOF", "NO", "ONE"]);
        all_are(&replicas, |replica| !replica.circuit.snapshot().detached).await;
        recover(&replicas).await;
        agree(&replicas).await;
    });
}
