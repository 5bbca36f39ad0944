//! The page follows what happens.

use std::time::Instant;

use super::support::browser::Browser;
use super::support::circuits::{call, policy, store, trip};
use super::support::redis::Redis;
use super::support::service::Service;
use super::support::{LONG, ONE_SECOND};

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_real_calls_trip_shows_as_open_within_a_second_without_a_reload() {
    let store = store();
    call(&store, "payments", &[true; 5]).await;
    call(&store, "search", &[true; 5]).await;
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "All 2 circuits are closed", LONG).await;
    browser.js("window.same = true").await;

    trip(&store, "payments").await;
    let tripped = Instant::now();
    browser.until_text("h1", "1 of 2 circuits rejects calls", LONG).await;
    browser.until_text(".card[data-state=open] h3", "payments", LONG).await;
    let took = tripped.elapsed();
    println!("a trip shows after {took:?}");
    assert!(took <= ONE_SECOND, "{took:?}");

    browser.until_text(".card .why", "3 consecutive failures", LONG).await;
    browser.until_text(".card .word", "open", LONG).await;
    browser.until_text("#says", "payments is open", LONG).await;
    assert!(browser.client.title().await.unwrap().contains("reject"));
    // Calls that are rejected now are counted.
    call(&store, "payments", &[true; 7]).await;
    browser.until_text(".card .facts", "7 calls", LONG).await;
    assert_eq!(browser.js("return window.same").await, true);
    browser.check_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_says_so_and_comes_back() {
    let store = store();
    trip(&store, "payments").await;
    call(&store, "search", &[true]).await;
    let mut service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "1 of 2 circuits rejects calls", LONG).await;

    let stopped = Instant::now();
    service.stop();
    browser.until_text("h1", "No connection to the service", LONG).await;
    let took = stopped.elapsed();
    println!("a lost connection shows after {took:?}");
    assert!(took <= 3 * ONE_SECOND, "{took:?}");
    browser.until_text("#sub", "What follows is from", LONG).await;
    assert_eq!(browser.js("return document.body.className").await, "stale");
    // The clock of what is not known stands, and that of the lost connection runs.
    let clock = browser.text(".card .clock").await;
    browser.until_text("h1", "service for 2 s", LONG).await;
    assert_eq!(browser.text(".card .clock").await, clock);

    store.circuit("payments").reset();
    service.restart(&store);
    let took = browser.until_text("h1", "All 2 circuits are closed", LONG).await;
    println!("it comes back after {took:?}");
    assert_eq!(browser.js("return document.body.className").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_of_a_backend_come_and_go_in_the_list_and_in_their_detail() {
    let redis = Redis::start();
    let replica = redis.replica("orders-7c", policy()).await;
    let service = Service::of_backend(redis.backend().await);
    let browser = Browser::open(&service.circuit_url("payments")).await;
    browser.until_text("#detail .word", "closed", LONG).await;

    // What was opened by its address while it was closed is listed as soon as it opens.
    trip(&replica, "payments").await;
    browser.until_text("#detail .word", "open", LONG).await;
    browser.js("location.hash = ''").await;
    browser.until_text("#wrong .card h3", "payments", LONG).await;

    // Its detail goes on when it is listed no more.
    browser.click("#wrong .card h3 a").await;
    browser.until_text("#detail .word", "open", LONG).await;
    replica.circuit("payments").reset();
    browser.until_text("h1", "Every circuit is closed", LONG).await;
    browser.until_text("#detail .word", "closed", LONG).await;
    let reset = "document.querySelector('#detail button[aria-label^=Reset]')";
    browser.until("no button to reset it", LONG, &format!("!{reset}")).await;
    browser.check_clean().await;
}
