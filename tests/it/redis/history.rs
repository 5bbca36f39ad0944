//! The history in Redis: its key, its bounds, and what others do to it.

use tower_breaker::CircuitName;
use tower_breaker::backend::{Backend, OverrideChange};

use super::records::{OPEN, name};
use crate::support::redis::{Server, connect, real, record};

fn key(circuit: &CircuitName) -> String {
    record(circuit.as_str()).replacen(":c:", ":h:", 1)
}

#[test]
fn the_history_is_one_key_of_64_entries_that_expires_after_a_day() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let circuit = name("payments");
        for _ in 0..40 {
            let from = backend.set_override(&circuit, &OverrideChange::Reset).await.unwrap();
            backend.transition(&circuit, from.generation, &OPEN).await.unwrap();
        }
        assert_eq!(server.number(&["ZCARD", &key(&circuit)]), 64);
        let left = server.number(&["PTTL", &key(&circuit)]);
        assert!((86_300_000..=86_400_000).contains(&left), "{left}");
        let bytes = server.number(&["MEMORY", "USAGE", &key(&circuit), "SAMPLES", "0"]);
        assert!(bytes < 16_000, "{bytes}");
        println!("a full history takes {bytes} bytes");
        let whole = backend.history(&circuit).await.unwrap().unwrap();
        assert_eq!(whole.len(), 64);
        // What is older than a day is not shown, whatever the key's expiry.
        let circuit = name("others");
        let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
        let old = r#"{"from":"closed","to":"open","reason":"failure_rate"}"#;
        server.cli(&["ZADD", &key(&circuit), "1", old]);
        let rest = backend.history(&circuit).await.unwrap().unwrap();
        assert_eq!((rest.len(), rest[0].transition.generation), (1, opened.generation));
    });
}

#[test]
fn a_history_that_cannot_be_written_or_read_stops_no_circuit() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let circuit = name("payments");
        server.cli(&["SET", &key(&circuit), "not ours"]);
        let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
        assert!(opened.generation > 1);
        assert!(backend.history(&circuit).await.is_err());
        assert_eq!(server.cli(&["GET", &key(&circuit)]), "not ours");

        // Of another program, or of a later version: they are left out.
        let circuit = name("others");
        for (score, member) in [("inf", "x"), ("-inf", "{}"), ("9007199254740993", "\u{1b}[31m")] {
            server.cli(&["ZADD", &key(&circuit), score, member]);
        }
        let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
        let history = backend.history(&circuit).await.unwrap().unwrap();
        assert!(history.len() <= 1 && opened.generation > 1, "{history:?}");
    });
}
