//! The records of circuits in Redis.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Attention, Backend, BackendError, Count, Failures, Geometry, Group, Move, Notice, OpenTerms,
    OverrideChange, Probed, RecordState, Report, Shares, View,
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

const NONSENSE: [&str; 9] =
    ["nan", "inf", "-1", "1e300", "0x", "", "9007199254740993", "two", "0.5"];

#[test]
fn a_record_with_invalid_fields_recovers() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for (i, nonsense) in NONSENSE.into_iter().enumerate() {
            let circuit = name(&format!("{i}"));
            let key = record(circuit.as_str());
            let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
            for field in [
                "until",
                "interval",
                "reopenings",
                "probes",
                "lease",
                "successes",
                "passed",
                "l:7",
                "calls",
                "failures",
                "slow",
                "consecutive",
                "contributors",
                "horizon",
            ] {
                server.cli(&["HSET", &key, field, nonsense]);
            }
            let (lease, view) =
                backend.acquire_probe(&circuit, opened.generation, 1).await.unwrap();
            let lease = lease.unwrap_or_else(|| panic!("{nonsense:?}: {view:?}"));
            let view = backend.settle_probe(&circuit, lease, &Probed::Passed).await.unwrap();
            assert_eq!(view.state, RecordState::Closed, "{nonsense:?}");

            // An invalid generation counts as the first, and a replica with a newer view restores
            // its own.
            for field in ["generation", "revision", "streak", "roll", "roll_at", "votes", "senders"]
            {
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

/// Reports with everything that a report may have, and reads it again.
async fn full_report(
    backend: &impl Ask,
    circuit: &str,
    generation: u64,
    seq: u64,
) -> Result<View, BackendError> {
    let vote = Some(s(10));
    let shares = Shares::Return;
    let attention = Some(Attention::RollCall { after: 0 });
    let full = Report { generation, vote, shares, attention, ..report(circuit, 10) };
    backend.report("r", seq, &full).await
}

#[test]
fn a_closed_record_with_invalid_evidence_begins_anew() {
    // Garbage, and numbers and lists that were packed, but not by us: `{}`, `{1}`, `{"a":1}`,
    // `{"x"}`, and a number.
    let packed = ["\u{7f}\u{1}", "\u{11}\u{1}\u{2}", "\u{1}x", "7"];
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for (i, nonsense) in NONSENSE.into_iter().chain(packed).enumerate() {
            let circuit = format!("{i}");
            let key = record(&circuit);
            let seq = 2 * u64::try_from(i).unwrap();
            full_report(&backend, &circuit, 1, seq + 1).await.unwrap();
            for field in server.cli(&["HKEYS", &key]).lines() {
                if !["schema", "generation", "state"].contains(&field) {
                    server.cli(&["HSET", &key, field, nonsense]);
                }
            }
            let circuit = name(&circuit);
            backend.load(&circuit).await.unwrap_or_else(|e| panic!("{nonsense:?}: {e}"));
            let view = full_report(&backend, circuit.as_str(), 1, seq + 2).await;
            let view = view.unwrap_or_else(|error| panic!("{nonsense:?}: {error}"));
            let tally = view.tally;
            assert_eq!((tally.calls, tally.failures), (90, 10), "{nonsense:?}: {view:?}");
            assert_eq!((tally.consecutive_failures, view.votes), (1, 1), "{nonsense:?}: {view:?}");
            let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
            assert_eq!(opened.contributors, ["r"], "{nonsense:?}");
        }
    });
}

#[test]
fn lists_of_wrong_things_in_a_record_harm_no_other_circuit() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let [good, bad] = two_of_one_group();
        // Lists as long as ours, but of texts, of lists, and of numbers that cannot be; and one
        // that ends too early.
        let wrong = [
            "return cmsgpack.pack({'a','b','c','d','e','f','g','h'})",
            "return cmsgpack.pack({1,{},{},{},{},{},{},{}})",
            "return cmsgpack.pack({1,'b',3,'d',5,'f',7,'h',9})",
            "return cmsgpack.pack({[{1}]=1,[2]={}})",
            "return cmsgpack.pack({1,-2,-3,-4,5,-6,-7,-8,-9})",
            "return cmsgpack.pack({1,2^60,2^60,2^60,0,2^60,2^60,2^60})",
            "local l = {} for i = 1, 9 do l[i] = 1/0 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 9 do l[i] = 0/0 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 8 do l[i] = 1e300 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 8 do l[i] = 0.5 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 9 do l[i] = (i - 5) * 1e17 end return cmsgpack.pack(l)",
            "return cmsgpack.pack({a=-1/0,b=1/0,c=-1})",
            "return string.sub(cmsgpack.pack({1,2,3,4}), 1, 3)",
        ];
        let mut seq = 0;
        for wrong in wrong {
            for field in ["streak", "votes", "senders", "w:60000x10", "r:r", "contributors"] {
                full_report(&backend, &bad, 1, seq + 1).await.unwrap();
                full_report(&backend, &good, 1, seq + 2).await.unwrap();
                let script = format!(
                    "redis.call('HSET', KEYS[1], ARGV[1], (function() {wrong} end)()) return 'OK'"
                );
                assert_eq!(server.cli(&["EVAL", &script, "1", &record(&bad), field]), "OK");
                for result in
                    [backend.load(&name(&bad)).await, full_report(&backend, &bad, 1, seq + 3).await]
                {
                    if let Err(error) = result {
                        let clear = error.to_string().contains("corrupt");
                        assert!(clear && !error.is_unavailable(), "{field}: {wrong}: {error}");
                    }
                }
                // The answer has both: they have changed since its cursor.
                backend.load(&name(&good)).await.unwrap();
                let view = full_report(&backend, &good, 1, seq + 4).await.unwrap();
                assert_eq!(view.tally.calls, 180, "{field}: {wrong}");
                server.cli(&["DEL", &record(&bad), &record(&good)]);
                seq += 4;
            }
        }
    });
}

#[test]
fn an_override_with_invalid_fields_harms_nothing_else() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let [good, bad] = two_of_one_group();
        let (set, key) = (OverrideChange::Set(forced()), override_key(&bad));
        backend.set_override(&name(&good), &set).await.unwrap();
        let opened = backend.transition(&name(&bad), 1, &OPEN).await.unwrap();
        for nonsense in NONSENSE.into_iter().chain(["\u{0}\"\\", "99999999999999"]) {
            for field in ["version", "until", "state", "reason", "actor"] {
                backend.set_override(&name(&bad), &set).await.unwrap();
                server.cli(&["HSET", &key, field, nonsense]);
                match backend.load(&name(&bad)).await {
                    Ok(view) => assert_eq!(view.generation, opened.generation),
                    // A version that is too far ahead.
                    Err(error) => assert!(error.to_string().contains("corrupt"), "{error}"),
                }
                let view = backend.load(&name(&good)).await.unwrap();
                assert_eq!(view.overridden.record, Some(forced()), "{field}: {nonsense:?}");
                server.cli(&["DEL", &key]);
            }
        }
    });
}

/// The names of two circuits of one group.
pub(crate) fn two_of_one_group() -> [String; 2] {
    let mut names = (0..).map(|n| format!("c{n}"));
    let first = names.next().unwrap();
    let of = |circuit: &str| Group::of(&name(circuit));
    let second = names.find(|other| of(other) == of(&first)).unwrap();
    [first, second]
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
