//! Without a mouse.

use fantoccini::key::Key;
use tower_breaker::State;

use super::support::browser::Browser;
use super::support::circuits::{call, store};
use super::support::service::Service;
use super::support::{LONG, until};

/// Presses Tab until an element has the focus.
async fn tab_to(browser: &Browser, css: &str) {
    let there = format!("return document.activeElement.matches({})", serde_json::json!(css));
    for _ in 0..40 {
        if browser.js(&there).await == true {
            return;
        }
        browser.press(&Key::Tab.to_string()).await;
    }
    panic!("Tab does not lead to {css}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_is_enough_to_find_a_circuit_and_override_it() {
    let store = store();
    for name in ["accounts", "billing", "payments", "search"] {
        call(&store, name, &[true; 3]).await;
    }
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "All 4 circuits are closed", LONG).await;

    browser.press("/").await;
    browser.press("pay").await;
    browser.until("one row", LONG, "document.querySelectorAll('.rows li').length == 1").await;
    tab_to(&browser, ".rows a").await;
    browser.press(&Key::Enter.to_string()).await;
    browser.until_text("#detail h2", "payments", LONG).await;
    let focus = "document.activeElement.matches('#detail h2')";
    browser.until("the focus on the heading", LONG, focus).await;

    tab_to(&browser, "button[aria-label='Metrics only: payments']").await;
    browser.press(&Key::Enter.to_string()).await;
    browser.until("the dialog", LONG, "document.querySelector('dialog').open").await;
    browser.press("we tune it").await;
    browser.press(&Key::Tab.to_string()).await;
    browser.press(&Key::Left.to_string()).await;
    let five = "document.querySelector('[name=for]:checked').value == '300000'";
    browser.until("5 min", LONG, five).await;
    tab_to(&browser, "#d-yes").await;
    browser.press(&Key::Enter.to_string()).await;
    let payments = store.circuit("payments");
    until("the override", LONG, || payments.state() == State::MetricsOnly).await;
    let remaining = payments.snapshot().override_remaining.unwrap();
    assert!((290..=300).contains(&remaining.as_secs()), "{remaining:?}");
    browser.until("the dialog closes", LONG, "!document.querySelector('dialog').open").await;

    // Escape closes a dialog first, and then leads back.
    tab_to(&browser, "button[aria-label='Clear override: payments']").await;
    browser.press(&Key::Enter.to_string()).await;
    browser.until("the dialog", LONG, "document.querySelector('dialog').open").await;
    browser.press(&Key::Escape.to_string()).await;
    browser.until("no dialog", LONG, "!document.querySelector('dialog').open").await;
    browser.until_text("#detail h2", "payments", LONG).await;
    browser.press(&Key::Escape.to_string()).await;
    browser.until("the list", LONG, "document.querySelector('#detail').hidden").await;
    browser.until("the focus", LONG, "document.activeElement != document.body").await;
    browser.check_clean().await;
}
