//! The records of circuits in Redis.

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, BackendError, Delta, Geometry, Move, OpenTerms, Probed, RecordState, Report, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use crate::support::redis::{Server, connect, eventually, real};
use crate::support::{ms, s};

pub(crate) const TERMS: OpenTerms =
    OpenTerms { interval: s(60), reopenings: 0, probes: 2, lease: s(10), successes_to_close: 2 };

pub(crate) const OPEN: Move = Move::Open {
    terms: TERMS,
    reason: Reason::ConsecutiveFailures,
    tally: Tally { calls: 0, failures: 0, slow_calls: 0, consecutive_failures: 0, unanswered: 0 },
};

pub(crate) fn name(name: &str) -> CircuitName {
    CircuitName::new(name.to_owned()).unwrap()
}

pub(crate) fn report(replica: &str, seq: u64, buckets: u32) -> Report {
    let delta = Delta { calls: 90, failures: 10, slow_calls: 2, streak: 1, succeeded: true };
    let window = Some(Geometry { millis: 60_000, buckets });
    Report {
        replica: replica.to_owned(),
        seq,
        generation: 1,
        delta,
        window,
        vote: None,
        shares: false,
    }
}

#[test]
fn deleted_scripts_are_sent_again() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        server.cli(&["SCRIPT", "FLUSH"]);
        let before = server.calls("eval");
        backend.load(&name("a")).await.unwrap();
        backend.load(&name("a")).await.unwrap();
        assert_eq!(server.calls("eval"), before + 1);
    });
}

#[test]
fn a_record_of_a_newer_schema_is_refused_and_unchanged() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for (circuit, key) in [("a", "{cb:a}"), ("b", "{cb:b}:o")] {
            server.cli(&["HSET", key, "schema", "2", "generation", "5", "state", "twilight"]);
            let before = server.cli(&["HGETALL", key]);
            let circuit = name(circuit);
            let errors = [
                backend.load(&circuit).await,
                backend.report(&circuit, &report("r", 1, 10)).await,
                backend.transition(&circuit, 5, &OPEN).await,
                backend.set_override(&circuit, None).await,
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert!(!error.is_unavailable() && error.to_string().contains("newer"), "{error}");
            }
            assert_eq!(server.cli(&["HGETALL", key]), before);
        }
    });
}

#[test]
fn fields_and_values_of_a_later_release_are_ignored() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let opened = backend.transition(&name("a"), 1, &OPEN).await.unwrap();
        server.cli(&["HSET", "{cb:a}", "mood", "sombre", "reason", "boredom", "streak", "many"]);
        server.cli(&["HDEL", "{cb:a}", "probes", "lease"]);
        let view = backend.load(&name("a")).await.unwrap();
        assert_eq!((view.generation, view.reason), (opened.generation, None));
        let RecordState::Open { terms, .. } = view.state else { panic!("{view:?}") };
        assert_eq!(terms, OpenTerms { probes: 1, lease: s(10), ..TERMS });
    });
}

#[test]
fn a_record_with_invalid_fields_recovers() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let nonsense = ["nan", "inf", "-1", "1e300", "0x", "", "9007199254740993", "two", "0.5"];
        for (i, nonsense) in nonsense.into_iter().enumerate() {
            let (circuit, key) = (name(&format!("{i}")), format!("{{cb:{i}}}"));
            let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
            for field in
                ["until", "interval", "reopenings", "probes", "lease", "successes", "passed", "l:7"]
            {
                server.cli(&["HSET", &key, field, nonsense]);
            }
            let (lease, view) =
                backend.acquire_probe(&circuit, opened.generation, 1).await.unwrap();
            let lease = lease.unwrap_or_else(|| panic!("{nonsense:?}: {view:?}"));
            let view = backend.settle_probe(&circuit, lease, &Probed::Passed).await.unwrap();
            assert_eq!(view.state, RecordState::Closed, "{nonsense:?}");

            // An invalid generation counts as the first, and a replica with a newer view restores
            // its own.
            for field in ["generation", "revision", "streak", "streaks", "sweep"] {
                server.cli(&["HSET", &key, field, nonsense]);
            }
            server.cli(&["HSET", &key, "state", "twilight"]);
            let view = backend.load(&circuit).await.unwrap();
            assert_eq!((view.generation, view.state), (1, RecordState::Closed), "{nonsense:?}");
            let restored = backend.restore(&circuit, &opened).await.unwrap();
            assert_eq!(restored.generation, opened.generation, "{nonsense:?}");
        }
    });
}

#[test]
fn a_key_of_another_type_is_refused_and_unchanged() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        server.cli(&["SET", "{cb:a}", "a string"]);
        let error = backend.load(&name("a")).await.unwrap_err();
        assert!(!error.is_unavailable() && error.to_string().contains("not ours"), "{error}");
        assert!(backend.transition(&name("a"), 1, &OPEN).await.is_err());
        assert_eq!(server.cli(&["GET", "{cb:a}"]), "a string");
        backend.load(&name("b")).await.unwrap();
    });
}

