//! Engines, which serve one circuit after another.

use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;

use tower_breaker::event::Event;
use tower_breaker::{State, Store};

use crate::support::*;

#[test]
fn every_event_is_delivered_before_an_engine_is_reused() {
    let store = store(fragile());
    let old = store.circuit("old");
    let (reached, observed): (Sender<u64>, _) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    old.on_change(move |event| {
        if let Event::Transition(transition) = event {
            reached.send(transition.generation).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let permit = hold(&old);
    let notifying = thread::spawn(move || permit.settle(tower_breaker::Outcome::failure()));
    assert_eq!(observed.recv_timeout(HANGS), Ok(2), "the observer is notified that it opened");
    drop(old.reset());
    drop((old, store));

    // The store and every handle are gone. New circuits must not take over events in delivery.
    let new: Vec<_> = (0..50).map(|_| Store::in_memory().circuit("new")).collect();
    for circuit in &new {
        let generations = generations(circuit);
        drop(circuit.disable("a test"));
        let observed: Vec<_> = generations.try_iter().collect();
        assert_eq!(observed, [2], "notified before the call returns");
    }
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    notifying.join().unwrap();
    assert_eq!(observed.try_iter().collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_outlives_its_store_while_a_handle_is_in_use() {
    let circuit = store(fragile()).circuit("orphan");
    // New circuits do not get its engine.
    let others: Vec<_> = (0..100).map(|_| store(fragile()).circuit("other")).collect();
    trip(&circuit);
    assert!(others.iter().all(|other| other.state() == State::Closed));
    assert_state(&circuit.clone(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_new_circuit_on_a_reused_engine_starts_empty() {
    // More than enough circuits for an engine to be used again while its old permits are in flight.
    let mut late = Vec::new();
    for _ in 0..1_000 {
        let circuit = store(fragile()).circuit("short-lived");
        assert_eq!(circuit.snapshot().generation, 1);
        assert_eq!((circuit.snapshot().tally.calls, circuit.snapshot().stale_results), (0, 0));
        late.push(hold(&circuit));
        trip(&circuit);
    }
    let circuit = store(fragile()).circuit("the last");
    let before = evidence(&circuit);
    for permit in late {
        permit.settle(tower_breaker::Outcome::failure());
    }
    assert_eq!(evidence(&circuit), before);
    assert_eq!(circuit.snapshot().stale_results, 0, "they were calls of other circuits");
}
