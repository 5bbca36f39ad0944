//! What a store has counted arrives in the systems that collect metrics.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, Stdio};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::metrics::{Family, Kind, MOST_KEYED, StoreCollector};
use tower_breaker::{Circuit, Outcome, Policy, State, Store, StoreBuilder};

use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic};
use crate::support::*;

fn registry(store: &Store) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(StoreCollector::new(store)));
    registry
}

fn scrape(store: &Store) -> String {
    let mut text = String::new();
    encode(&mut text, &registry(store)).unwrap();
    text
}

fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = families.iter().find(|family| family.name == name).expect(name);
    let is = |(key, value): &(&'static str, String)| labels.contains(&(*key, value.as_str()));
    let sample =
        family.samples.iter().find(|s| s.labels.iter().filter(|l| is(l)).count() == labels.len());
    sample.map(|sample| sample.value)
}

/// A store whose circuits open at the third failure in a row.
fn three_in_a_row() -> Store {
    builder().build()
}

fn builder() -> StoreBuilder {
    let policy = Policy::only().consecutive_failures(3).build().unwrap();
    Store::builder().default_policy(policy)
}

fn open(circuit: &Circuit) {
    while circuit.state() == State::Closed {
        fail(circuit);
    }
}

/// Some of everything that a store can count.
fn busy() -> Store {
    busy_on(three_in_a_row())
}

fn busy_on(store: Store) -> Store {
    let circuit = store.circuit("payments");
    for outcome in [Outcome::Success, Outcome::failure(), Outcome::Ignored] {
        circuit.try_acquire().unwrap().settle(outcome);
    }
    drop(circuit.try_acquire().unwrap());
    open(&circuit);
    assert!(circuit.try_acquire().is_err());
    store.circuit("search").metrics_only("choosing thresholds");
    let rated = Policy::only().failure_rate(0.5).minimum_calls(1).build().unwrap();
    succeed(&store.circuit_with("rated", rated));
    open(&store.keyed("hosts").circuit("a.example").unwrap());
    store
}

#[test]
fn each_call_is_counted_where_the_table_says() {
    let store = three_in_a_row();
    let circuit = store.circuit("payments");
    (0..3).for_each(|_| succeed(&circuit));
    fail(&circuit);
    ignore(&circuit);
    open(&circuit);
    (0..2).for_each(|_| assert!(circuit.try_acquire().is_err()));
    let families = store.metrics();
    let count = |name, labels: &[(&str, &str)]| value(&families, name, labels);
    let calls = |kind| count("tower_breaker_calls_total", &[("name", "payments"), ("kind", kind)]);
    assert_eq!((calls("successful"), calls("ignored")), (Some(3.0), Some(1.0)));
    let failed = u32::try_from(circuit.snapshot().totals.failed.sum()).unwrap();
    assert_eq!(calls("failed"), Some(f64::from(failed)));
    assert_eq!(
        count("tower_breaker_not_permitted_calls_total", &[("name", "payments")]),
        Some(2.0)
    );
    let state = |state| count("tower_breaker_state", &[("name", "payments"), ("state", state)]);
    assert_eq!(
        [state("open"), state("closed"), state("half_open")],
        [Some(1.0), Some(0.0), Some(0.0)]
    );
    let opened = [("from", "closed"), ("to", "open"), ("origin", "local")];
    assert_eq!(count("tower_breaker_transitions_total", &opened), Some(1.0));
}

#[test]
fn the_docs_list_every_metric_and_no_other() {
    let docs = include_str!("../../src/metrics/mod.rs");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | `tower_breaker_"));
    let listed: BTreeSet<_> =
        rows.map(|row| format!("tower_breaker_{}", row.split('`').next().unwrap())).collect();
    let named: BTreeSet<_> = busy().metrics().iter().map(|f| f.name.to_owned()).collect();
    assert_eq!(listed, named);
}

