//! The history of a circuit, in this process and over replicas.

use std::sync::Arc;

use tokio::time::sleep;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::event::{HistoryEntry, Origin, Reason};
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, State, Store};

use crate::support::faulty::Faulty;
use crate::support::network::Network;
use crate::support::replica::Replica;
use crate::support::*;

/// As sentences, each with its age in seconds.
fn lines(entries: &[HistoryEntry]) -> Vec<String> {
    let line = |it: &HistoryEntry| format!("{} s ago: {}", it.ago.as_secs(), it.transition);
    entries.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn the_history_says_what_changed_why_and_how_long_ago() {
    let circuit = circuit(fragile());
    assert_eq!(circuit.history().await.entries, []);
    open_until_due(&circuit).await;
    succeed(&circuit);
    circuit.set_override(Override::force_open("their maintenance").actor("alice").lasting(s(60)));
    advance(s(100)).await;
    let history = circuit.history().await;
    assert_eq!(history.source, Origin::Local);
    assert_eq!(
        lines(&history.entries),
        [
            "110 s ago: closed -> open: 1 failure; probes in 10.0 s",
            "100 s ago: open -> half-open: the open interval ended",
            "100 s ago: half-open -> closed: enough probes succeeded",
            "100 s ago: closed -> forced open: an operator acted",
            // Noted when it is read: no timer is needed.
            "0 s ago: forced open -> closed: the override expired",
        ]
    );
    let record = history.entries[3].transition.overridden.as_ref().unwrap();
    assert_eq!((record.actor.as_deref(), record.remaining), (Some("alice"), Some(s(60))));
    assert_eq!(circuit.local_history(), history.entries);
}

#[tokio::test(start_paused = true)]
async fn the_last_64_transitions_are_kept_and_of_a_key_the_last_8() {
    let store = store(fragile());
    let circuits = [(store.circuit("named"), 64), (store.keyed("a").circuit("b").unwrap(), 8)];
    for (circuit, most) in circuits {
        times(100, |circuit| drop(circuit.disable("again")), &circuit);
        // The same override again is no change.
        assert_eq!(circuit.local_history().len(), 1);
        for n in 0..100 {
            circuit.disable(n.to_string());
        }
        let history = circuit.local_history();
        let reason = |it: &HistoryEntry| it.transition.overridden.as_ref().unwrap().reason.clone();
        assert_eq!((history.len(), reason(&history[most - 1])), (most, "99".to_owned()));
        assert_eq!(reason(&history[0]), (100 - most).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_made_anew_has_no_history() {
    let store = store(fragile());
    let made = |n: usize| store.keyed("a").circuit(&n.to_string()).unwrap();
    for n in 0..8 {
        trip(&made(n));
    }
    advance(s(3_600)).await;
    for n in 0..2_000 {
        assert_eq!(made(n + 10).local_history(), [], "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_replica_shows_the_history_of_the_cluster() {
    let backend = MemoryBackend::new();
    let one = Replica::join(&backend, fragile());
    let other = Replica::join(&backend, fragile());
    sleep(ms(20)).await;
    trip(&one.circuit);
    sleep(ms(500)).await;
    let wild = "<script>\n\u{1b}[31m";
    other.circuit.set_override(Override::disable(wild).actor(wild)).await.unwrap();
    sleep(ms(500)).await;
    // One that starts later shows it too.
    let late = Replica::join(&backend, fragile());
    for circuit in [&one.circuit, &other.circuit, &late.circuit] {
        let history = circuit.history().await;
        assert_eq!(history.source, Origin::Cluster);
        let [trip, disabled] = &history.entries[..] else { panic!("{history:?}") };
        assert_eq!(
            (trip.transition.to, trip.transition.reason),
            (State::Open, Reason::ConsecutiveFailures)
        );
        assert_eq!(trip.transition.tally.consecutive_failures, 1);
        assert_eq!(trip.transition.contributors.len(), 1, "who had failures");
        let record = disabled.transition.overridden.as_ref().unwrap();
        assert_eq!((record.reason.as_str(), record.actor.as_deref()), (wild, Some(wild)));
        assert_eq!(disabled.transition.from, State::Open);
    }
    assert_eq!(late.circuit.local_history(), [], "it has seen no change");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_the_backend_the_history_is_that_of_this_process() {
    let line = Faulty::new(0, 0, Network::new(7, false));
    let replica = Replica::join(&line, fragile());
    sleep(ms(20)).await;
    line.cut();
    sleep(s(5)).await;
    trip(&replica.circuit);
    let began = now();
    let history = replica.circuit.history().await;
    assert!(began.elapsed() <= s(1));
    assert_eq!((history.source, history.entries.len()), (Origin::Local, 1));
    assert_eq!(history.entries[0].transition.to, State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_read_the_history() {
    must_end(|| {
        let circuit = circuit(fragile());
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (reader, lengths) = (circuit.clone(), seen.clone());
        circuit.on_change(move |_| {
            let length = Circuit::local_history(&reader).len();
            lengths.lock().unwrap().push(length);
        });
        fail(&circuit);
        circuit.reset();
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
    });
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn a_history_is_a_list_of_flat_objects_as_data() {
    let circuit = Store::in_memory().circuit("payments");
    circuit.force_open("test");
    advance(ms(1_500)).await;
    let history = circuit.history().await;
    let data = serde_json::to_value(&history).unwrap();
    assert_eq!(data["source"], "local");
    let entry = &data["entries"][0];
    assert_eq!((&entry["ago_ms"], &entry["to"]), (&1_500.into(), &"forced_open".into()));
    assert_eq!(entry["overridden"]["reason"], "test");
    assert_eq!(serde_json::from_value::<tower_breaker::circuit::History>(data).unwrap(), history);
}
