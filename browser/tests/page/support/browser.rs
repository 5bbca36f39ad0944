//! A headless Chromium, and what a person does with it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::{CHECK_EVERY, LONG, target};

/// One browser at a time: what the tests measure is not how many of them share a core.
static ONE: Mutex<()> = Mutex::const_new(());

/// Runs before any script of a page, and notes what must never happen.
const WATCH: &str = "
    window.ran = [];
    for (const name of ['alert', 'confirm', 'prompt', 'print'])
        window[name] = text => { window.ran.push(name + ': ' + text); };
    addEventListener('securitypolicyviolation', e =>
        window.ran.push('CSP: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));
    addEventListener('error', e => window.ran.push('error: ' + e.message));
    addEventListener('unhandledrejection', e => window.ran.push('rejection: ' + e.reason));
";

/// A browser with one page. Its drop ends it.
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// Dropped before the next test may start.
    _driver: Driver,
    _one: MutexGuard<'static, ()>,
}

/// How a person has set up the browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

impl Look {
    pub(crate) const DESKTOP: Self =
        Self { name: "desktop-light", width: 1280, height: 900, dark: false };
    pub(crate) const ALL: [Self; 4] = [
        Self::DESKTOP,
        Self { name: "desktop-dark", width: 1280, height: 900, dark: true },
        Self { name: "phone-light", width: 390, height: 844, dark: false },
        Self { name: "phone-dark", width: 390, height: 844, dark: true },
    ];
}

impl Browser {
    /// Starts a browser and opens an address.
    pub(crate) async fn open(url: &str) -> Self {
        let one = ONE.lock().await;
        let mut driver = Driver::start();
        let Value::Object(capabilities) = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                // Without --no-sandbox it does not run as root, for example in a container.
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--hide-scrollbars", "--force-color-profile=srgb", "--window-size=1280,900",
            ]},
        }) else {
            unreachable!()
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await
            .expect("a session; chromium and chromium-driver must have the same version");
        driver.session = client.session_id().await.unwrap();
        let browser = Self { client, _driver: driver, _one: one };
        let watch = json!({ "source": WATCH });
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", watch).await;
        browser.look(Look::DESKTOP).await;
        browser.client.goto(url).await.unwrap();
        browser
    }

    /// Runs a script and returns what it returns.
    pub(crate) async fn js(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// The text of the first element that matches, as it is in the document.
    pub(crate) async fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({})?.textContent", json!(css));
        self.js(&script).await.as_str().unwrap_or_default().replace('\u{a0}', " ")
    }

    /// Waits until an expression is true, and returns how long that took.
    pub(crate) async fn until(&self, what: &str, within: Duration, expression: &str) -> Duration {
        let (script, start) = (format!("return !!({expression})"), Instant::now());
        loop {
            let before = start.elapsed();
            if self.js(&script).await == true {
                return before;
            }
            if before > within {
                let text = self.text("main").await;
                panic!("waited {within:?} in vain: {what}\n{text}");
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Waits until the text of an element contains another.
    pub(crate) async fn until_text(&self, css: &str, text: &str, within: Duration) -> Duration {
        let expression = format!(
            "document.querySelector({})?.textContent.replaceAll('\\xa0', ' ').includes({})",
            json!(css),
            json!(text)
        );
        self.until(&format!("{css} says {text:?}"), within, &expression).await
    }

    pub(crate) async fn click(&self, css: &str) {
        let element = self.client.wait().at_most(LONG).for_element(Locator::Css(css)).await;
        element.unwrap_or_else(|e| panic!("{css}: {e}")).click().await.unwrap();
    }

    /// Clicks the button with this label in the card or the detail of a circuit.
    pub(crate) async fn act(&self, label: &str, circuit: &str) {
        self.click(&format!("button[aria-label={}]", json!(format!("{label}: {circuit}")))).await;
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let press = |keys: KeyActions, value| {
            keys.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        };
        let keys = keys.chars().fold(KeyActions::new("keys".to_owned()), press);
        self.client.perform_actions(keys).await.unwrap();
    }

    pub(crate) async fn look(&self, look: Look) {
        self.size(look, look.height).await;
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    async fn size(&self, look: Look, height: u32) {
        let size = json!({
            "width": look.width, "height": height, "deviceScaleFactor": 1, "mobile": look.width < 500,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Keeps a picture of the whole page in `target/screenshots`, up to four screens.
    pub(crate) async fn picture(&self, name: &str, look: Look) {
        let height = self.js("return document.documentElement.scrollHeight").await;
        let height = u32::try_from(height.as_u64().unwrap()).unwrap();
        self.size(look, height.clamp(look.height, 4 * look.height)).await;
        let painted = "const done = arguments[0]; \
            requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))";
        self.client.execute_async(painted, Vec::new()).await.unwrap();
        let folder = target().join("screenshots");
        fs::create_dir_all(&folder).unwrap();
        let png = self.client.screenshot().await.unwrap();
        fs::write(folder.join(format!("{name}-{}.png", look.name)), png).unwrap();
        self.size(look, look.height).await;
    }

    /// Checks the page as it is now with axe-core, and that it needs no scrolling sideways.
    pub(crate) async fn check_accessibility(&self, state: &str) {
        let file = target().join("axe-core/package/axe.min.js");
        let axe = fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; scripts/test-browser gets it", file.display())
        });
        self.js(&axe).await;
        let run = "const done = arguments[0]; \
            axe.run(document, { resultTypes: ['violations'] }).then(r => done(r.violations.map(v => \
                v.impact + ' ' + v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary))))";
        let found = self.client.execute_async(run, Vec::new()).await.unwrap();
        let found = found.as_array().unwrap();
        let serious = |v: &&Value| {
            let text = v.as_str().unwrap();
            text.starts_with("serious") || text.starts_with("critical")
        };
        let serious: Vec<_> = found.iter().filter(serious).collect();
        assert!(serious.is_empty(), "{state}: {serious:#?}");
        for minor in found {
            println!("{state}: {minor}");
        }
        let wide = "const e = document.documentElement; return e.scrollWidth - e.clientWidth";
        let wide = self.js(wide).await.as_i64().unwrap();
        assert!(wide <= 0, "{state}: scrolls sideways by {wide} px");
    }

    /// Nothing that came as text has run, no policy was violated, and no script failed.
    pub(crate) async fn check_clean(&self) {
        assert_eq!(self.js("return window.ran").await, json!([]));
        assert!(self.client.get_alert_text().await.is_err(), "a dialog of the browser is open");
    }

    /// What the browser has written to its console since the last time.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log = self.command("se/log", json!({ "type": "browser" })).await;
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        log.as_array().unwrap().iter().map(text).collect()
    }

    async fn devtools(&self, cmd: &str, params: Value) {
        self.command("goog/cdp/execute", json!({ "cmd": cmd, "params": params })).await;
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Vendor { path, body }).await.unwrap()
    }
}

/// A command that only chromedriver has.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

struct Driver {
    child: Child,
    port: u16,
    session: Option<String>,
}

impl Driver {
    fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver: on Debian, apt-get install chromium chromium-driver");
        // "ChromeDriver was started successfully on port 41467."
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver ends at once").unwrap();
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        // Reads on, so that it never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, port, session: None }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Driver {
    /// Ends the browser first: a killed driver would leave it running.
    fn drop(&mut self) {
        if let (Some(session), Ok(mut driver)) =
            (&self.session, TcpStream::connect(("127.0.0.1", self.port)))
        {
            let _ = driver.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(
                driver,
                "DELETE /session/{session} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
            );
            let _ = driver.read(&mut [0; 64]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
