//! A thousand circuits.

use std::time::{Duration, Instant};

use super::support::LONG;
use super::support::browser::{Browser, Look};
use super::support::circuits::{call, store, trip};
use super::support::service::Service;

/// Renders of the page, in milliseconds: they are marked as `tower-breaker render`.
const MEASURE: &str = "
    window.renders = [];
    new PerformanceObserver(all => all.getEntries().forEach(e => window.renders.push(e.duration)))
        .observe({ type: 'measure' })";

/// A frame or two of a slow machine that does something else at the same time; the usual is 10 ms.
const RENDER: f64 = 200.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_circuits_stay_quick_with_what_is_not_closed_first() {
    let store = store();
    for n in 0..1000 {
        call(&store, &format!("tenant-{n:04}"), &[true]).await;
    }
    for n in [7, 500, 999] {
        trip(&store, &format!("tenant-{n:04}")).await;
    }
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    let start = Instant::now();
    browser.client.refresh().await.unwrap();
    browser.until_text("h1", "3 of 1,000 circuits reject calls", LONG).await;
    println!("1000 circuits show after {:?}, with the load of the page", start.elapsed());
    let cards = "return [...document.querySelectorAll('.card h3')].map(e => e.textContent)";
    assert_eq!(
        browser.js(cards).await,
        serde_json::json!(["tenant-0007", "tenant-0500", "tenant-0999"])
    );
    assert_eq!(browser.js("return document.querySelectorAll('.rows li').length").await, 997);
    browser.picture("thousand", Look::DESKTOP).await;

    // Every circuit changes.
    browser.js(MEASURE).await;
    for n in 0..1000 {
        call(&store, &format!("tenant-{n:04}"), &[true; 3]).await;
    }
    browser.until_text(".rows li:last-child", "tenant-0998", LONG).await;
    browser.until("renders", LONG, "window.renders.length > 5").await;

    // The search, by its key.
    browser.press("/").await;
    browser.press("042").await;
    let eleven = "document.querySelectorAll('.rows li').length == 11";
    browser.until("0042 and 0420 to 0429", LONG, eleven).await;
    let start = Instant::now();
    browser.press("1").await;
    let one = "document.querySelectorAll('.rows li, .card').length == 1";
    browser.until("one circuit", Duration::from_secs(1), one).await;
    println!("a search shows after {:?}", start.elapsed());
    browser.until_text(".rows li", "tenant-0421", LONG).await;
    browser.press("\u{e00c}").await; // Escape
    browser.until("all", LONG, "document.querySelectorAll('.rows li').length == 997").await;

    // The filter, and a trip while it is on.
    browser.click("#only").await;
    browser.until("no row", LONG, "!document.querySelector('.rows li')").await;
    trip(&store, "tenant-0123").await;
    let four = "document.querySelectorAll('.card').length == 4";
    browser.until("a fourth card", Duration::from_secs(2), four).await;

    let renders = browser.js("return window.renders").await;
    let renders: Vec<f64> =
        renders.as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect();
    let most = renders.iter().copied().fold(0.0, f64::max);
    println!("{} renders, the longest took {most} ms", renders.len());
    assert!(most < RENDER, "{renders:?}");
    browser.check_clean().await;
}
