//! The records of circuits in Redis.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, BackendError, Count, Failures, Geometry, Group, Move, Notice, OpenTerms,
    OverrideChange, RecordState, Report, Shares, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use crate::support::redis::{Ask, Server, connect, override_key, real, record, tag};
use crate::support::{ms, s};

pub(crate) const TERMS: OpenTerms =
    OpenTerms { interval: s(60), reopenings: 0, probes: 2, lease: s(10), successes_to_close: 2 };

pub(crate) const OPEN: Move = Move::Open {
    terms: TERMS,
    reason: Reason::ConsecutiveFailures,
    tally: Tally { calls: 0, failures: 0, slow_calls: 0, consecutive_failures: 0, unanswered: 0 },
    last_error: None,
};

pub(crate) fn name(name: &str) -> CircuitName {
    CircuitName::new(name.to_owned()).unwrap()
}

/// Ninety calls that have just ended, ten of them failed.
pub(crate) fn report(circuit: &str, buckets: u32) -> Report {
    let age = Duration::ZERO;
    Report {
        circuit: name(circuit),
        generation: 1,
        window: Some(Geometry { millis: 60_000, buckets }),
        counts: vec![Count { age, calls: 90, failures: 10, slow_calls: 2 }],
        failures: vec![Failures { age, number: 1 }],
        last_success: Some(ms(1)),
        vote: None,
        shares: Shares::None,
        attention: None,
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
        for (circuit, key) in [("a", record("a")), ("b", override_key("b"))] {
            server.cli(&["HSET", &key, "schema", "3", "generation", "5", "state", "twilight"]);
            let before = server.cli(&["HGETALL", &key]);
            let circuit = name(circuit);
            let errors = [
                backend.load(&circuit).await,
                backend.report("r", 1, &report(circuit.as_str(), 10)).await,
                backend.transition(&circuit, 5, &OPEN).await,
                backend.set_override(&circuit, &OverrideChange::Clear).await,
                backend.restore(&circuit, &View::default()).await,
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert!(!error.is_unavailable() && error.to_string().contains("newer"), "{error}");
            }
            assert_eq!(server.cli(&["HGETALL", &key]), before);
        }
    });
}

#[test]
fn records_of_an_older_schema_are_neither_read_nor_changed() {
    real(async {
        let server = Server::start();
        let old = ["schema", "1", "generation", "7", "state", "open", "until", "99999999999999"];
        server.cli(&[&["HSET", "{cb:a}"], &old[..]].concat());
        let backend = connect(&server.config()).await;
        assert_eq!(backend.load(&name("a")).await.unwrap(), View::default());
        backend.transition(&name("a"), 1, &OPEN).await.unwrap();
        assert_eq!(server.cli(&["HGETALL", "{cb:a}"]), old.join("\n"));
    });
}

#[test]
fn fields_and_values_of_a_later_release_are_ignored() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let opened = backend.transition(&name("a"), 1, &OPEN).await.unwrap();
        let key = record("a");
        server.cli(&["HSET", &key, "mood", "sombre", "reason", "boredom", "streak", "many"]);
        server.cli(&["HDEL", &key, "probes", "lease"]);
        let view = backend.load(&name("a")).await.unwrap();
        assert_eq!((view.generation, view.reason), (opened.generation, None));
        let RecordState::Open { terms, .. } = view.state else { panic!("{view:?}") };
        assert_eq!(terms, OpenTerms { probes: 1, lease: s(10), ..TERMS });
    });
}

#[test]
fn a_key_of_another_type_is_refused_and_unchanged() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for key in [record("a"), override_key("a")] {
            server.cli(&["SET", &key, "a string"]);
            let error = backend.load(&name("a")).await.unwrap_err();
            assert!(!error.is_unavailable() && error.to_string().contains("not ours"), "{error}");
            assert!(backend.transition(&name("a"), 1, &OPEN).await.is_err());
            assert_eq!(server.cli(&["GET", &key]), "a string");
            server.cli(&["DEL", &key]);
        }
        backend.load(&name("a")).await.unwrap();
    });
}

