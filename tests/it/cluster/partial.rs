//! A ledger that answers in part: what can be read and not written, and one server of many that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::event::BackendStatus;
use tower_breaker::{Circuit, CircuitBreakerLayer, ErrorsAsFailures, Outcome, State, Store};

use crate::support::partial::{Fault, PartialBackend};
use crate::support::*;

const FAULTS: [Fault; 2] = [Fault::RefusesWrites, Fault::CannotWrite];

/// Open, its interval over, when the fault begins.
async fn ripe(fault: Fault) -> (PartialBackend, Store, Circuit) {
    let line = PartialBackend::new();
    let policy = fragile().successes_to_close(2).jitter(0.0).build().unwrap();
    let store = Store::builder().default_policy(policy).backend(line.clone()).build();
    let circuit = store.circuit("test");
    sleep(s(1)).await;
    trip(&circuit);
    sleep(s(1)).await;
    assert!(!circuit.snapshot().detached);
    line.set(fault);
    sleep(s(10)).await;
    line.acquires();
    (line, store, circuit)
}

#[tokio::test(start_paused = true)]
async fn a_circuit_recovers_although_no_leases_are_to_be_had_and_all_agree_when_they_are() {
    for fault in FAULTS {
        for every in [100, 2_000, 10_000] {
            let (line, store, circuit) = ripe(fault).await;
            let mut calls = 0;
            while circuit.state() != State::Closed {
                if let Ok(permit) = circuit.acquire().await {
                    permit.settle(Outcome::Success);
                }
                calls += 1;
                assert!(calls < 50, "{fault:?}, a call each {every} ms: {:?}", circuit.snapshot());
                sleep(ms(every)).await;
            }
            // It stays so, and nobody is asked all the time.
            line.acquires();
            for _ in 0..60 {
                circuit.acquire().await.unwrap().settle(Outcome::Success);
                sleep(s(1)).await;
            }
            assert!(line.acquires() <= 120, "{fault:?}");

            line.set(Fault::None);
            sleep(s(20)).await;
            assert!(!circuit.snapshot().detached, "{fault:?}");
            assert_state(&circuit, State::Closed);
            let policy = fragile().jitter(0.0).build().unwrap();
            let other = Store::builder().default_policy(policy).backend(line.clone()).build();
            let other = other.circuit("test");
            assert!(other.acquire().await.is_ok(), "{fault:?}");
            trip(&circuit);
            sleep(s(1)).await;
            assert_state(&other, State::Open);
            drop(store);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_open_circuit_does_not_ask_again_and_again() {
    for fault in FAULTS {
        let (line, store, circuit) = ripe(fault).await;
        let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
        let well = service_fn(|(): ()| async { Ok::<_, &str>(()) });
        layer.wait_while_open().layer(well).oneshot(()).await.unwrap();
        let asked = line.acquires();
        assert!(asked <= 6, "{fault:?}: {asked}");
        assert_state(&circuit, State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_while_the_ledger_has_forgotten_asks_little_and_is_let_through() {
    let (line, store, circuit) = ripe(Fault::None).await;
    // Nobody has looked since.
    line.ledger.forget();
    let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
    let well = service_fn(|(): ()| async { Ok::<_, &str>(()) });
    let start = now();
    layer.wait_while_open().layer(well).oneshot(()).await.unwrap();
    assert!(now() - start < s(1), "the record is restored as soon as it is missed");
    let asked = line.acquires();
    assert!(asked <= 6, "{asked}");
    assert_state(&circuit, State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn one_server_of_many_that_hangs_is_asked_little_and_troubles_nobody_else() {
    for each in [1_u64, 50, 500] {
        let line = PartialBackend::new();
        let told = Arc::new(AtomicU64::new(0));
        let heard = told.clone();
        let store = Store::builder()
            .default_policy(fragile().build().unwrap())
            .backend(line.clone())
            .on_backend(move |status: &BackendStatus| {
                heard.fetch_add(u64::from(status.is_degraded()), Ordering::Relaxed);
            })
            .build();
        let make = |kind| (0..each).map(move |n| format!("{kind} {n}"));
        let dead: Vec<_> = make("dead").map(|name| store.circuit(name)).collect();
        let well: Vec<_> = make("well").map(|name| store.circuit(name)).collect();
        sleep(s(60)).await;
        line.set(Fault::Hangs("dead"));
        // Until all of them have been missed.
        sleep(s(60)).await;
        let before = told.load(Ordering::Relaxed);
        assert!(before <= 1, "{each}: degraded {before} times");
        line.hung();
        for _ in 0..60 {
            for circuit in well.iter().chain(&dead) {
                circuit.acquire().await.unwrap().settle(Outcome::Success);
            }
            sleep(s(1)).await;
        }
        let asked = line.hung();
        assert!(asked <= 60 * (each * 2).min(51), "{each}: asked {asked} times in a minute");
        assert_eq!(told.load(Ordering::Relaxed), before, "{each}");
        assert!(dead.iter().all(|circuit| circuit.snapshot().detached), "{each}");
        assert!(well.iter().all(|circuit| !circuit.snapshot().detached), "{each}");

        line.set(Fault::None);
        sleep(s(60)).await;
        assert!(dead.iter().all(|circuit| !circuit.snapshot().detached), "{each}");
    }
}
