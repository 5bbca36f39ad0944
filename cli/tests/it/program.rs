//! The program, on a real Redis of which no replica runs, and on traces.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tower_breaker::backend::{Backend, Move, OpenTerms, RedisBackend};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::{CircuitName, State, Store};

use crate::server::{PASSWORD, Server, real, until};

fn program(url: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-breaker"));
    command.env_clear().env("USER", "ada").args(args);
    if let Some(url) = url {
        command.env("CIRCUIT_BREAKER_REDIS_URL", url);
    }
    let output = command.output().unwrap();
    for written in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(written.clone()).unwrap();
        assert!(!text.contains(PASSWORD), "{args:?} shows the password: {text}");
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(acts), "{args:?} would act on a terminal: {text:?}");
    }
    output
}

/// What the program writes, once it has done what it should.
#[track_caller]
pub(crate) fn done(url: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = program(Some(url), args);
    let error = String::from_utf8(stderr).unwrap();
    assert!(status.success() && error.is_empty(), "{args:?}: {status}: {error}");
    String::from_utf8(stdout).unwrap()
}

#[track_caller]
pub(crate) fn json(url: &str, args: &[&str]) -> Vec<Value> {
    let text = done(url, &[args, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit code, and what is on standard error.
pub(crate) fn fails(url: Option<&str>, args: &[&str]) -> (i32, String) {
    let output = program(url, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The last error of a circuit that opens: bytes from outside.
const ERROR: &str = "503\x1b[2J\nUnavailable";
const SHOWN: &str = r"last error: 503\u{1b}[2J\nUnavailable";

/// Opens a circuit, as a replica would.
async fn open(backend: &RedisBackend, name: &str) {
    let terms = OpenTerms {
        interval: Duration::from_secs(600),
        probes: 1,
        lease: Duration::from_secs(1),
        successes_to_close: 1,
        ..OpenTerms::default()
    };
    let tally = Tally { calls: 20, failures: 12, ..Tally::default() };
    let name = CircuitName::new(name.to_owned()).unwrap();
    let last_error = Some(ERROR.into());
    let to = Move::Open { terms, reason: Reason::FailureRate, tally, last_error };
    backend.transition(&name, 1, &to).await.unwrap();
}

#[test]
fn circuits_are_listed_shown_forced_open_and_reset_without_a_replica() {
    let server = Server::start();
    let url = &server.url();
    assert_eq!(done(url, &["list"]), "every circuit is closed\n");
    assert_eq!(done(url, &["show", "payments"]), "payments is closed\n");
    assert_eq!(done(url, &["replicas"]), "no replica sent a heartbeat within the last minute\n");

    real(async {
        let backend = RedisBackend::connect(&server.config()).await.unwrap();
        open(&backend, "search").await;
    });
    let open = ["open", "payments", "--reason", "their maintenance", "--for", "10m"];
    let text = done(url, &open);
    assert!(text.starts_with("payments is forced open: override by ada, "), "{text}");
    assert!(text.ends_with(" left: their maintenance\n"), "{text}");

    let list = done(url, &["list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("12 of 20 calls failed; probes in "), "{list}");
    let listed = json(url, &["list"]);
    assert_eq!((listed.len(), &listed[1]["last_error"]), (2, &ERROR.into()));
    for text in [list, done(url, &["show", "search"])] {
        assert!(text.contains(SHOWN), "{text}");
    }
    assert_eq!(
        (&listed[0]["circuit"], &listed[0]["state"]),
        (&"payments".into(), &"forced_open".into())
    );
    assert_eq!(listed[0]["override"]["actor"], "ada");
    let left = listed[0]["override"]["remaining_ms"].as_u64().unwrap();
    assert!((1..=600_000).contains(&left), "{left}");
    assert_eq!((&listed[1]["circuit"], &listed[1]["state"]), (&"search".into(), &"open".into()));
    assert_eq!(listed[1]["tally"]["failures"], 12);

    // A store that starts later obeys.
    let state = real(async {
        let backend = RedisBackend::connect(&server.config()).await.unwrap();
        let store = Store::builder().backend(backend).replica("web-1").build();
        let payments = store.circuit("payments");
        assert!(payments.acquire().await.is_err(), "it is forced open");
        let shown = payments.snapshot();
        assert_eq!(shown.override_actor.as_deref(), Some("ada"));
        assert_eq!(shown.override_reason.as_deref(), Some("their maintenance"));

        // And so does one that runs.
        let reset = url.clone();
        let text = tokio::task::spawn_blocking(move || done(&reset, &["reset", "payments"]));
        assert_eq!(text.await.unwrap(), "payments is closed\n");
        until("a reset", || payments.state() == State::Closed).await;
        let replicas = url.clone();
        let replicas = tokio::task::spawn_blocking(move || json(&replicas, &["replicas"]));
        let replicas = replicas.await.unwrap();
        assert_eq!((replicas.len(), &replicas[0]["replica"]), (1, &"web-1".into()));
        payments.state()
    });
    assert_eq!(state, State::Closed);

    done(url, &["close", "search", "--reason", "it works"]);
    assert_eq!(json(url, &["show", "search"])[0]["state"], "forced_closed");
    assert_eq!(json(url, &["show", "search"])[0]["record_state"], "open");
    done(url, &["disable", "search", "--reason", "to see it fail", "--actor", "bob"]);
    assert_eq!(json(url, &["show", "search"])[0]["override"]["actor"], "bob");
    done(url, &["reset", "search"]);
    assert_eq!(done(url, &["list"]), "every circuit is closed\n");
}

#[test]
fn the_history_says_what_happened_why_on_whose_evidence_and_who_did_it() {
    let server = Server::start();
    let url = &server.url();
    let none = done(url, &["history", "payments"]);
    assert_eq!(none, "payments has not changed within the last 24 hours\n");
    real(async {
        let backend = RedisBackend::connect(&server.config()).await.unwrap();
        open(&backend, "payments").await;
    });
    let reason = "their\nmaintenance\x1b[2J";
    done(url, &["disable", "payments", "--reason", reason, "--for", "10m"]);
    done(url, &["reset", "payments"]);

    let text = done(url, &["history", "payments"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[1].contains("closed -> open "), "{text}");
    assert!(lines[1].contains("12 of 20 calls failed; probes in 600.0 s"), "{text}");
    assert!(lines[1].contains(SHOWN), "{text}");
    assert!(lines[2].contains("open -> disabled "), "{text}");
    let set = r"override by ada, 10m left: their\nmaintenance\u{1b}[2J";
    assert!(lines[2].contains(set), "{text}");
    assert!(lines[3].contains("disabled -> closed "), "{text}");
    assert!(lines[3].contains("ended: override by ada"), "{text}");

    let entries = json(url, &["history", "payments"]);
    assert_eq!(entries.len(), 3);
    assert_eq!((&entries[0]["circuit"], &entries[0]["to"]), (&"payments".into(), &"open".into()));
    assert_eq!(entries[0]["tally"]["failures"], 12);
    assert_eq!(entries[0]["last_error"], ERROR);
    assert!(entries[0]["ago_ms"].as_u64().unwrap() >= entries[2]["ago_ms"].as_u64().unwrap());
    assert_eq!(entries[1]["overridden"]["reason"], reason);
}

#[test]
fn an_override_ends_after_its_time() {
    let server = Server::start();
    let url = &server.url();
    done(url, &["open", "brief", "--reason", "a moment", "--for", "300ms"]);
    real(until("the end of the override", || {
        json(url, &["show", "brief"])[0]["state"] == "closed"
    }));
}

#[test]
fn names_and_reasons_are_shown_as_text() {
    let server = Server::start();
    let url = &server.url();
    let name = "<script>\x1b[2J\nevil\u{202e}";
    done(url, &["open", name, "--reason", "\x1b]0;owned\x07\nmore", "--actor", "\u{9b}31m"]);
    // `program` asserts that nothing in the output acts on a terminal.
    let list = done(url, &["list"]);
    assert!(list.contains(r"<script>\u{1b}[2J\nevil\u{202e}"), "{list}");
    assert!(list.contains(r"\u{1b}]0;owned\u{7}\nmore"), "{list}");
    let listed = json(url, &["list"]);
    assert_eq!(listed[0]["circuit"], name);
    assert_eq!(listed[0]["override"]["actor"], "\u{9b}31m");
}

#[test]
fn a_watch_writes_what_is_listed_what_changes_and_what_replicas_have() {
    let server = Server::start();
    let url = &server.url();
    done(url, &["open", "before", "--reason", "x"]);
    let events = real(async {
        let backend = RedisBackend::connect(&server.config()).await.unwrap();
        let store = Store::builder().backend(backend.clone()).replica("web-1").build();
        store.circuit("healthy").acquire().await.unwrap().settle(tower_breaker::Outcome::Success);
        let watched = url.clone();
        let watch = tokio::task::spawn_blocking(move || json(&watched, &["watch", "--for", "5s"]));
        tokio::time::sleep(Duration::from_secs(2)).await;
        open(&backend, "during").await;
        watch.await.unwrap()
    });
    let has = |event: &str, circuit: &str| {
        events.iter().any(|e| e["event"] == event && e["circuit"] == circuit)
    };
    assert!(has("listed", "before") && has("changed", "during"), "{events:?}");
    let replica = events.iter().find(|e| e["event"] == "replica").expect("a replica");
    assert_eq!(replica["replica"], "web-1");
    let circuits = replica["circuits"].as_array().unwrap();
    let healthy = circuits.iter().find(|c| c["circuit"] == "healthy").expect("it is published");
    assert_eq!((&healthy["state"], &healthy["succeeded"]), (&"closed".into(), &1.into()));
    assert_eq!((&healthy["failed"], &healthy["rejected"]), (&0.into(), &0.into()));
    let during = events.iter().find(|e| e["event"] == "changed" && e["circuit"] == "during");
    assert_eq!(during.unwrap()["last_error"], ERROR);
}

#[test]
fn what_cannot_be_done_has_an_exit_code_and_a_reason() {
    let server = Server::start();
    let wrong = format!("redis://:{PASSWORD}x@127.0.0.1:{}", server.port);
    let (code, error) = fails(Some(&wrong), &["list"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.starts_with("error: "), "{error}");
    assert_eq!(fails(Some("redis://127.0.0.1:1"), &["list"]).0, 1);

    let (code, error) = fails(None, &["list"]);
    assert_eq!(code, 2);
    assert!(error.contains("set CIRCUIT_BREAKER_REDIS_URL, or give --url"), "{error}");
    let secret = format!("http://:{PASSWORD}@x/");
    let (code, error) = fails(None, &["list", "--url", &secret]);
    assert_eq!(code, 2);
    assert!(error.contains("--url: "), "{error}");
    let (code, error) = fails(Some(&server.url()), &["top"]);
    assert_eq!(code, 2);
    assert!(error.contains("`top` needs a terminal; use `list`") && error.contains("`watch`"));
    for args in [
        &["open", "payments"][..],
        &["open", "payments", "--reason", ""],
        &["open", "payments", "--reason", "x", "--for", "10"],
        &["show", ""],
        &["what"],
        &["replay", "x", "--policy", "htp_api"],
    ] {
        assert_eq!(fails(Some(&server.url()), args).0, 2, "{args:?}");
    }
}

/// A file that its drop removes.
struct Trace(PathBuf);

impl Trace {
    fn new(name: &str, lines: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}.jsonl", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(lines.as_bytes()).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_trace_is_replayed_without_a_redis() {
    use std::fmt::Write;

    let mut lines = String::new();
    for n in 0..600 {
        let outcome = if (100..200).contains(&n) { "failure" } else { "success" };
        writeln!(lines, r#"{{"at":{n},"took":0.1,"outcome":"{outcome}"}}"#).unwrap();
    }
    let trace = Trace::new("outage", &lines);
    let output = program(None, &["replay", trace.path(), "--policy", "default,jitter=0"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("600 calls in 9m 59s\n"), "{text}");
    assert!(text.contains("1 trips"), "{text}");
    assert!(text.contains("00:01:44.000  closed -> open: 5 consecutive failures"), "{text}");

    let args = ["replay", trace.path(), "--grid", "--json"];
    let text = String::from_utf8(program(None, &args).stdout).unwrap();
    let ranked: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((ranked.len(), &ranked[0]["rank"]), (27, &1.into()));
    assert!(ranked[0]["score"].as_f64() >= ranked[26]["score"].as_f64());
    assert_eq!(ranked[0]["circuits"][0]["trips"], 1);

    let bad = Trace::new("bad", "{\"at\":1,\"took\":1,\"outcome\":\"success\"}\nnonsense\n");
    let (code, error) = fails(None, &["replay", bad.path()]);
    assert_eq!(code, 1);
    assert!(error.contains("line 2: expected ident at column 2; expected an object"), "{error}");
    assert_eq!(fails(None, &["replay", "/no/such/file"]).0, 1);
}

#[test]
fn a_range_of_prometheus_is_replayed_without_a_redis() {
    let values = |per_step: [i32; 3]| {
        let mut all = vec![(1_700_000_000, 0)];
        for calls in per_step.into_iter().flat_map(|calls| [calls; 30]) {
            let (at, count) = all[all.len() - 1];
            all.push((at + 10, count + calls));
        }
        let values = all.into_iter().map(|(at, count)| serde_json::json!([at, count.to_string()]));
        values.collect::<Vec<_>>()
    };
    let series = |kind: &str, per_step| {
        let metric = serde_json::json!({ "name": "payments", "kind": kind, "instance": "web-1" });
        serde_json::json!({ "metric": metric, "values": values(per_step) })
    };
    let result = [series("successful", [100, 20, 100]), series("failed", [0, 80, 0])];
    let data = serde_json::json!({ "resultType": "matrix", "result": result });
    let answer = serde_json::json!({ "status": "success", "data": data }).to_string();
    let file = Trace::new("range", &answer);
    let args = ["replay", "--prometheus", file.path(), "--policy", "default,jitter=0"];
    let text = String::from_utf8(program(None, &args).stdout).unwrap();
    assert!(text.starts_with("00:00:00 is 2023-11-14T22:13:20Z; "), "{text}");
    assert!(text.contains("\n9000 calls in 14m 59s\n"), "{text}");
    assert!(text.contains("payments: 1 trips"), "{text}");
    // Of the failures, four follow each other: it is the rate that opens, in the sixth minute.
    assert!(text.contains("\n  00:05:"), "{text}");
    assert_eq!(fails(None, &["replay", "--prometheus", "/no/such/file"]).0, 1);
    let bad = Trace::new("no-range", "{}");
    let (code, error) = fails(None, &["replay", "--prometheus", bad.path()]);
    assert_eq!(code, 1);
    assert!(error.contains("expected the answer to `query_range`"), "{error}");
}

/// Prints how long the program takes; see docs/program.md.
#[test]
#[ignore = "a measurement: with --release, on an idle machine"]
fn ten_million_calls_are_replayed() {
    let file = Trace::new("ten-million", "");
    let mut out = std::io::BufWriter::new(std::fs::File::create(file.path()).unwrap());
    let names = ["payments", "search", "catalogue", "mail"];
    for n in 0..10_000_000_u32 {
        // An outage of five minutes, in which nine of ten calls fail.
        let fails = (3_000_000..3_300_000).contains(&n) && n % 10 != 0 || n % 100 == 0;
        let outcome = if fails { "failure" } else { "success" };
        let (at, took) = (f64::from(n) / 1e3, 0.01 + f64::from(n.wrapping_mul(7919) % 200) / 1e3);
        let name = names[n as usize / 7 % 4];
        writeln!(
            out,
            r#"{{"at":{at:.6},"took":{took:.6},"outcome":"{outcome}","circuit":"{name}"}}"#
        )
        .unwrap();
    }
    out.flush().unwrap();
    for args in [&[][..], &["--grid"]] {
        let mut took: Vec<_> = (0..3)
            .map(|_| {
                #[expect(clippy::disallowed_methods, reason = "it measures")]
                let start = std::time::Instant::now();
                let args = [&["replay", file.path(), "--policy", "http_api"], args].concat();
                assert!(program(None, &args).status.success());
                start.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!("{args:?}: {took:.1?}, median {:.1?}", took[1]);
    }
}
