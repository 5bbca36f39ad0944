//! What a store says is what has happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_breaker::backend::{BackendError, MemoryBackend};
use tower_breaker::event::BackendStatus;
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, State};

use crate::support::log::Log;
use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic, Verb};
use crate::support::*;

/// Two replicas that know each other's changes.
async fn two() -> [Replica<Traffic>; 2] {
    let backend = MemoryBackend::new();
    let replicas = [(); 2].map(|()| Replica::join(&Traffic::over(&backend), fragile()));
    sleep(s(3)).await;
    replicas
}

/// Makes the backend unreachable for this replica until it knows that.
async fn degrade(replica: &Replica<Traffic>) {
    replica.line.set(Fault::Pauses);
    wait_for("a degraded replica", || replica.store.backend().is_degraded()).await;
}

#[tokio::test(start_paused = true)]
async fn an_override_while_degraded_is_answered_in_time_and_truly() {
    let [one, other] = two().await;
    trip(&one.circuit);
    sleep(s(1)).await;
    degrade(&one).await;
    let start = now();
    let answer = timeout(s(60), one.circuit.force_open("maintenance")).await;
    let took = now() - start;
    assert!(took <= ms(100), "{answer:?} after {took:?}");
    let error = answer.expect("an answer").expect_err("the backend has not stored it");
    assert!(error.is_unavailable(), "{error}");
    assert_state(&one.circuit, State::ForcedOpen);
    // It is sent later.
    one.line.set(Fault::None);
    sleep(s(5)).await;
    assert_state(&other.circuit, State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_is_no_transition() {
    let log = Log::default();
    let replicas = two().await;
    trip(&replicas[0].circuit);
    sleep(s(1)).await;
    for replica in &replicas {
        degrade(replica).await;
    }
    let events = replicas.each_ref().map(|replica| events(&replica.circuit));
    let _listening = log.listen();
    for replica in &replicas {
        replica.line.set(Fault::None);
    }
    sleep(s(3)).await;
    for (replica, events) in replicas.iter().zip(events) {
        assert!(!replica.store.backend().is_degraded());
        assert_state(&replica.circuit, State::Open);
        let events: Vec<_> = events.try_iter().collect();
        assert!(events.is_empty(), "{events:?}");
    }
    let opened: Vec<_> = log.lines().into_iter().filter(|line| line.contains("opened")).collect();
    assert!(opened.is_empty(), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_replica_joins_an_open_circuit_without_a_transition() {
    let [one, _other] = two().await;
    trip(&one.circuit);
    sleep(s(1)).await;
    let fresh = Replica::join(&one.line, fragile());
    let events = events(&fresh.circuit);
    sleep(s(1)).await;
    assert_state(&fresh.circuit, State::Open);
    let events: Vec<_> = events.try_iter().collect();
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_a_closed_circuit_is_no_transition() {
    let replicas = two().await;
    let events = replicas.each_ref().map(|replica| events(&replica.circuit));
    replicas[0].circuit.reset().await.unwrap();
    sleep(s(1)).await;
    for events in events {
        let events: Vec<_> = events.try_iter().collect();
        assert!(events.is_empty(), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_set_twice_is_one_transition() {
    let replicas = two().await;
    let events = replicas.each_ref().map(|replica| events(&replica.circuit));
    for _ in 0..2 {
        replicas[0].circuit.disable("maintenance").await.unwrap();
        sleep(s(1)).await;
    }
    for events in events {
        let events: Vec<_> = events.try_iter().collect();
        assert_eq!(events.len(), 1, "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_after_the_shutdown_is_not_acknowledged() {
    let [one, other] = two().await;
    assert!(one.store.shutdown(s(1)).await);
    assert_ne!(one.store.backend(), BackendStatus::Connected);
    let answer = timeout(s(1), one.circuit.force_open("maintenance")).await.expect("an answer");
    assert!(answer.is_err(), "no other replica has it");
    assert_state(&other.circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_override_that_lasts_no_time_was_not_superseded() {
    let [one, _other] = two().await;
    let at_once = Override::force_open("a test").lasting(Duration::ZERO);
    let answer = timeout(s(1), one.circuit.set_override(at_once)).await.expect("an answer");
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("ended before"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_refused_show_in_the_status() {
    let [one, _other] = two().await;
    for verb in [Verb::Sync, Verb::Transition, Verb::Restore] {
        one.line.set_for(verb, Fault::Fails(BackendError::refused("out of memory")));
    }
    fail(&one.circuit);
    sleep(s(5)).await;
    assert_ne!(one.store.backend(), BackendStatus::Connected, "{:?}", one.circuit.snapshot());
    assert!(one.store.backend().to_string().contains("out of memory"));
}

#[test]
fn an_observer_that_never_returns_delays_no_other_circuit() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build().unwrap()
    };
    let (backend, end) = (MemoryBackend::new(), Arc::new(AtomicBool::new(false)));
    // A runtime for each replica, as each is a process.
    let runtimes = [(); 2].map(|()| runtime());
    let [one, other] = runtimes.each_ref().map(|runtime| {
        let _inside = runtime.enter();
        store_on(backend.clone(), fragile()).build()
    });
    let hung: Vec<_> = (0..4).map(|n| one.circuit(format!("hung {n}"))).collect();
    let ours = one.circuit("test");
    for circuit in &hung {
        let end = end.clone();
        circuit.on_change(move |_| {
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(ms(1));
            }
        });
    }
    std::thread::sleep(ms(100));
    let known = runtimes[1].block_on(async {
        for name in hung.iter().map(Circuit::name) {
            timeout(s(5), other.circuit(name.clone()).force_open("a test")).await.unwrap().unwrap();
            // Each hangs before the next change comes.
            sleep(ms(50)).await;
        }
        timeout(s(5), other.circuit("test").force_open("a test")).await.unwrap().unwrap();
        let known = async {
            while ours.state() != State::ForcedOpen {
                sleep(ms(10)).await;
            }
        };
        timeout(s(5), known).await
    });
    end.store(true, Ordering::Relaxed);
    assert!(known.is_ok(), "waited 5 s");
    for runtime in runtimes {
        runtime.shutdown_timeout(s(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_counts_as_one_that_does_not_answer() {
    let [one, _other] = two().await;
    one.line.set(Fault::Panics);
    fail(&one.circuit);
    sleep(s(5)).await;
    assert!(one.store.backend().is_degraded(), "{}", one.store.backend());
    one.line.set(Fault::None);
    sleep(s(5)).await;
    assert_eq!(one.store.backend(), BackendStatus::Connected);
}
