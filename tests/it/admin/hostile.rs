//! Texts from outside that would be something else where they are shown.

use serde_json::json;
use tower_breaker::Store;
use tower_breaker::admin::{AdminService, Operator};

use super::client::{Answer, Stream, get, post, send};
use crate::support::*;

const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "two\nlines\n\ndata: {}\nevent: overview",
    "carriage\r\n\r\nreturns",
    "\u{1b}[31mred\u{1b}[0m \u{7}",
    "a\u{2028}b\u{2029}c\u{85}d\u{202e}e",
    "a/b?c#d%20e\\\"'",
    "x\0y",
];

/// Percent-encodes every byte.
fn encoded(name: &str) -> String {
    use std::fmt::Write;

    name.bytes().fold(String::new(), |mut path, byte| {
        write!(path, "%{byte:02X}").unwrap();
        path
    })
}

fn assert_contained(answer: &Answer, hostile: &str) {
    for (name, value) in &answer.headers {
        let value = value.to_str().unwrap();
        assert!(!value.contains("script>") && !value.contains(hostile), "{name}: {value}");
    }
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(!text.contains(|c: char| c.is_ascii_control()), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn names_reasons_and_actors_are_text_in_json_and_in_no_header() {
    for hostile in HOSTILE {
        let store = store(fragile());
        store.circuit(hostile.to_owned());
        let admin = AdminService::new(store)
            .title(hostile)
            .authorise(move |_| async move { Ok(Operator::new(hostile)) });
        let mut stream = Stream::open(&admin).await;
        assert_eq!(stream.next("overview").await.data["title"], hostile);

        let path = format!("/api/circuits/{}", encoded(hostile));
        let set = json!({ "state": "forced_open", "reason": hostile });
        let answer = send(&admin, post(&format!("{path}/override"), set.to_string())).await;
        assert_contained(&answer, hostile);
        let set = answer.json()["circuit"]["override"].clone();
        assert_eq!((&set["reason"], &set["actor"]), (&json!(hostile), &json!(hostile)));

        for path in
            [&path, &format!("{path}/history"), "/api/overview", "/api/health", "/api/ready"]
        {
            let answer = get(&admin, path).await;
            assert_contained(&answer, hostile);
            assert!(!answer.json().is_null());
        }
        // `Stream` asserts that each event has three lines.
        let transition = stream.next("transition").await.data;
        assert_eq!(transition["name"], hostile);
        assert_eq!(transition["transition"]["overridden"]["reason"], hostile);
        assert_eq!(stream.circuit(hostile).await["name"], hostile);
        let reset = send(&admin, post("/api/reset", r#"{"all":true}"#)).await;
        assert_contained(&reset, hostile);
    }
}

#[tokio::test]
async fn a_refusal_repeats_little_of_what_was_sent_and_only_as_json() {
    let store = Store::in_memory();
    store.circuit("payments");
    let admin = super::client::alices(&store);
    for hostile in HOSTILE {
        for body in [
            json!({ hostile: 1, "state": hostile, "reason": [hostile] }),
            json!({ hostile.repeat(100): hostile.repeat(100) }),
            json!(hostile),
        ] {
            for what in ["override", "policy", "clear"] {
                let path = format!("/api/circuits/payments/{what}");
                let answer = send(&admin, post(&path, body.to_string())).await;
                assert!(answer.status.is_client_error(), "{answer:?}");
                assert_contained(&answer, hostile);
                assert!(answer.error().len() < 1_000, "{answer:?}");
            }
        }
        let missing = get(&admin, &format!("/api/circuits/{}", encoded(hostile))).await;
        assert_eq!(missing.json(), json!({ "error": "there is no circuit with this name" }));
    }
}
