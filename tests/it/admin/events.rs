//! The stream of events.

use serde_json::{Value, json};
use tower_breaker::Outcome;
use tower_breaker::admin::AdminService;

use super::client::{Stream, alices, read, write};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_the_time_to_retry_and_an_overview() {
    let store = store(fragile());
    store.circuit("payments");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    assert_eq!(stream.block().await.unwrap(), "retry: 1000");
    let first = stream.event().await.unwrap();
    assert_eq!(first.kind, "overview");
    let mut overview = read(&admin, "/api/overview").await;
    overview["circuits"][0]["since_ms"] = first.data["circuits"][0]["since_ms"].clone();
    assert_eq!(first.data, overview);
}

#[tokio::test(start_paused = true)]
async fn a_transition_arrives_at_once_and_the_circuit_soon_after() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    let start = now();
    payments.try_acquire().unwrap().settle(Outcome::failure());
    let transition = stream.next("transition").await.data;
    assert_eq!(start.elapsed(), ms(0));
    assert_eq!(transition["name"], "payments");
    assert_eq!(transition["transition"]["to"], "open");
    assert_eq!(transition["transition"]["ago_ms"], 0);
    let circuit = stream.circuit("payments").await;
    assert!(start.elapsed() <= ms(250), "{:?}", start.elapsed());
    assert_eq!((&circuit["state"], &circuit["rejects"]), (&json!("open"), &json!(true)));
    assert!(circuit.get("samples").is_none(), "samples have events of their own");
    // Its interval ends without any call: it rejects no more.
    let circuit = stream.circuit("payments").await;
    assert!(start.elapsed() >= s(10) && start.elapsed() <= s(12));
    assert_eq!((&circuit["state"], &circuit["rejects"]), (&json!("open"), &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn many_transitions_are_described_at_most_every_quarter_of_a_second() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    tokio::spawn(async move {
        for _ in 0..100 {
            payments.force_open("x");
            payments.reset();
            tokio::time::sleep(ms(20)).await;
        }
    });
    let start = now();
    let mut described = 0;
    while start.elapsed() < s(2) {
        described += usize::from(stream.event().await.unwrap().kind == "circuits");
    }
    assert!((4..=11).contains(&described), "{described}");
}

#[tokio::test(start_paused = true)]
async fn counts_that_grow_are_sent_once_a_second_and_nothing_while_nothing_changes() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    store.circuit("search");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    for n in 1..=5 {
        payments.try_acquire().unwrap().settle(Outcome::Success);
        let circuits = stream.next("circuits").await.data;
        assert_eq!(circuits.as_array().unwrap().len(), 1, "only what has changed");
        assert_eq!(circuits[0]["totals"]["succeeded"], n);
    }
    let start = now();
    let mut blocks = Vec::new();
    while start.elapsed() < s(25) {
        blocks.push(stream.block().await.unwrap());
    }
    let pings = blocks.iter().filter(|block| *block == ": ping").count();
    assert!((2..=3).contains(&pings), "{blocks:?}");
    assert!(!blocks.iter().any(|block| block.starts_with("event: circuits")), "{blocks:?}");
}

#[tokio::test(start_paused = true)]
async fn samples_are_sent_as_they_are_taken() {
    let store = store(fragile().consecutive_failures(100).without_failure_rate());
    let payments = store.circuit("payments");
    store.circuit("idle");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("samples").await;
    payments.try_acquire().unwrap().settle(Outcome::Success);
    payments.try_acquire().unwrap().settle(Outcome::failure());
    assert_eq!(stream.next("samples").await.data, json!({ "payments": [1, 1, 0, 0] }));
    assert_eq!(stream.next("samples").await.data, json!({}));
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_a_key_comes_with_its_trouble_and_goes_with_it() {
    let store = store(fragile());
    let tenants = store.keyed("tenants");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    assert_eq!(stream.next("overview").await.data["circuits"], json!([]));
    let globex = tenants.circuit("globex").unwrap();
    globex.try_acquire().unwrap().settle(Outcome::failure());
    assert_eq!(stream.circuit("tenants:globex").await["keyed"], true);
    globex.reset();
    assert_eq!(stream.next("gone").await.data, json!(["tenants:globex"]));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_comes_back_gets_the_transitions_that_it_has_missed() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    payments.force_open("first");
    let seen = stream.next("transition").await.id;
    drop(stream);
    payments.reset();
    payments.force_open("second");
    tokio::time::sleep(ms(900)).await;

    let mut again = Stream::resume(&admin, Some(&seen)).await;
    assert_eq!(again.next("overview").await.data["circuits"][0]["state"], "forced_open");
    let missed = [again.event().await.unwrap(), again.event().await.unwrap()];
    let to = missed.map(|event| event.data["transition"]["to"].clone());
    assert_eq!(to, ["closed", "forced_open"]);

    // What it has seen already, it does not get again; nor with an id that says nothing.
    let last = {
        payments.reset();
        again.next("transition").await.id
    };
    tokio::time::sleep(s(1)).await;
    for id in [last.as_str(), "0-0", "", "x", &format!("{last}9"), "\u{7f}"] {
        if id.parse::<http::HeaderValue>().is_err() {
            continue;
        }
        let mut stream = Stream::resume(&admin, Some(id)).await;
        stream.next("overview").await;
        payments.force_open("third");
        payments.reset();
        assert_eq!(stream.next("transition").await.data["transition"]["to"], "forced_open", "{id}");
        tokio::time::sleep(s(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn transitions_of_long_ago_are_not_sent_again_in_part() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    payments.force_open("first");
    let seen = stream.next("transition").await.id;
    for _ in 0..150 {
        payments.reset();
        payments.force_open("again");
    }
    tokio::time::sleep(s(1)).await;
    let mut again = Stream::resume(&admin, Some(&seen)).await;
    again.next("overview").await;
    payments.reset();
    assert_eq!(again.next("transition").await.data["transition"]["to"], "closed");
}

#[tokio::test(start_paused = true)]
async fn all_connections_get_the_same_events() {
    let store = store(fragile());
    store.circuit("payments");
    let admin = alices(&store);
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(Stream::open(&admin).await);
    }
    for stream in &mut streams {
        stream.next("overview").await;
    }
    let set = json!({ "state": "forced_open", "reason": "x" });
    write(&admin, "/api/circuits/payments/override", &set).await;
    let mut seen: Vec<(String, Value)> = Vec::new();
    for stream in &mut streams {
        let event = stream.next("transition").await;
        seen.push((event.id, event.data));
    }
    assert!(seen.iter().all(|event| *event == seen[0]), "{seen:?}");
    assert_eq!(seen[0].1["transition"]["overridden"]["actor"], "alice");
}
