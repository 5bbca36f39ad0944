//! What comes from outside is text, whatever it says.

use tower_breaker::overrides::Override;

use super::support::LONG;
use super::support::browser::Browser;
use super::support::circuits::{call, store, trip};
use super::support::service::Service;

const SCRIPT: &str = "<script>alert('name')</script>";
const LINES: &str = "first\nsecond\ttab\u{1b}[31mred\u{202e}olleh";
const IMAGE: &str = "\"><img src=x onerror=alert(1)>";

#[tokio::test(flavor = "multi_thread")]
async fn names_reasons_and_actors_show_as_text_whatever_they_say() {
    let store = store();
    for name in [SCRIPT, LINES] {
        trip(&store, name).await;
    }
    call(&store, IMAGE, &[true]).await;
    let forced = Override::force_open(format!("{SCRIPT}\n\u{1b}[2J")).actor(format!("{IMAGE}\r\n"));
    store.circuit("forced").set_override(forced);
    let service = Service::start(&store);
    let browser = Browser::open(&service.url()).await;
    browser.until_text("h1", "3 of 4 circuits reject calls", LONG).await;

    let cards = browser.text("#wrong").await;
    assert!(cards.contains(SCRIPT), "{cards}");
    // What does not print shows as its code, and what turns the direction of text is one of them.
    assert!(cards.contains(r"first\nsecond\ttab\x1b[31mred\u{202e}olleh"), "{cards}");
    assert!(cards.contains(&format!(r"“{SCRIPT}\n\x1b[2J”")), "{cards}");
    assert!(cards.contains(&format!(r"Forced open by {IMAGE}\r\n")), "{cards}");
    assert!(browser.text("#rest").await.contains(IMAGE));
    assert_eq!(browser.js("return document.images.length").await, 0);
    assert_eq!(browser.js("return document.scripts.length").await, 1);

    // Each has a detail, a history and a dialog.
    for name in [SCRIPT, LINES, IMAGE] {
        let link =
            "const [name] = arguments; location.hash = 'circuit=' + encodeURIComponent(name)";
        browser.client.execute(link, vec![name.into()]).await.unwrap();
        let start = name.split(['\n', '"']).find(|part| !part.is_empty()).unwrap();
        browser.until_text("#detail h2", start, LONG).await;
        browser.until("a history", LONG, "document.querySelector('#detail .time li')").await;
        browser.click("#detail .acts button").await;
        browser.until_text("#d-title", start, LONG).await;
        browser.press(IMAGE).await;
        browser.click("#d-yes").await;
        browser.until("it closes", LONG, "!document.querySelector('dialog').open").await;
        browser.until_text("#detail .why", IMAGE, LONG).await;
    }
    assert_eq!(store.circuit(LINES).snapshot().override_reason.as_deref(), Some(IMAGE));
    browser.check_clean().await;
    let console = browser.console().await;
    assert!(console.is_empty(), "{console:?}");
}
