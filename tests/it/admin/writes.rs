//! Overrides, resets and policies.

use http::StatusCode;
use serde_json::{Value, json};
use tower_breaker::admin::{AdminService, Denied, Operator};
use tower_breaker::{Outcome, Policy, State};

use super::client::{alices, post, read, send, write};
use crate::support::log::Log;
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_override_is_set_in_the_name_of_the_operator_and_ends_with_its_time() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = alices(&store);
    let set =
        json!({ "state": "forced_open", "reason": "their maintenance", "lasting_ms": 600_000 });
    let answer = write(&admin, "/api/circuits/payments/override", &set).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let answer = answer.json();
    assert_eq!(answer["acknowledged"], true);
    assert_eq!(
        answer["circuit"]["override"],
        json!({ "state": "forced_open", "reason": "their maintenance", "actor": "alice",
            "remaining_ms": 600_000 })
    );
    let snapshot = payments.snapshot();
    assert_eq!(snapshot.state, State::ForcedOpen);
    assert_eq!(snapshot.override_actor.as_deref(), Some("alice"));
    tokio::time::advance(s(601)).await;
    assert!(payments.try_acquire().is_ok());
}

#[tokio::test]
async fn each_state_can_be_set() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = alices(&store);
    for state in ["forced_open", "forced_closed", "disabled", "metrics_only"] {
        let set = json!({ "state": state, "reason": "a test" });
        let answer = write(&admin, "/api/circuits/payments/override", &set).await;
        assert_eq!(answer.json()["circuit"]["state"], state);
        assert_eq!(payments.state().as_str(), state);
    }
}

#[tokio::test]
async fn clear_gives_the_state_beneath_back_and_reset_closes() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = alices(&store);
    payments.try_acquire().unwrap().settle(Outcome::failure());
    payments.disable("to see it fail");
    let cleared = write(&admin, "/api/circuits/payments/clear", &json!({})).await.json();
    assert_eq!(cleared["circuit"]["state"], "open");
    let reset = write(&admin, "/api/circuits/payments/reset", &json!({})).await.json();
    assert_eq!(reset["circuit"]["state"], "closed");
    assert_eq!(reset["circuit"]["override"], Value::Null);
}

#[tokio::test]
async fn reset_of_all_closes_what_is_not_closed() {
    let store = store(fragile());
    store.circuit("a").force_open("x");
    store.circuit("b");
    store.circuit("c").metrics_only("x");
    let answer = write(&alices(&store), "/api/reset", &json!({ "all": true })).await.json();
    assert_eq!(answer, json!({ "reset": ["a", "c"], "failed": [], "acknowledged": true }));
    assert!(store.circuits().iter().all(|circuit| circuit.state() == State::Closed));
}

#[tokio::test]
async fn settings_change_the_policy_in_force() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let before = payments.policy();
    let admin = alices(&store);
    let settings = json!({ "open_for": "45s", "failure_rate": 0.25 });
    let answer = write(&admin, "/api/circuits/payments/policy", &settings).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let after = payments.policy();
    assert_eq!((after.open_for(), after.failure_rate()), (s(45), Some(0.25)));
    assert_eq!(after.consecutive_failures(), before.consecutive_failures());

    let preset =
        write(&admin, "/api/circuits/payments/policy", &json!({ "preset": "cache" })).await;
    assert_eq!(preset.status, StatusCode::OK);
    assert_eq!(payments.policy(), Policy::cache());

    let wrong = json!({ "failure_rte": 0.5, "open_for": 30, "probes": "many" });
    let answer = write(&admin, "/api/circuits/payments/policy", &wrong).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    for problem in ["did you mean `failure_rate`?", "did you mean 30s?", "`probes` is \"many\""] {
        assert!(answer.error().contains(problem), "{answer:?}");
    }
    let unworkable =
        json!({ "consecutive_failures": "off", "failure_rate": "off", "slow_call_rate": "off" });
    let answer = write(&admin, "/api/circuits/payments/policy", &unworkable).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(payments.policy(), Policy::cache());
}

#[tokio::test]
async fn a_write_makes_no_circuit() {
    let store = store(fragile());
    let admin = alices(&store);
    let set = json!({ "state": "forced_open", "reason": "x" });
    for (what, body) in [
        ("override", set),
        ("clear", json!({})),
        ("reset", json!({})),
        ("policy", json!({ "open_for": "1s" })),
    ] {
        let answer = write(&admin, &format!("/api/circuits/paymets/{what}"), &body).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{what}: {answer:?}");
        assert_eq!(answer.error(), "there is no circuit with this name");
    }
    assert!(store.circuits().is_empty());
}

#[tokio::test]
async fn the_authoriser_decides_by_the_head_of_each_write() {
    let store = store(fragile());
    store.circuit("payments");
    let admin = AdminService::new(store.clone()).authorise(|request| {
        let token = request.headers.get("authorization").cloned();
        async move {
            match token {
                Some(token) if token == "Bearer right" => Ok(Operator::new("bob")),
                Some(_) => Err(Denied::new("the token is wrong")),
                None => Err(Denied::default()),
            }
        }
    });
    assert_eq!(read(&admin, "/api/overview").await["writable"], true);
    let with = |token: Option<&str>| {
        let body = r#"{"state":"disabled","reason":"x","actor":"mallory"}"#;
        let body = if token == Some("Bearer right") {
            body.replace(r#","actor":"mallory""#, "")
        } else {
            body.to_owned()
        };
        let mut request = post("/api/circuits/payments/override", body);
        if let Some(token) = token {
            request.headers_mut().insert("authorization", token.parse().unwrap());
        }
        send(&admin, request)
    };
    for (token, error) in
        [(None, "this request may change nothing"), (Some("Bearer wrong"), "the token is wrong")]
    {
        let answer = with(token).await;
        assert_eq!((answer.status, answer.error().as_str()), (StatusCode::FORBIDDEN, error));
    }
    assert_eq!(store.circuit("payments").state(), State::Closed);
    assert_eq!(with(Some("Bearer right")).await.json()["circuit"]["override"]["actor"], "bob");
}

#[tokio::test]
async fn each_write_is_logged_with_its_operator() {
    let store = store(fragile());
    store.circuit("payments");
    let admin = alices(&store);
    let log = Log::default();
    let _listening = log.listen();
    write(&admin, "/api/circuits/payments/policy", &json!({ "open_for": "45s" })).await;
    write(&admin, "/api/circuits/payments/reset", &json!({})).await;
    write(&admin, "/api/reset", &json!({ "all": true })).await;
    write(&admin, "/api/circuits/paymets/reset", &json!({})).await;
    let lines = log.lines();
    let says = [
        "asks to change the policy of circuit \"payments\"",
        "changed the policy of circuit \"payments\"",
        "asks to reset circuit \"payments\"",
        "reset circuit \"payments\"",
        "asks to reset all circuits that were not closed",
        "reset all circuits that were not closed",
        "asks to reset circuit \"paymets\"",
        "asked, without acknowledgement, to reset circuit \"paymets\"",
    ];
    assert_eq!(lines.len(), says.len(), "{lines:?}");
    for (line, says) in lines.iter().zip(says) {
        let says = format!("INFO message=operator \"alice\" {says}");
        assert!(line.starts_with(&says), "{line}");
    }
}