#[tokio::test]
async fn a_scrape_over_http_is_what_promtool_expects() {
    let store = busy_on(builder().backend(MemoryBackend::new()).build());
    while !store.backend().is_connected() {
        tokio::task::yield_now().await;
    }
    for name in ["quo\"te", "back\\slash", "line\nbreak", "<script>", "ünïcode", "{a=\"b\"}"] {
        open(&store.circuit(name));
    }
    let counters = store.metrics().into_iter().filter(|family| family.kind == Kind::Counter);
    let counters: Vec<_> = counters.map(|family| family.name).collect();
    let app = axum::Router::new().route(
        "/metrics",
        axum::routing::get(move || {
            let store = store.clone();
            async move { scrape(&store) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // This is OpenMetrics. In the older format, which promtool checks, a counter is described under
    // its full name.
    let mut body = body.replace("# EOF\n", "");
    for family in counters {
        let name = family.strip_suffix("_total").unwrap();
        body = body.replace(&format!("# HELP {name} "), &format!("# HELP {family} "));
        body = body.replace(&format!("# TYPE {name} "), &format!("# TYPE {family} "));
    }
    for series in
        ["tower_breaker_replicas{} 1.0", "operation=\"heartbeat\",result=\"ok\"", "le=\"+Inf\""]
    {
        assert!(body.contains(series), "{series} in {body}");
    }
    let (ok, said) = promtool(&["check", "metrics"], &body);
    assert!(ok && said.is_empty(), "{said}\n{body}");
}

#[test]
fn the_rules_in_docs_do_what_their_tests_say() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let file = |name: &str| format!("{docs}/{name}");
    let (ok, said) =
        promtool(&["check", "rules", &file("alerts.yml"), &file("resilience4j-rules.yml")], "");
    assert!(ok, "{said}");
    let (ok, said) = promtool(&["test", "rules", &file("alerts_test.yml")], "");
    assert!(ok, "{said}");
    // Each alert has a test that it fires, and each metric in a rule exists.
    let (rules, tests) =
        (include_str!("../../docs/alerts.yml"), include_str!("../../docs/alerts_test.yml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            tests.contains(&format!("        alertname: {alert}\n        exp_alerts:\n")),
            "{alert}"
        );
    }
    let known: BTreeSet<_> = Store::in_memory().metrics().iter().map(|f| f.name).collect();
    let both = [rules, include_str!("../../docs/resilience4j-rules.yml")].concat();
    let words = both.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(|word| word.starts_with("tower_breaker_")) {
        assert!(known.contains(word), "{word}");
    }
}

#[test]
fn the_page_for_operators_explains_every_metric_and_no_other() {
    let page = include_str!("../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `tower_breaker_"));
    let rows: Vec<Vec<_>> = rows.map(|row| row.split(" | ").collect()).collect();
    assert!(rows.iter().all(|cells| cells.len() == 3), "what it means, and what to do");
    let explained: Vec<_> =
        rows.iter().map(|row| format!("tower_breaker_{}", row[0].trim_end_matches('`'))).collect();
    let known: Vec<_> = Store::in_memory().metrics().iter().map(|f| f.name.to_owned()).collect();
    assert_eq!(explained, known);
}

/// All texts under `key`, wherever they are.
fn texts(data: &serde_json::Value, key: &str, found: &mut Vec<String>) {
    use serde_json::Value;

    match data {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| texts(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_uses_only_metrics_that_exist_in_valid_expressions() {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let is_described = |panel: &serde_json::Value| {
        ["title", "description"].iter().all(|key| panel[key].is_string())
    };
    assert!(panels.iter().all(is_described));
    let (mut expressions, mut queries) = (Vec::new(), Vec::new());
    texts(&dashboard, "expr", &mut expressions);
    texts(&dashboard, "query", &mut queries);
    assert!(expressions.len() > panels.len(), "annotations too: {}", expressions.len());

    let mut known = BTreeSet::new();
    for family in Store::in_memory().metrics() {
        known.insert(family.name.to_owned());
        if family.kind == Kind::Histogram {
            known.extend(["_bucket", "_count", "_sum"].map(|end| format!("{}{end}", family.name)));
        }
    }
    let all = [&expressions[..], &queries].concat().join("\n");
    for word in all.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        assert!(!word.starts_with("tower_breaker_") || known.contains(word), "{word}");
    }

    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (n, expression) in expressions.iter().enumerate() {
        let filled = expression.replace("$__rate_interval", "5m").replace("$__interval", "1m");
        let filled = filled.replace("$name", ".*").replace('\'', "''");
        writeln!(rules, "      - record: r{n}\n        expr: '{filled}'").unwrap();
    }
    let file = std::env::temp_dir().join(format!("tower-breaker-grafana-{}", std::process::id()));
    std::fs::write(&file, rules).unwrap();
    let (ok, said) = promtool(&["check", "rules", &file.to_string_lossy()], "");
    std::fs::remove_file(&file).unwrap();
    assert!(ok, "{said}");
}

/// Returns whether promtool is content, and what it says otherwise.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool: `scripts/test` installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn series_of_evicted_circuits_vanish_and_their_counts_stay() {
    let store = Store::builder().key_limit(10);
    let store = store.default_policy(fragile().build().unwrap()).build();
    let hosts = store.keyed("hosts");
    trip(&hosts.circuit("a").unwrap());
    assert!(scrape(&store).contains("tower_breaker_state{name=\"hosts:a\",state=\"open\"} 1"));
    hosts.circuit("a").unwrap().reset();
    for key in 0..1000 {
        succeed(&hosts.circuit(&key.to_string()).unwrap());
    }
    let text = scrape(&store);
    assert!(!text.contains("hosts:a"), "{text}");
    let counted = "tower_breaker_calls_total{name=\"hosts\",kind=\"successful\"} 1000";
    assert!(text.contains(counted), "{text}");
}

#[test]
fn a_thousand_keys_add_a_bounded_number_of_series() {
    let store = Store::builder().default_policy(fragile().build().unwrap()).build();
    let hosts = store.keyed("hosts");
    let series = |store: &Store| store.metrics().iter().map(|f| f.samples.len()).sum::<usize>();
    let circuits: Vec<_> = (0..1000).map(|n| hosts.circuit(&n.to_string()).unwrap()).collect();
    circuits.iter().for_each(succeed);
    let closed = series(&store);
    assert!(closed < 40, "{closed}");
    circuits.iter().for_each(trip);
    let open = series(&store);
    assert!(open <= closed + MOST_KEYED * 20, "{open}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_shows() {
    let replica = Replica::join(&Traffic::over(&MemoryBackend::new()), fragile());
    let degraded = |store: &Store| value(&store.metrics(), "tower_breaker_store_degraded", &[]);
    wait_for("a connected store", || degraded(&replica.store) == Some(0.0)).await;
    replica.line.set(Fault::Pauses);
    wait_for("a degraded store", || degraded(&replica.store) == Some(1.0)).await;
    let detached = value(&replica.store.metrics(), "tower_breaker_detached", &[("name", "test")]);
    assert_eq!(detached, Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn operations_on_the_backend_are_timed_and_the_age_of_the_view_grows() {
    const VIEW_AGE: &str = "tower_breaker_view_age_seconds";
    const OPERATIONS: &str = "tower_breaker_store_operation_duration_seconds";

    let replica = Replica::join(&Traffic::over(&MemoryBackend::new()), fragile());
    let metrics = || replica.store.metrics();
    assert_eq!(value(&metrics(), VIEW_AGE, &[]), None, "nothing is known yet");
    wait_for("a connected store", || replica.store.backend().is_connected()).await;
    assert_eq!(value(&metrics(), "tower_breaker_replicas", &[]), Some(1.0));
    assert!(value(&metrics(), VIEW_AGE, &[]).unwrap() < 2.0);
    fail(&replica.circuit);
    replica.line.set(Fault::Pauses);
    advance(s(1)).await;
    wait_for("a degraded store", || replica.store.backend().is_degraded()).await;
    assert!(value(&metrics(), VIEW_AGE, &[]).unwrap() >= 2.0);
    let families = metrics();
    let operations = families.iter().find(|family| family.name == OPERATIONS).unwrap();
    let of = |operation: &str, result: &str| {
        let found = operations.samples.iter().find(|sample| {
            sample.labels == [("operation", operation.into()), ("result", result.into())]
        });
        found.map(|it| (it.value, it.buckets.clone()))
    };
    let (_, buckets) = of("heartbeat", "ok").unwrap();
    assert!(buckets[0].1 >= 1 && buckets[0].0 < 0.002, "{buckets:?}");
    let (sum, buckets) = of("heartbeat", "unavailable").unwrap();
    let (bound, slow) = *buckets.last().unwrap();
    assert!(bound.is_infinite() && slow >= 1 && sum >= 1.0, "{sum}: {buckets:?}");
    assert_eq!(of("restore", "ok"), None, "only what there was has a series");
}