#[test]
fn any_circuit_name_has_its_own_keys_in_one_slot() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let names = ["a b", "a%20b", "{a}", "a}", "a\nb", "a:b", "ü \u{7}", "}:o", "a"];
        let mut generations = Vec::new();
        for text in names {
            backend.set_override(&name(text), Some(&forced())).await.unwrap();
            generations.push(backend.transition(&name(text), 1, &OPEN).await.unwrap().generation);
        }
        assert_eq!(server.number(&["DBSIZE"]), 2 * names.len() as u64);
        for (text, generation) in names.into_iter().zip(generations) {
            let view = backend.load(&name(text)).await.unwrap();
            assert_eq!(view.generation, generation, "{text:?}");
            assert_eq!(view.overridden.record, Some(forced()));
        }
        for key in server.cli(&["KEYS", "*"]).lines() {
            let tag = key.strip_prefix('{').unwrap().split('}').next().unwrap();
            assert!(key == format!("{{{tag}}}") || key == format!("{{{tag}}}:o"), "{key}");
        }
    });
}

#[test]
fn a_record_expires_and_an_override_does_not() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let circuit = name("a");
        backend.set_override(&circuit, Some(&forced())).await.unwrap();
        assert_eq!(server.cli(&["PTTL", "{cb:a}:o"]), "-1");
        let ttl = || server.number(&["PTTL", "{cb:a}"]);
        let hour = 3_600_000;
        backend.report(&circuit, &report("r", 1, 10)).await.unwrap();
        assert!((hour..=hour + 60_000).contains(&ttl()), "the window, and an hour: {}", ttl());
        let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
        assert!((hour..=hour + 60_000).contains(&ttl()), "the interval, and an hour: {}", ttl());
        let closed = Move::Closed { reason: Reason::Override };
        backend.transition(&circuit, opened.generation, &closed).await.unwrap();
        assert!((hour - 60_000..=hour).contains(&ttl()), "an hour: {}", ttl());
    });
}

#[test]
fn a_circuit_takes_few_bytes() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let bytes = async |circuit: &str, buckets, replicas: usize| {
            let name = name(circuit);
            for seq in 1..=30 {
                for replica in 0..replicas {
                    let replica = format!("{replica:032x}");
                    backend.report(&name, &report(&replica, seq, buckets)).await.unwrap();
                }
            }
            memory(&server, circuit)
        };
        let (small, large, shared) =
            (bytes("a", 10, 1).await, bytes("b", 60, 1).await, bytes("c", 60, 20).await);
        println!("bytes: 10 buckets {small}, 60 buckets {large}, and 20 replicas {shared}");
        assert!(small < 600 && large < 1_000 && shared < 4_500, "{small} {large} {shared}");
        // The largest window has all buckets in use, each with counts of four digits.
        let width = ms(20);
        let window = Some(Geometry { millis: 1_200, buckets: 60 });
        let delta = Delta { calls: 9_000, failures: 8_000, slow_calls: 7_000, ..Delta::default() };
        for seq in 1..=60 {
            let full = Report { window, delta, ..report("r", seq, 60) };
            backend.report(&name("full"), &full).await.unwrap();
            let end = server.millis() + u64::try_from(width.as_millis()).unwrap();
            eventually("the next bucket", async || server.millis() >= end).await;
        }
        let full = memory(&server, "full");
        println!("bytes: 60 buckets in use {full}");
        assert!(full < 1_500, "{full}");
    });
}

#[test]
fn replicas_that_come_and_go_do_not_grow_a_record_without_bound() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let circuit = name("a");
        let mut most = 0;
        for replica in 0..10_000 {
            let one = report(&format!("{replica:032x}"), 1, 10);
            backend.report(&circuit, &one).await.unwrap();
            if replica % 250 == 0 {
                most = most.max(server.number(&["HLEN", "{cb:a}"]));
            }
        }
        let bytes = memory(&server, "a");
        println!("fields: {most} at most; bytes: {bytes}");
        assert!(most <= 1_010, "{most} fields");
        // The totals are complete.
        let view = backend.report(&circuit, &report("r", 0, 10)).await.unwrap();
        assert_eq!(view.tally.calls, 900_000);
    });
}

#[test]
fn key_prefixes_separate_services() {
    real(async {
        let server = Server::start();
        let one = connect(&server.config().key_prefix("one")).await;
        let other = connect(&server.config().key_prefix("other")).await;
        let mut notices = other.subscribe();
        one.transition(&name("a"), 1, &OPEN).await.unwrap();
        assert_eq!(other.load(&name("a")).await.unwrap(), View::default());
        let own = other.transition(&name("b"), 1, &OPEN).await.unwrap();
        let notice = tokio::time::timeout(s(20), notices.recv()).await.unwrap().unwrap();
        assert_eq!(notice, tower_breaker::backend::Notice::View(name("b"), Box::new(own)));
    });
}

/// The memory of a record, with all of its fields.
fn memory(server: &Server, circuit: &str) -> u64 {
    server.number(&["MEMORY", "USAGE", &format!("{{cb:{circuit}}}"), "SAMPLES", "0"])
}

pub(crate) fn forced() -> OverrideRecord {
    OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: "maintenance".to_owned(),
        actor: None,
        remaining: None,
    }
}

/// Asserts that the operation may succeed later. Returns the message.
#[track_caller]
pub(crate) fn unavailable<T: std::fmt::Debug>(answer: Result<T, BackendError>) -> String {
    let error = answer.expect_err("to be unavailable");
    assert!(error.is_unavailable(), "{error}");
    error.to_string()
}
