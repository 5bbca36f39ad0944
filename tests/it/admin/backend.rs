//! A service of a backend, without a store.

use http::StatusCode;
use serde_json::{Value, json};
use tower_breaker::admin::{AdminService, Operator};
use tower_breaker::backend::{Backend, MemoryBackend};
use tower_breaker::{Outcome, State};

use super::client::{Stream, get, read, write};
use crate::support::partial::{Fault, PartialBackend};
use crate::support::*;

fn service(backend: &MemoryBackend) -> AdminService {
    AdminService::of_backend(backend.clone())
        .authorise(|_| async { Ok(Operator::new("alice")) })
        .title("cluster")
}

#[tokio::test(start_paused = true)]
async fn it_shows_what_is_not_closed_and_is_no_replica() {
    let backend = MemoryBackend::new();
    let store = store_on(backend.clone(), fragile()).replica("orders-1").build();
    let (payments, _search) = (store.circuit("payments"), store.circuit("search"));
    tokio::time::sleep(s(2)).await;
    payments.try_acquire().unwrap().settle(Outcome::failure());
    tokio::time::sleep(s(1)).await;
    let admin = service(&backend);
    let overview = read(&admin, "/api/overview").await;
    assert_eq!((&overview["source"], &overview["replica"]), (&json!("backend"), &Value::Null));
    assert_eq!(overview["backend"], json!({ "status": "connected" }));
    let circuits = overview["circuits"].as_array().unwrap();
    assert_eq!(circuits.len(), 1);
    let circuit = &circuits[0];
    assert_eq!((&circuit["name"], &circuit["state"]), (&json!("payments"), &json!("open")));
    assert_eq!(circuit["rejects"], true);
    assert_eq!(circuit["why"]["reason"], "consecutive_failures");
    assert_eq!(circuit["why"]["contributors"], json!(["orders-1"]));
    assert_eq!((&circuit["totals"], &circuit["samples"]), (&Value::Null, &Value::Null));
    assert_eq!(circuit["conditions"], json!([]));
    let replicas = overview["replicas"].as_array().unwrap();
    assert_eq!((replicas.len(), &replicas[0]["name"]), (1, &json!("orders-1")));
    assert_eq!(replicas[0]["silent"], false);
    assert_eq!(backend.replicas().await.unwrap().len(), 1);
    let history = read(&admin, "/api/circuits/payments/history").await;
    assert_eq!(
        (&history["source"], &history["entries"][0]["to"]),
        (&json!("cluster"), &json!("open"))
    );
    assert_eq!(read(&admin, "/api/health").await["status"], "degraded");
    assert_eq!(read(&admin, "/api/ready").await["backend"]["status"], "connected");
}

#[tokio::test(start_paused = true)]
async fn its_stream_shows_transitions_and_what_replicas_say() {
    let backend = MemoryBackend::new();
    let store = store_on(backend.clone(), fragile()).replica("orders-1").build();
    let payments = store.circuit("payments");
    tokio::time::sleep(s(2)).await;
    let admin = service(&backend);
    let mut stream = Stream::open(&admin).await;
    assert_eq!(stream.next("overview").await.data["circuits"], json!([]));
    payments.try_acquire().unwrap().settle(Outcome::failure());
    let transition = stream.next("transition").await.data;
    assert_eq!(
        (&transition["name"], &transition["transition"]["to"]),
        (&json!("payments"), &json!("open"))
    );
    assert_eq!(stream.circuit("payments").await["state"], "open");
    loop {
        let circuit = stream.circuit("payments").await;
        if circuit["replicas"] != json!([]) {
            assert_eq!(circuit["replicas"][0]["name"], "orders-1");
            assert_eq!(circuit["replicas"][0]["state"], "open");
            break;
        }
    }
    payments.reset();
    assert_eq!(stream.next("transition").await.data["transition"]["to"], "closed");
    assert_eq!(stream.next("gone").await.data, json!(["payments"]));
}

#[tokio::test(start_paused = true)]
async fn its_overrides_are_in_force_in_replicas_that_start_later() {
    let backend = MemoryBackend::new();
    let admin = service(&backend);
    let set =
        json!({ "state": "forced_open", "reason": "their maintenance", "lasting_ms": 60_000 });
    let answer = write(&admin, "/api/circuits/payments/override", &set).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["acknowledged"], true);
    assert_eq!(answer.json()["circuit"]["override"]["actor"], "alice");

    let store = store_on(backend.clone(), fragile()).build();
    let payments = store.circuit("payments");
    tokio::time::sleep(s(2)).await;
    assert_eq!(payments.state(), State::ForcedOpen);
    let shown = read(&admin, "/api/circuits/payments").await;
    assert_eq!((&shown["since_ms"], &shown["why"]["reason"]), (&json!(2_000), &json!("override")));

    let answer = write(&admin, "/api/circuits/payments/clear", &json!({})).await;
    assert_eq!(answer.json()["circuit"]["state"], "closed");
    write(&admin, "/api/circuits/search/override", &set).await;
    let reset = write(&admin, "/api/reset", &json!({ "all": true })).await.json();
    assert_eq!(reset, json!({ "reset": ["search"], "failed": [], "acknowledged": true }));
    let policy = write(&admin, "/api/circuits/payments/policy", &json!({ "open_for": "1s" })).await;
    assert_eq!(policy.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_shown_until_it_does() {
    let backend = PartialBackend::new();
    let admin = AdminService::of_backend(backend.clone())
        .authorise(|_| async { Ok(Operator::new("alice")) });
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    backend.set(Fault::Hangs(32));
    let degraded = json!({ "status": "degraded", "reason": "no answer" });
    assert_eq!(stream.next("backend").await.data, degraded);
    assert_eq!(read(&admin, "/api/overview").await["backend"], degraded);
    assert_eq!(read(&admin, "/api/health").await["status"], "degraded");
    let set = json!({ "state": "forced_open", "reason": "x" });
    let answer = write(&admin, "/api/circuits/payments/override", &set).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not acknowledged: the change may be in force or not: no answer"
        )
    );
    let answer = write(&admin, "/api/reset", &json!({ "all": true })).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.error().starts_with("nothing was reset"), "{answer:?}");
    let answer = get(&admin, "/api/circuits/payments").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    backend.set(Fault::None);
    assert_eq!(stream.next("backend").await.data, json!({ "status": "connected" }));
}

#[tokio::test(start_paused = true)]
async fn an_open_record_whose_time_is_over_does_not_say_when_it_opened() {
    let backend = MemoryBackend::new();
    let store = store_on(backend.clone(), fragile()).replica("orders-1").build();
    let payments = store.circuit("payments");
    tokio::time::sleep(s(2)).await;
    payments.try_acquire().unwrap().settle(Outcome::failure());
    tokio::time::sleep(s(1)).await;
    let admin = service(&backend);
    let since = &read(&admin, "/api/overview").await["circuits"][0]["since_ms"];
    assert!(since.as_u64().is_some_and(|since| since <= 1_000), "{since}");
    tokio::time::sleep(s(3_600)).await;
    let overview = read(&admin, "/api/overview").await;
    assert_eq!(overview["circuits"][0]["since_ms"], Value::Null);
    // The history has it.
    let since = &read(&admin, "/api/circuits/payments").await["since_ms"];
    assert!(since.as_u64().is_some_and(|since| since >= 3_600_000), "{since}");
}