/// What names may contain, a few of 128 bytes, and such as could be parts of keys.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a",
        "a b",
        "a%20b",
        "{a}",
        "a}",
        "a\nb",
        "a\r\nb",
        "a:b",
        "ü \u{7}",
        "}:o",
        "%",
        "%%",
        "{cb:1}:g",
        "c:a",
        "o:a",
        "a:o",
        " ",
        "\u{0}",
        "\u{2028}",
        "\"",
        "\\",
        "'",
        "*",
        "?",
        "[",
        "\u{1f600}",
        "$",
        "\t",
    ]
    .map(str::to_owned)
    .into();
    for wide in ["x", "{", "%", "\n", "\u{0}", "\u{7f}"] {
        names.push(wide.repeat(128));
    }
    names.push("é".repeat(64));
    names.push("\u{1f600}".repeat(32));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let mut any = String::new();
        loop {
            let next = random.char(..);
            if any.len() + next.len_utf8() > 128 {
                break;
            }
            any.push(next);
        }
        names.push(any);
    }
    names
}

#[test]
fn any_circuit_name_has_its_own_keys_in_the_slot_of_its_group() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let (mut notices, names) = (backend.subscribe(), names());
        let set = OverrideChange::Set(forced());
        let mut opened = Vec::new();
        for text in &names {
            let circuit = name(text);
            backend.set_override(&circuit, &set).await.unwrap();
            opened.push(backend.transition(&circuit, 1, &OPEN).await.unwrap());
        }
        for (text, opened) in names.iter().zip(&opened) {
            let view = backend.load(&name(text)).await.unwrap();
            assert_eq!(view.generation, opened.generation, "{text:?}");
            assert_eq!(view.overridden.record, Some(forced()));
            // The change arrived under its own name.
            let next = async {
                loop {
                    if let Notice::Changed { circuit, view, .. } = notices.recv().await.unwrap()
                        && view.generation == opened.generation
                        && circuit.as_str() == text
                    {
                        return;
                    }
                }
            };
            tokio::time::timeout(s(20), next).await.unwrap_or_else(|_| panic!("{text:?}"));
        }
        let (mut records, mut overrides) = (0, 0);
        for key in server.cli(&["KEYS", "*"]).lines() {
            let (tag, rest) = key.strip_prefix("{cb:").unwrap().split_once('}').unwrap();
            assert!(tag.parse::<u8>().unwrap() < Group::COUNT, "{key}");
            assert!(!rest.contains(['{', '}', ' ']), "{key}");
            records += usize::from(rest.starts_with(":c:"));
            overrides += usize::from(rest.starts_with(":o:"));
        }
        assert_eq!((records, overrides), (names.len(), names.len()));
    });
}

#[test]
fn a_record_expires_and_an_override_does_not() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let circuit = name("a");
        let key = record("a");
        backend.set_override(&circuit, &OverrideChange::Set(forced())).await.unwrap();
        assert_eq!(server.cli(&["PTTL", &override_key("a")]), "-1");
        let ttl = || server.number(&["PTTL", &key]);
        let (minute, hour) = (60_000, 3_600_000);
        backend.report("r", 1, &report("a", 10)).await.unwrap();
        assert!((minute - 20_000..=minute).contains(&ttl()), "the window: {}", ttl());
        let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
        assert!((hour..=hour + minute).contains(&ttl()), "the interval, and an hour: {}", ttl());
        let closed = Move::Closed { reason: Reason::Override };
        backend.transition(&circuit, opened.generation, &closed).await.unwrap();
        assert!((minute - 20_000..=minute).contains(&ttl()), "the rest of the interval: {}", ttl());
    });
}

