//! Each state of the page, light and dark, on a desktop and on a phone: pictures, and axe-core.

use std::time::Duration;

use tower_breaker::Store;
use tower_breaker::overrides::{Override, OverrideState};

use super::support::browser::{Browser, Look};
use super::support::circuits::{call, policy, probing_after, store, trip};
use super::support::redis::Redis;
use super::support::service::Service;
use super::support::{LONG, until};

/// Takes the pictures of a state and checks each.
async fn check(browser: &Browser, state: &str) {
    for look in Look::ALL {
        browser.look(look).await;
        browser.picture(state, look).await;
        browser.check_accessibility(&format!("{state}, {}", look.name)).await;
    }
    browser.look(Look::DESKTOP).await;
}

#[test]
fn the_page_is_one_file_of_less_than_66_kb_that_loads_nothing_else() {
    let page = include_str!("../../../src/admin/page.html");
    assert!(page.len() < 66_000, "{} bytes", page.len());
    for loads in
        [" src=", "@import", "url(", "//cdn", "https://", "style=\"", "onclick=\"", "eval("]
    {
        assert!(!page.contains(loads), "{loads}");
    }
}

async fn some_closed(store: &Store) {
    for (n, name) in ["accounts", "billing", "checkout", "inventory"].into_iter().enumerate() {
        call(store, name, &[true; 40]).await;
        call(store, name, &[&[false][..], &[true; 9]].concat().repeat(n)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_circuit_is_accessible_in_every_look() {
    let empty = Store::builder().replica("orders-7c").build();
    let service = Service::start(&empty);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "No circuits yet", LONG).await;
    check(&browser, "empty").await;

    let store = Store::builder()
        .default_policy(probing_after(Duration::from_millis(50)))
        .critical("payments")
        .replica("orders-7c")
        .build();
    some_closed(&store).await;
    let service = Service::start(&store);
    browser.client.goto(&service.url()).await.unwrap();
    browser.until_text("h1", "All 4 circuits are closed", LONG).await;
    check(&browser, "closed").await;
    browser.client.goto(&service.circuit_url("checkout")).await.unwrap();
    browser.until_text("#detail h2", "checkout", LONG).await;
    check(&browser, "detail").await;
    browser.client.goto(&service.url()).await.unwrap();

    let payments = store.circuit("payments");
    trip(&store, "payments").await;
    let probe = async {
        loop {
            match payments.try_acquire() {
                Ok(permit) => return permit,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let probe = tokio::time::timeout(LONG, probe).await.unwrap();
    browser.until_text(".card .word", "half-open", LONG).await;
    check(&browser, "half-open").await;
    drop(probe);
    payments.reset();

    for (state, name) in [
        (OverrideState::ForcedOpen, "forced-open"),
        (OverrideState::ForcedClosed, "forced-closed"),
        (OverrideState::Disabled, "disabled"),
        (OverrideState::MetricsOnly, "metrics-only"),
    ] {
        let for_a_while = Override::new(state, "their maintenance until 15:00, ticket OPS-4411")
            .actor("alice")
            .lasting(Duration::from_secs(1800));
        payments.set_override(for_a_while);
        let card = format!(".card[data-state={}] .why", state.as_str());
        browser.until_text(&card, "their maintenance", LONG).await;
        check(&browser, name).await;
    }
    browser.check_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_accessible_in_every_look() {
    let store = store();
    some_closed(&store).await;
    trip(&store, "payments").await;
    call(&store, "payments", &[true; 20]).await;
    let mut service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "1 of 5 circuits rejects calls", LONG).await;
    browser.until("its history", LONG, "document.querySelector('.time .head')").await;
    check(&browser, "open").await;

    browser.act("Force closed", "payments").await;
    browser.click("input[name=for][value='']").await;
    browser.click("#d-yes").await;
    browser.until_text("#d-error", "Give a reason", LONG).await;
    check(&browser, "dialog").await;
    browser.click("#d-no").await;

    for name in ["search", "sessions", "shipping", "tax"] {
        trip(&store, name).await;
    }
    store.circuit("tax").force_closed("a drill");
    store.circuit("billing").metrics_only("we tune it");
    let long = format!("a-circuit-with-a-long-name.{}", "and.no.spaces.".repeat(7));
    trip(&store, &long).await;
    browser.until_text("h1", "5 of 10 circuits reject calls", LONG).await;
    check(&browser, "many").await;

    service.stop();
    browser.until_text("h1", "No connection to the service", LONG).await;
    check(&browser, "no-connection").await;

    let read_only = Service::read_only(&store);
    browser.client.goto(&read_only.url()).await.unwrap();
    browser.until_text(".acts", "Read-only", LONG).await;
    check(&browser, "read-only").await;
    browser.check_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_its_backend_is_accessible_in_every_look() {
    let mut redis = Redis::start();
    let first = redis.replica("orders-7c", policy()).await;
    let second = redis.replica("orders-2b", policy()).await;
    for store in [&first, &second] {
        until("a backend", LONG, || store.backend().is_connected()).await;
        some_closed(store).await;
    }
    trip(&first, "payments").await;
    let other = second.circuit("payments");
    until("the trip of the cluster", LONG, || !other.state().passes_all()).await;
    let service = Service::start(&first);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "1 of 5 circuits rejects calls", LONG).await;
    browser.until_text("#replicas", "orders-2b", LONG).await;
    browser.until_text(".card .reps", "orders-2b", LONG).await;
    check(&browser, "cluster").await;

    // The same without a store, as a program on the Redis alone shows it.
    let alone = Service::of_backend(redis.backend().await);
    browser.client.goto(&alone.url()).await.unwrap();
    browser.until_text("h1", "1 circuit rejects calls", LONG).await;
    browser.until_text(".card h3", "payments", LONG).await;
    check(&browser, "backend").await;
    browser.client.goto(&service.url()).await.unwrap();
    browser.until_text("h1", "1 of 5 circuits rejects calls", LONG).await;

    redis.kill();
    browser.until_text("#notices", "The backend does not answer", LONG).await;
    check(&browser, "no-backend").await;
    browser.check_clean().await;
}
