//! Public types as data (feature `serde`): programs and pages rely on these names.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower_breaker::backend::{Heartbeat, Impairment, ReplicaInfo, Sender};
use tower_breaker::circuit::Snapshot;
use tower_breaker::event::{BackendStatus, Event, Origin, Reason, Tally};
use tower_breaker::overrides::{Override, OverrideState};
use tower_breaker::{Circuit, CircuitName, State, Store};

use crate::support::*;

/// What could break a page, a log or a terminal.
const WILD: &str = "<script>alert(1)</script>\n\u{1b}[31m\"\\ {x}\u{202e}";

/// Checks that a value is written like this, and read back as it was.
#[track_caller]
fn assert_data<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, expected: &Value) {
    assert_eq!(serde_json::to_value(value).unwrap(), *expected);
    assert_eq!(serde_json::from_value::<T>(expected.clone()).unwrap(), *value);
}

fn last_event(circuit: &Circuit, act: impl FnOnce(&Circuit)) -> Event {
    let last = Arc::new(Mutex::new(None));
    let seen = last.clone();
    circuit.on_change(move |event| *seen.lock().unwrap() = Some(event.clone()));
    act(circuit);
    last.lock().unwrap().clone().unwrap()
}

#[test]
fn states_reasons_and_origins_are_texts() {
    assert_data(&State::HalfOpen, &json!("half_open"));
    assert_data(&OverrideState::MetricsOnly, &json!("metrics_only"));
    assert_data(&Reason::SlowCallRate, &json!("slow_call_rate"));
    assert_data(&Origin::Cluster, &json!("cluster"));
    assert_data(&CircuitName::new("payments").unwrap(), &json!("payments"));
    let unknown = serde_json::from_str::<State>("\"half-open\"").unwrap_err().to_string();
    assert!(unknown.starts_with("unknown state \"half-open\""), "{unknown}");
    for name in [String::new(), "x".repeat(129)] {
        assert!(serde_json::from_value::<CircuitName>(name.into()).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_trip_has_its_evidence_and_its_interval_in_milliseconds() {
    let circuit = circuit(fragile());
    let event = last_event(&circuit, fail);
    let expected = json!({
        "event": "transition", "from": "closed", "to": "open", "reason": "consecutive_failures",
        "generation": 2, "open_for_ms": 10_000, "origin": "local", "overridden": null,
        "tally": {
            "calls": 1, "failures": 1, "slow_calls": 0, "consecutive_failures": 1, "unanswered": 1,
        },
        "contributors": [], "last_error": null,
    });
    assert_data(&event, &expected);
    assert_data(
        &Event::WouldTrip { reason: Reason::FailureRate },
        &json!({ "event": "would_trip", "reason": "failure_rate" }),
    );
}

#[tokio::test(start_paused = true)]
async fn texts_from_outside_stay_as_they_were_given() {
    let circuit = Store::in_memory().circuit(WILD.to_owned());
    let event = last_event(&circuit, |circuit| {
        circuit.set_override(Override::force_open(WILD).actor(WILD).lasting(s(60)));
    });
    let data = serde_json::to_value(&event).unwrap();
    let overridden = json!({
        "state": "forced_open", "reason": WILD, "actor": WILD, "remaining_ms": 60_000,
    });
    assert_eq!(data["overridden"], overridden);
    assert_eq!(serde_json::from_value::<Event>(data).unwrap(), event);
    let snapshot = serde_json::to_string(&circuit.snapshot()).unwrap();
    assert!(!snapshot.contains(['\n', '\u{1b}']), "{snapshot}");
    let snapshot: Snapshot = serde_json::from_str(&snapshot).unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.override_actor.as_deref()), (WILD, Some(WILD)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_reads_as_it_was_written() {
    let circuit = circuit(fragile());
    fail(&circuit);
    advance(Duration::from_micros(1_500)).await;
    let snapshot = circuit.snapshot();
    let data = serde_json::to_value(&snapshot).unwrap();
    assert_eq!((&data["state"], &data["since_ms"]), (&json!("open"), &json!(2)), "rounded up");
    // Rounded up, so that a caller that waits for so long is not rejected again.
    assert_eq!(data["retry_after_ms"], 9_999);
    assert_eq!((&data["override_remaining_ms"], &data["stale_results"]), (&Value::Null, &json!(0)));
    let read: Snapshot = serde_json::from_value(data).unwrap();
    assert_eq!((read.retry_after, read.since), (Some(ms(9_999)), ms(2)));
    assert_eq!((read.name, read.tally), (snapshot.name, snapshot.tally));
}

#[test]
fn the_status_of_the_backend_says_what_is_impaired() {
    let cause = "connection refused".to_owned();
    assert_data(&BackendStatus::Connected, &json!({ "status": "connected" }));
    assert_data(
        &BackendStatus::Degraded { reason: cause.clone() },
        &json!({ "status": "degraded", "reason": cause }),
    );
    assert_data(
        &BackendStatus::Impaired {
            what: vec![Impairment::GroupsUnreachable { groups: 3, cause: cause.clone() }],
        },
        &json!({
            "status": "impaired",
            "what": [{ "kind": "groups_unreachable", "groups": 3, "cause": cause }],
        }),
    );
}

#[test]
fn a_replica_says_how_long_it_has_been_silent() {
    let sender = Sender { name: "a".to_owned(), id: "a#1".to_owned() };
    let version = "1.2.3".to_owned();
    let heartbeat = Heartbeat { sender, version, impaired: String::new(), seen: 7 };
    assert_data(
        &ReplicaInfo::new(heartbeat, ms(250)),
        &json!({
            "name": "a", "id": "a#1", "version": "1.2.3", "silent_for_ms": 250, "impaired": "",
        }),
    );
}

#[test]
fn counts_that_are_missing_are_zero() {
    let tally: Tally =
        serde_json::from_value(json!({ "calls": 3, "of_a_later_version": 9 })).unwrap();
    assert_eq!(tally, Tally { calls: 3, ..Tally::default() });
}