#[test]
fn a_circuit_takes_few_bytes() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let bytes = async |circuit: &str, buckets, replicas: usize| {
            for seq in 1..=30 {
                for replica in 0..replicas {
                    let replica = format!("replica-{replica:024}");
                    let shares = if replicas > 1 { Shares::Count } else { Shares::None };
                    let report = Report { shares, ..report(circuit, buckets) };
                    backend.report(&replica, seq, &report).await.unwrap();
                }
            }
            memory(&server, circuit)
        };
        let (small, large, shared) =
            (bytes("a", 10, 1).await, bytes("b", 60, 1).await, bytes("c", 60, 20).await);
        println!("bytes: 10 buckets {small}, 60 buckets {large}, and 20 replicas {shared}");
        assert!(small < 900 && large < 1_000 && shared < 5_000, "{small} {large} {shared}");
        // The largest window has all buckets in use, each with counts of four digits, and the
        // longest streak.
        let window = Some(Geometry { millis: 60_000, buckets: 60 });
        let ages = || (0..60).map(|n| s(n) + ms(100));
        let full = |age| Count { age, calls: 9_000, failures: 8_000, slow_calls: 7_000 };
        let counts = ages().map(full).collect();
        let failures = ages().map(|age| Failures { age, number: 8_000 }).collect();
        let report = Report { window, counts, failures, last_success: None, ..report("full", 60) };
        backend.report("r", 1, &report).await.unwrap();
        let full = memory(&server, "full");
        println!("bytes: 60 buckets in use, and 60 moments {full}");
        assert!(full < 2_500, "{full}");
    });
}

#[test]
fn replicas_that_come_and_go_do_not_grow_a_record_without_bound() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let key = record("a");
        let (mut fields, mut starts) = (0, 0);
        for replica in 0..10_000 {
            let one = Report { shares: Shares::Count, vote: Some(s(600)), ..report("a", 10) };
            backend.report(&format!("{replica:032x}"), 1, &one).await.unwrap();
            if replica % 250 == 0 {
                fields = fields.max(server.number(&["HLEN", &key]));
                starts = starts.max(server.number(&["HLEN", &format!("{}:g", tag("a"))]));
            }
        }
        let bytes = memory(&server, "a");
        println!("fields: {fields} at most, and {starts} starts; bytes: {bytes}");
        assert!(fields <= 1_020 && starts <= 1_020, "{fields} fields, {starts} starts");
        // The totals are complete.
        let view = backend.report("r", 1, &Report { counts: vec![], ..report("a", 10) }).await;
        let view = view.unwrap();
        assert_eq!(view.tally.calls, 900_000);
        assert!(view.votes <= 1_000, "{}", view.votes);
    });
}

#[test]
fn key_prefixes_separate_services() {
    real(async {
        let server = Server::start();
        // Some could be parts of another's keys and channels.
        let prefixes = ["cb", "one", "one:cb", "cb:1", "a%20b", "c:a", "%", "é", ":", "*", "\"\\"];
        let long = "x".repeat(64);
        let prefixes: Vec<_> = prefixes.into_iter().chain([&*long]).collect();
        let mut services = Vec::new();
        for prefix in &prefixes {
            let backend = connect(&server.config().key_prefix(*prefix)).await;
            let notices = backend.subscribe();
            services.push((backend, notices));
        }
        for n in 0..services.len() {
            let opened = services[n].0.transition(&name("a"), 1, &OPEN).await.unwrap();
            for (m, (other, notices)) in services.iter_mut().enumerate() {
                let known = other.load(&name("a")).await.unwrap();
                assert_eq!(known.generation > 1, m <= n, "{} and {}", prefixes[n], prefixes[m]);
                if m == n {
                    let next = async {
                        loop {
                            // On a busy machine the connection may break.
                            let notice = notices.recv().await.unwrap();
                            if notice != Notice::Gap {
                                return notice;
                            }
                        }
                    };
                    // The first change that it receives is its own.
                    let notice = tokio::time::timeout(s(20), next).await.unwrap();
                    let Notice::Changed { circuit, view, .. } = notice else {
                        panic!("{notice:?}")
                    };
                    assert_eq!((circuit, *view), (name("a"), opened.clone()));
                }
            }
        }
    });
}

/// The memory of a record, with all of its fields.
fn memory(server: &Server, circuit: &str) -> u64 {
    server.number(&["MEMORY", "USAGE", &record(circuit), "SAMPLES", "0"])
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
