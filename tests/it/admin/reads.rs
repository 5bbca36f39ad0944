//! Each read, and its headers.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower_breaker::admin::AdminService;
use tower_breaker::{Outcome, Policy, Store};

use super::client::{alices, call, get, read};
use crate::support::*;

const READS: [&str; 8] = [
    "/",
    "/api/overview",
    "/api/circuits/payments",
    "/api/circuits/payments/history",
    "/api/replicas",
    "/api/health",
    "/api/ready",
    "/events",
];

fn shop() -> Store {
    let store = store(fragile());
    store.circuit("payments");
    store
}

#[tokio::test]
async fn each_read_may_not_be_stored_guessed_at_or_embedded() {
    let admin = AdminService::new(shop());
    for path in READS {
        let answer = call(&admin, Method::HEAD, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.body.is_empty(), "{path}: HEAD has no body");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin", "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        if path != "/events" {
            let whole = get(&admin, path).await;
            assert_eq!(whole.headers["content-length"], whole.body.len().to_string());
            assert_eq!(whole.headers.len(), answer.headers.len(), "{path}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_allowed() {
    let admin = alices(&shop());
    for path in READS {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = call(&admin, method.clone(), path).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.headers["allow"], "GET, HEAD");
        }
    }
    for path in ["/api/reset", "/api/circuits/payments/override", "/api/circuits/x/policy"] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
            let answer = call(&admin, method, path).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(answer.headers["allow"], "POST");
        }
    }
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_nothing_else() {
    let answer = get(&AdminService::new(shop()), "/").await;
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    let parts: Vec<_> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(parts.contains(&part), "{policy}");
    }
    for part in ["style-src 'sha256-", "script-src 'sha256-"] {
        assert!(parts.iter().any(|p| p.starts_with(part) && p.ends_with("='")), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"));
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
}

#[tokio::test]
async fn what_is_not_there_is_a_404_in_json() {
    let admin = AdminService::new(shop());
    for path in [
        "/api",
        "/favicon.ico",
        "/api/circuits/paymets",
        "/api/circuits/paymets/history",
        "/api/circuits/%ff",
        "/api/circuits/",
        "/api/circuits//history",
        "/api/overview/x",
    ] {
        let answer = get(&admin, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.error().starts_with("there is no"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_says_why_and_on_what_evidence() {
    let policy = Policy::builder().failure_rate(0.5).minimum_calls(4).consecutive_failures(9);
    let store = Store::builder()
        .default_policy(policy.jitter(0.0).open_for(s(30)).build().unwrap())
        .critical("payments")
        .build();
    let payments = store.circuit("payments");
    let admin = AdminService::new(store.clone()).title("orders");
    for _ in 0..2 {
        payments.try_acquire().unwrap().settle(Outcome::Success);
        payments.try_acquire().unwrap().settle(Outcome::failure());
    }
    assert!(payments.try_acquire().is_err());
    tokio::time::advance(s(12)).await;

    let circuit = read(&admin, "/api/circuits/payments").await;
    assert_eq!((&circuit["state"], &circuit["rejects"]), (&json!("open"), &json!(true)));
    assert_eq!(circuit["since_ms"], 12_000);
    assert_eq!(circuit["retry_after_ms"], 18_000);
    assert_eq!(circuit["critical"], true);
    let why = &circuit["why"];
    assert_eq!(why["reason"], "failure_rate");
    assert_eq!(why["text"], "2 of 4 calls failed");
    assert_eq!((&why["tally"]["calls"], &why["tally"]["failures"]), (&json!(4), &json!(2)));
    assert_eq!(circuit["totals"]["succeeded"], 2);
    assert_eq!(circuit["totals"]["failed"], 2);
    assert_eq!(circuit["totals"]["rejected"], 1);
    assert_eq!(circuit["failed_by"], json!({ "other": 2 }));
    let kinds: Vec<_> =
        circuit["conditions"].as_array().unwrap().iter().map(|c| c["kind"].clone()).collect();
    assert_eq!(kinds, ["consecutive_failures", "failure_rate", "no_completions"]);

    let history = read(&admin, "/api/circuits/payments/history").await;
    assert_eq!(history["source"], "local");
    assert_eq!(history["entries"][0]["ago_ms"], 12_000);
    assert_eq!(history["entries"][0]["reason"], "failure_rate");

    let ready = get(&admin, "/api/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(read(&admin, "/api/health").await, ready.json());

    let overview = read(&admin, "/api/overview").await;
    assert_eq!((&overview["title"], &overview["source"]), (&json!("orders"), &json!("store")));
    assert_eq!((&overview["writable"], &overview["replica"]), (&json!(false), &Value::Null));
    assert_eq!(overview["backend"], json!({ "status": "none" }));
    assert_eq!(overview["circuits"][0]["name"], "payments");
    assert_eq!(overview["replicas"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn evidence_is_shown_against_each_threshold() {
    let policy = Policy::builder().failure_rate(0.5).failure_count(40).slow_call_rate(0.8);
    let policy = policy.slow_call_duration(s(1)).count_window(50);
    let store = store(policy);
    let payments = store.circuit("payments");
    for n in 0..11 {
        let outcome = if n < 2 { Outcome::failure() } else { Outcome::Success };
        payments.try_acquire().unwrap().settle(outcome);
    }
    payments.try_acquire().unwrap().settle(Outcome::failure());
    let circuit = read(&AdminService::new(store), "/api/circuits/payments").await;
    assert_eq!(
        circuit["conditions"],
        json!([
            { "kind": "consecutive_failures", "value": 1, "threshold": 5 },
            { "kind": "failure_rate", "value": 0.25, "threshold": 0.5, "calls": 12,
              "minimum_calls": 20 },
            { "kind": "failure_count", "value": 3, "threshold": 40 },
            { "kind": "slow_call_rate", "value": 0.0, "threshold": 0.8, "calls": 12,
              "minimum_calls": 20 },
            { "kind": "no_completions", "value": 1, "threshold": 20 },
        ])
    );
}

#[tokio::test]
async fn what_is_wrong_comes_first_and_healthy_keys_are_left_out() {
    let store = store(fragile());
    for name in ["a", "b", "c", "d"] {
        store.circuit(name);
    }
    store.circuit("d").force_open("maintenance");
    store.circuit("c").metrics_only("a try");
    let tenants = store.keyed("tenants");
    let (fine, broken) = (tenants.circuit("fine").unwrap(), tenants.circuit("broken").unwrap());
    broken.try_acquire().unwrap().settle(Outcome::failure());
    fine.try_acquire().unwrap().settle(Outcome::Success);
    let overview = read(&AdminService::new(store), "/api/overview").await;
    let names: Vec<_> =
        overview["circuits"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["d", "tenants:broken", "c", "a", "b"]);
    assert_eq!(overview["omitted"], 1);
}

#[tokio::test]
async fn an_overview_has_at_most_a_thousand_circuits() {
    let store = store(fragile());
    for n in 0..1_200 {
        store.circuit(format!("circuit {n:04}"));
    }
    store.circuit("circuit 1199").force_open("maintenance");
    let overview = read(&AdminService::new(store), "/api/overview").await;
    assert_eq!(overview["circuits"].as_array().unwrap().len(), 1_000);
    assert_eq!(overview["circuits"][0]["name"], "circuit 1199");
    assert_eq!(overview["omitted"], 200);
}

#[tokio::test(start_paused = true)]
async fn samples_are_what_was_counted_every_five_seconds_for_ten_minutes() {
    let store = store(fragile().consecutive_failures(1_000).without_failure_rate());
    let old = store.circuit("old");
    old.try_acquire().unwrap().settle(Outcome::Success);
    let admin = AdminService::new(store.clone());
    tokio::time::sleep(s(1)).await;
    // Before the service there was no sampling; a circuit that is made later is sampled whole.
    store.circuit("new").try_acquire().unwrap().settle(Outcome::Success);
    for n in 0..130 {
        old.try_acquire().unwrap().settle(Outcome::Success);
        if n % 2 == 0 {
            old.try_acquire().unwrap().settle(Outcome::failure());
        }
        tokio::time::sleep(s(5)).await;
    }
    let samples = |circuit: &Value| circuit["samples"].as_array().unwrap().clone();
    let old = samples(&read(&admin, "/api/circuits/old").await);
    assert_eq!(old.len(), 120);
    assert_eq!(old[118..], [json!([1, 1, 0, 0]), json!([1, 0, 0, 0])]);
    // Its one call was more than ten minutes ago.
    assert_eq!(samples(&read(&admin, "/api/circuits/new").await), [] as [Value; 0]);
}

#[test]
fn without_a_runtime_reads_are_answered_and_events_are_refused() {
    let store = shop();
    store.circuit("payments").force_open("maintenance");
    let admin = alices(&store);
    let answer = |path| bare(get(&admin, path));
    for path in READS {
        let answer = answer(path);
        let expected =
            if path == "/events" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        assert_eq!(answer.status, expected, "{path}: {answer:?}");
    }
    let request = super::client::post("/api/circuits/payments/reset", "{}");
    let reset = bare(super::client::send(&admin, request));
    assert_eq!(reset.json()["acknowledged"], true);
    assert_eq!(reset.json()["circuit"]["state"], "closed");
}

/// Polls a future that needs no runtime.
fn bare<T>(future: impl Future<Output = T>) -> T {
    let mut task = tokio_test::task::spawn(future);
    match task.poll() {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}
