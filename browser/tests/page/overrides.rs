//! An operator acts on the page.

use std::time::Instant;

use tower_breaker::State;

use super::support::browser::Browser;
use super::support::circuits::{call, policy, store, trip};
use super::support::redis::Redis;
use super::support::service::Service;
use super::support::{LONG, ONE_SECOND, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_override_of_the_page_is_in_force_in_a_second_replica_within_a_second() {
    let redis = Redis::start();
    let first = redis.replica("orders-7c", policy()).await;
    let second = redis.replica("orders-2b", policy()).await;
    for store in [&first, &second] {
        call(store, "payments", &[true; 3]).await;
        until("a backend", LONG, || store.backend().is_connected()).await;
    }

    let service = Service::start(&first);
    let browser = Browser::open(&service.circuit_url("payments")).await;
    let both = "document.querySelectorAll('#replicas li').length == 2";
    browser.until("both replicas", LONG, both).await;
    browser.act("Force open", "payments").await;
    browser.until_text("#d-what", "It applies to all 2 replicas", LONG).await;
    browser.press("their maintenance").await;
    let other = second.circuit("payments");
    assert_eq!(other.state(), State::Closed);
    let clicked = Instant::now();
    browser.click("#d-yes").await;
    until("the override", LONG, || other.state() == State::ForcedOpen).await;
    let took = clicked.elapsed();
    println!("the override is in force in the second replica after {took:?}");
    assert!(took <= ONE_SECOND, "{took:?}");

    let seen = other.snapshot();
    assert_eq!(seen.override_reason.as_deref(), Some("their maintenance"));
    assert_eq!(seen.override_actor.as_deref(), Some("ada"));
    assert!(seen.override_remaining.is_some_and(|time| time.as_secs() > 1700), "30 min by default");
    browser.until("the dialog closes", LONG, "!document.querySelector('dialog').open").await;
    browser.until_text("#note", "payments is forced open; the backend acknowledged it", LONG).await;
    browser.until_text("#detail .why", "“their maintenance”", LONG).await;
    browser.until_text("#detail", "Forced open by ada, for 29 min", LONG).await;

    // It ends as it came.
    browser.act("Clear override", "payments").await;
    browser.click("#d-yes").await;
    until("its end", LONG, || other.state() == State::Closed).await;
    browser.until_text("#detail .word", "closed", LONG).await;
    browser.check_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_all_closes_every_circuit() {
    let store = store();
    trip(&store, "payments").await;
    trip(&store, "search").await;
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "2 of 2 circuits reject calls", LONG).await;
    browser.click("#reset-all").await;
    browser.until_text("#d-title", "Reset: 2 circuits", LONG).await;
    browser.click("#d-yes").await;
    browser.until_text("h1", "All 2 circuits are closed", LONG).await;
    assert_eq!(store.circuit("search").state(), State::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_shown_and_changes_nothing() {
    let store = store();
    trip(&store, "payments").await;
    let service = Service::refusing(&store, "guests may change nothing");
    let browser = Browser::open(&service.url()).await;
    browser.act("Reset", "payments").await;
    browser.click("#d-yes").await;
    browser.until_text("#d-error", "Refused (403): guests may change nothing", LONG).await;
    assert_eq!(browser.js("return document.querySelector('dialog').open").await, true);
    assert_eq!(store.circuit("payments").state(), State::Open);
    browser.click("#d-no").await;
    browser.until("the dialog closes", LONG, "!document.querySelector('dialog').open").await;
    browser.check_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_needs_a_reason_and_warns_if_it_has_no_end() {
    let store = store();
    trip(&store, "payments").await;
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.act("Disable", "payments").await;
    browser.click("#d-yes").await;
    browser.until_text("#d-error", "Give a reason", LONG).await;
    assert_eq!(browser.js("return document.activeElement.id").await, "reason");
    browser.press(&"é".repeat(257)).await;
    browser.click("#d-yes").await;
    browser.until_text("#d-error", "514 bytes; at most 512", LONG).await;
    assert_eq!(store.circuit("payments").state(), State::Open);

    let shown = "getComputedStyle(document.querySelector('#d-warn')).display != 'none'";
    assert_eq!(browser.js(&format!("return {shown}")).await, false);
    browser.click("input[name=for][value='']").await;
    browser.until("the warning", LONG, shown).await;
    browser.js("document.querySelector('#reason').value = 'a drill'").await;
    browser.click("#d-yes").await;
    until("the override", LONG, || store.circuit("payments").state() == State::Disabled).await;
    assert_eq!(store.circuit("payments").snapshot().override_remaining, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authoriser_there_are_no_buttons_and_the_page_says_why() {
    let store = store();
    trip(&store, "payments").await;
    let service = Service::read_only(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text(".card .acts", "Read-only: this service has no authoriser", LONG).await;
    assert_eq!(browser.js("return document.querySelectorAll('.card button').length").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_whose_name_no_url_can_hold_has_no_buttons_and_the_page_says_why() {
    let store = store();
    trip(&store, "..").await;
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text(".card .acts", "No URL can hold this name", LONG).await;
    browser.client.goto(&service.circuit_url("..")).await.unwrap();
    browser.until_text("#detail .acts", "use the program tower-breaker", LONG).await;
    assert_eq!(browser.js("return document.querySelectorAll('article button').length").await, 0);
    browser.check_clean().await;
}
