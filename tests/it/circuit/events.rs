//! What is told, to observers and to the log.

use std::sync::{Arc, Mutex};

use tower_breaker::event::Event;
use tower_breaker::{Circuit, Outcome, Policy, Store};

use crate::support::log::Log;
use crate::support::*;

fn listen(circuit: &Circuit) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer = heard.clone();
    circuit.on_change(move |event| {
        let line = match event {
            Event::Transition(transition) => transition.to_string(),
            other => format!("{other:?}"),
        };
        observer.lock().unwrap().push(line);
    });
    heard
}

#[tokio::test(start_paused = true)]
async fn every_transition_is_told_with_its_reason() {
    let circuit = circuit(fragile());
    let heard = listen(&circuit);
    trip(&circuit);
    wait_out(&circuit).await;
    fail(&circuit);
    wait_out(&circuit).await;
    succeed(&circuit);
    circuit.force_open("test");
    circuit.reset();
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "closed -> open: 1 failure; probes in 10.0 s",
            "open -> half-open: the open interval ended",
            "half-open -> open: a probe failed; probes in 20.0 s",
            "open -> half-open: the open interval ended",
            "half-open -> closed: enough probes succeeded",
            "closed -> forced open: an operator acted",
            "forced open -> closed: an operator acted",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_use_the_circuit_and_hears_in_order() {
    let circuit = circuit(fragile());
    let reacting = circuit.clone();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event
            && transition.generation == 2
        {
            reacting.force_open("by the observer");
            assert_eq!(reacting.snapshot().generation, 3);
        }
    });
    let heard = listen(&circuit);
    trip_once(&circuit);
    assert_eq!(
        *heard.lock().unwrap(),
        ["closed -> open: 1 failure; probes in 10.0 s", "open -> forced open: an operator acted"]
    );
}

fn trip_once(circuit: &Circuit) {
    fail(circuit);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_no_call_and_no_other_observer() {
    let circuit = circuit(fragile());
    circuit.on_change(|_| panic!("as asked"));
    let heard = listen(&circuit);
    fail(&circuit);
    circuit.reset();
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_log_s_level_says_who_must_act() {
    let log = Log::default();
    let _guard = log.listen();
    let store = store(fragile());
    let circuit = store.circuit("payments");
    trip(&circuit);
    wait_out(&circuit).await;
    succeed(&circuit);
    circuit.metrics_only("trying");
    fail(&circuit);
    let log = log.lines();
    let starts = [
        "WARN message=circuit \"payments\" opened: 1 failure; probes in 10.0 s circuit=payments from=\"closed\" to=\"open\" \
         reason=\"consecutive_failures\" origin=\"local\" generation=2 open_for_ms=10000 \
         calls=1 failures=1 slow_calls=0 consecutive_failures=1",
        "INFO message=circuit \"payments\" changed from open to half-open: the open interval ended circuit=payments from=\"open\" to=\"half_open\"",
        "INFO message=circuit \"payments\" changed from half-open to closed: enough probes succeeded circuit=payments from=\"half_open\" to=\"closed\"",
        "INFO message=circuit \"payments\" changed from closed to metrics-only: an operator acted circuit=payments from=\"closed\" to=\"metrics_only\"",
        "WARN message=circuit would have opened, but is metrics-only circuit=payments",
    ];
    assert_eq!(log.len(), starts.len(), "{log:#?}");
    for (line, start) in log.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_policy_for_a_name_is_a_warning_and_the_same_one_again_is_not() {
    let log = Log::default();
    let _guard = log.listen();
    let store = Store::in_memory();
    store.circuit_with("a", Policy::cache());
    store.circuit_with("a", Policy::cache());
    assert!(log.lines().is_empty());
    store.circuit_with("a", Policy::database());
    assert_eq!(log.lines().len(), 1);
    assert!(log.lines()[0].starts_with("WARN message=a second, different policy"));
}

#[tokio::test(start_paused = true)]
async fn a_trip_tells_its_evidence() {
    let rate = || Policy::builder().without_consecutive_failures();
    let cases = [
        (rate().minimum_calls(4), "closed -> open: 2 of 4 calls failed; probes in 30.0 s"),
        (rate().failure_count(2), "closed -> open: 2 of 4 calls failed; probes in 30.0 s"),
        (
            rate()
                .slow_call_duration(s(1))
                .slow_call_rate(0.5)
                .without_failure_rate()
                .minimum_calls(4),
            "closed -> open: 2 of 4 calls were slow; probes in 30.0 s",
        ),
    ];
    for (policy, told) in cases {
        let circuit = circuit(policy);
        let heard = listen(&circuit);
        times(2, succeed, &circuit);
        for _ in 0..2 {
            let slow = hold(&circuit);
            advance(ms(1_001)).await;
            slow.settle(Outcome::failure());
        }
        assert_eq!(*heard.lock().unwrap(), [told]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_s_observer_hears_of_every_circuit() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer = heard.clone();
    let store = Store::builder()
        .on_change(move |circuit, _| observer.lock().unwrap().push(circuit.to_string()))
        .build();
    store.circuit("a").force_open("test");
    store.clone().circuit("b").reset();
    assert_eq!(*heard.lock().unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_while_a_call_panics_does_not_end_the_program() {
    let circuit = circuit(fragile());
    circuit.on_change(|_| panic!("as asked, by the observer"));
    let calling = circuit.clone();
    let task = tokio::spawn(async move {
        let _ =
            calling.execute(|| async { panic!("as asked, by the call") as Result<(), ()> }).await;
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_state(&circuit, tower_breaker::State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_observer_is_bounded() {
    let circuit = circuit(fragile());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (observer, busy) = (heard.clone(), circuit.clone());
    circuit.on_change(move |event| {
        let Event::Transition(transition) = event else { return };
        if transition.generation == 2 {
            times(3_000, |circuit| drop(circuit.reset()), &busy);
        }
        observer.lock().unwrap().push(transition.generation);
    });
    circuit.reset();
    let heard = heard.lock().unwrap();
    assert_eq!((heard.len(), heard[1], heard[1_000]), (1_001, 2_003, 3_002), "the last ones");
}
