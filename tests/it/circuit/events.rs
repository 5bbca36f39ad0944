//! Events: what observers receive, and what is logged.

use std::sync::{Arc, Mutex};

use tower_breaker::event::Event;
use tower_breaker::{Circuit, Outcome, Policy, Store};

use crate::support::log::Log;
use crate::support::*;

/// Collects every event of the circuit from now on, as text.
fn collect(circuit: &Circuit) -> Arc<Mutex<Vec<String>>> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let observer = events.clone();
    circuit.on_change(move |event| {
        let line = match event {
            Event::Transition(transition) => transition.to_string(),
            other => format!("{other:?}"),
        };
        observer.lock().unwrap().push(line);
    });
    events
}

#[tokio::test(start_paused = true)]
async fn observers_receive_every_transition_with_its_reason() {
    let circuit = circuit(fragile());
    let events = collect(&circuit);
    open_until_due(&circuit).await;
    fail(&circuit);
    wait_out(&circuit).await;
    succeed(&circuit);
    circuit.force_open("test");
    circuit.reset();
    assert_eq!(
        *events.lock().unwrap(),
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
async fn an_observer_may_use_the_circuit_and_receives_events_in_order() {
    let circuit = circuit(fragile());
    let reacting = circuit.clone();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event
            && transition.generation == 2
        {
            reacting.force_open("the observer");
            assert_eq!(reacting.snapshot().generation, 3);
        }
    });
    let events = collect(&circuit);
    fail(&circuit);
    assert_eq!(
        *events.lock().unwrap(),
        ["closed -> open: 1 failure; probes in 10.0 s", "open -> forced open: an operator acted"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_panicking_observer_disturbs_no_call_and_no_other_observer() {
    let circuit = circuit(fragile());
    circuit.on_change(|_| panic!("as asked"));
    let events = collect(&circuit);
    fail(&circuit);
    circuit.reset();
    assert_eq!(events.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_log_level_says_whether_an_operator_must_act() {
    let log = Log::default();
    let _guard = log.listen();
    let store = store(fragile());
    let circuit = store.circuit("payments");
    open_until_due(&circuit).await;
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
        "INFO message=circuit \"payments\" is metrics-only: \"trying\"; lasts until an operator ends it circuit=payments from=\"closed\" to=\"metrics_only\"",
        "WARN message=circuit \"payments\" would have opened, but is metrics-only: its evidence meets \
         consecutive_failures circuit=payments",
    ];
    assert_eq!(log.len(), starts.len(), "{log:#?}");
    for (line, start) in log.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_policy_for_a_name_is_logged_if_it_is_different() {
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
async fn a_trip_has_its_evidence() {
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
    for (policy, expected) in cases {
        let circuit = circuit(policy);
        let events = collect(&circuit);
        times(2, succeed, &circuit);
        for _ in 0..2 {
            let slow = hold(&circuit);
            advance(ms(1_001)).await;
            slow.settle(Outcome::failure());
        }
        assert_eq!(*events.lock().unwrap(), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_observer_of_a_store_receives_events_of_every_circuit() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let observer = names.clone();
    let store = Store::builder()
        .on_change(move |circuit, _| observer.lock().unwrap().push(circuit.to_string()))
        .build();
    store.circuit("a").force_open("test");
    store.clone().circuit("b").disable("test");
    assert_eq!(*names.lock().unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_during_a_panic_does_not_abort() {
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
async fn the_queue_of_a_slow_observer_is_bounded() {
    let circuit = circuit(fragile());
    let generations = Arc::new(Mutex::new(Vec::new()));
    let (observer, busy) = (generations.clone(), circuit.clone());
    circuit.on_change(move |event| {
        let Event::Transition(transition) = event else { return };
        if transition.generation == 2 {
            for n in 0..3_000 {
                busy.disable(n.to_string());
            }
        }
        observer.lock().unwrap().push(transition.generation);
    });
    circuit.disable("first");
    let generations = generations.lock().unwrap();
    let (len, first, last) = (generations.len(), generations[1], generations[1_000]);
    assert_eq!((len, first, last), (1_001, 2_003, 3_002), "the latest are kept");
}
