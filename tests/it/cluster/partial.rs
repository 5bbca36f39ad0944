//! A backend that serves a part of its operations: reads and no writes, or all servers but one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::backend::{Group, Impairment};
use tower_breaker::event::BackendStatus;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, CircuitName, ErrorsAsFailures, Outcome, State, Store,
};

use crate::support::outage::{While, unreachable_while};
use crate::support::partial::{Fault, PartialBackend};
use crate::support::replica::Replica;
use crate::support::*;

const FAULTS: [Fault; 2] = [Fault::RefusesWrites, Fault::CannotWrite];

/// A replica whose fault begins while its circuit is open. By now the next call may probe.
async fn probe_due_under(fault: Fault) -> Replica<PartialBackend> {
    let replica = Replica::join(&PartialBackend::new(), fragile().successes_to_close(2));
    sleep(s(1)).await;
    unreachable_while(While::Open, &[&replica], || replica.line.set(fault)).await;
    sleep(s(11)).await;
    replica.line.acquires();
    replica
}

async fn succeed_when_admitted(circuit: &Circuit) {
    circuit.acquire().await.unwrap().settle(Outcome::Success);
}

/// A service that waits while the replica's circuit is open.
fn waiting_service(replica: &Replica<PartialBackend>) -> impl Service<(), Error: std::fmt::Debug> {
    let layer = CircuitBreakerLayer::new(replica.store.clone()).named("test");
    let inner = service_fn(|(): ()| async { Ok::<_, &str>(()) });
    layer.classify(ErrorsAsFailures).wait_while_open().layer(inner)
}

#[tokio::test(start_paused = true)]
async fn a_circuit_recovers_without_leases_and_joins_the_others_again_later() {
    for fault in FAULTS {
        for every in [100, 2_000, 10_000] {
            let Replica { line, store, circuit } = probe_due_under(fault).await;
            let mut calls = 0;
            while circuit.state() != State::Closed {
                if let Ok(permit) = circuit.acquire().await {
                    permit.settle(Outcome::Success);
                }
                calls += 1;
                assert!(calls < 50, "{fault:?}, a call each {every} ms: {:?}", circuit.snapshot());
                sleep(ms(every)).await;
            }
            // It stays closed, and does not ask for leases all the time.
            line.acquires();
            for _ in 0..60 {
                succeed_when_admitted(&circuit).await;
                sleep(s(1)).await;
            }
            assert!(line.acquires() <= 120, "{fault:?}");

            line.set(Fault::None);
            sleep(s(20)).await;
            assert!(!circuit.snapshot().detached, "{fault:?}");
            assert_state(&circuit, State::Closed);
            let other = Replica::join(&line, fragile()).circuit;
            assert!(other.acquire().await.is_ok(), "{fault:?}");
            trip(&circuit);
            sleep(s(1)).await;
            assert_state(&other, State::Open);
            drop(store);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_asks_for_few_leases_while_there_are_none() {
    for fault in FAULTS {
        let replica = probe_due_under(fault).await;
        waiting_service(&replica).oneshot(()).await.unwrap();
        let asked = replica.line.acquires();
        assert!(asked <= 6, "{fault:?}: {asked}");
        assert_state(&replica.circuit, State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_soon_admitted_over_an_emptied_backend() {
    let replica = probe_due_under(Fault::None).await;
    // The replica has not looked since.
    replica.line.backend.forget();
    let start = now();
    waiting_service(&replica).oneshot(()).await.unwrap();
    assert!(now() - start < s(1), "the record is restored as soon as it is missed");
    let asked = replica.line.acquires();
    assert!(asked <= 6, "{asked}");
    assert_state(&replica.circuit, State::HalfOpen);
}

/// Circuits of the groups below `HUNG`, and others.
const HUNG: u8 = 8;

fn circuits(store: &Store, each: usize, hung: bool) -> Vec<Circuit> {
    let names = (0..).map(|n| CircuitName::new(format!("circuit {n}")).unwrap());
    let names = names.filter(|name| (Group::of(name).number() < HUNG) == hung);
    names.take(each).map(|name| store.circuit(name)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hung_server_of_many_gets_few_operations_and_affects_no_other() {
    for each in [1, 50, 500] {
        let line = PartialBackend::new();
        let degraded = Arc::new(AtomicU64::new(0));
        let observer = degraded.clone();
        let store = Store::builder()
            .default_policy(fragile().build().unwrap())
            .backend(line.clone())
            .on_backend(move |status: &BackendStatus| {
                observer.fetch_add(u64::from(status.is_degraded()), Ordering::Relaxed);
            })
            .build();
        let (hung, served) = (circuits(&store, each, true), circuits(&store, each, false));
        sleep(s(60)).await;
        assert_eq!(store.backend(), BackendStatus::Connected, "{each}");
        line.set(Fault::Hangs(HUNG));
        // Until the replica has noticed it of every group.
        sleep(s(60)).await;
        let groups: BTreeSet<_> = hung.iter().map(|circuit| Group::of(circuit.name())).collect();
        let status = store.backend();
        let [Impairment::GroupsUnreachable { groups: unreachable, .. }] = status.impairments()
        else {
            panic!("{each}: {status}")
        };
        assert_eq!(*unreachable, groups.len(), "{each}");
        line.hung();
        for _ in 0..60 {
            for circuit in served.iter().chain(&hung) {
                succeed_when_admitted(circuit).await;
            }
            sleep(s(1)).await;
        }
        let asked = line.hung();
        let most = 60 * groups.len() as u64;
        assert!(asked <= most, "{each}: asked {asked} times in a minute");
        assert_eq!(degraded.load(Ordering::Relaxed), 0, "{each}");
        assert!(hung.iter().all(|circuit| circuit.snapshot().detached), "{each}");
        assert!(served.iter().all(|circuit| !circuit.snapshot().detached), "{each}");

        line.set(Fault::None);
        sleep(s(10)).await;
        assert!(hung.iter().all(|circuit| !circuit.snapshot().detached), "{each}");
        assert_eq!(store.backend(), BackendStatus::Connected, "{each}");
    }
}
