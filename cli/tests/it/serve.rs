//! The page and its API, served by the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{done, fails, json};
use crate::server::{PASSWORD, Server};

/// `tower-breaker serve`. Its drop ends it.
struct Serving {
    child: Child,
    /// The address and the port.
    host: String,
    token: Option<String>,
}

impl Serving {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tower-breaker"))
            .env_clear()
            .env("USER", "ada")
            .env("CIRCUIT_BREAKER_REDIS_URL", server.url())
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let printed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(printed["writes"], args.contains(&"--write"));
        let url = printed["url"].as_str().unwrap().strip_prefix("http://").unwrap();
        let (host, rest) = url.split_once('/').unwrap();
        let token = rest.strip_prefix("?token=").map(str::to_owned);
        Self { child, host: host.to_owned(), token }
    }

    /// The head and the body of the answer.
    fn asks(&self, line: &str, headers: &[&str], body: &str) -> (String, String) {
        let host = format!("host: {}", self.host);
        let own = if headers.iter().any(|header| header.starts_with("host:")) { "" } else { &host };
        let length = format!("content-length: {}", body.len());
        let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\n{length}\r\n");
        for header in headers.iter().chain([&own]).filter(|header| !header.is_empty()) {
            request.extend([*header, "\r\n"]);
        }
        request.extend(["\r\n", body]);
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(!answer.contains(PASSWORD), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[track_caller]
    fn is(&self, status: u16, line: &str, headers: &[&str], body: &str) -> (String, String) {
        let (head, answer) = self.asks(line, headers, body);
        let starts = head.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(starts, "{line} {headers:?}: {head}\n{answer}");
        (head, answer)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const OVERRIDE: &str = "POST /api/circuits/payments/override";
const OPEN: &str = r#"{"state": "forced_open", "reason": "their maintenance"}"#;
const JSON: &str = "content-type: application/json";

#[test]
fn the_page_shows_circuits_without_a_replica_and_is_for_reading() {
    let server = Server::start();
    done(&server.url(), &["open", "search", "--reason", "x"]);
    let serving = Serving::start(&server, &[]);
    let (head, page) = serving.is(200, "GET /", &[], "");
    assert!(head.contains("content-security-policy: ") && page.contains("<html"), "{head}");
    let (_, overview) = serving.is(200, "GET /api/overview", &[], "");
    assert!(overview.contains(r#""name":"search""#), "{overview}");
    assert!(overview.contains(r#""writable":false"#), "{overview}");
    serving.is(403, OVERRIDE, &[JSON], OPEN);
    // A page of another site, whose name was made to point here.
    let port = serving.host.rsplit(':').next().unwrap();
    for host in ["evil.example".to_owned(), format!("evil.example:{port}"), String::new()] {
        serving.is(421, "GET /api/overview", &[&format!("host: {host}")], "");
    }
    serving.is(200, "GET /api/overview", &[&format!("host: localhost:{port}")], "");
    assert!(serving.token.is_none());
}

#[test]
fn writes_need_the_token_that_was_printed() {
    let server = Server::start();
    let serving = Serving::start(&server, &["--write"]);
    let token = serving.token.clone().unwrap();
    let port = serving.host.rsplit(':').next().unwrap();

    serving.is(403, OVERRIDE, &[JSON], OPEN);
    serving.is(403, OVERRIDE, &[JSON, "authorization: Bearer x"], OPEN);
    serving.is(403, "GET /?token=x", &[], "");
    assert_eq!(done(&server.url(), &["list"]), "every circuit is closed\n");

    let (head, _) = serving.is(303, &format!("GET /?token={token}"), &[], "");
    let path = head.split_once("location: /").and_then(|(_, rest)| rest.split_once("/\r\n"));
    let path = path.expect(&head).0.to_owned();
    assert!(path.len() == 64 && path != token, "nobody guesses it: {head}");
    // Browsers send it to other ports too, but only at a path that nobody asks these for.
    let set = format!(
        "set-cookie: tower-breaker-{port}={token}; Path=/{path}/; HttpOnly; SameSite=Strict"
    );
    assert!(head.contains(&set), "{head}");
    let (_, page) = serving.is(200, &format!("GET /{path}/"), &[], "");
    assert!(page.contains("<html") && !page.contains(&path), "its URLs are relative");
    serving.is(200, &format!("GET /{path}/api/overview?x=1"), &[], "");
    serving.is(404, &format!("GET /{}/", "0".repeat(64)), &[], "");
    let at_path = |line: &str| line.replace("POST /", &format!("POST /{path}/"));
    serving.is(403, &at_path(OVERRIDE), &[JSON], OPEN);
    let cookie = format!("cookie: tower-breaker-{port}={token}");
    let other = [JSON, &cookie, "origin: http://evil.example"];
    serving.is(403, &at_path(OVERRIDE), &other, OPEN);
    serving.is(415, &at_path(OVERRIDE), &[&cookie, "content-type: text/plain"], OPEN);
    let (_, answer) = serving.is(200, &at_path(OVERRIDE), &[JSON, &cookie], OPEN);
    assert!(answer.contains(r#""acknowledged":true"#), "{answer}");
    let shown = &json(&server.url(), &["show", "payments"])[0];
    assert_eq!(
        (&shown["state"], &shown["override"]["actor"]),
        (&"forced_open".into(), &"ada".into())
    );
    let bearer = format!("authorization: Bearer {token}");
    let reset = "POST /api/circuits/payments/reset";
    for line in [reset.to_owned(), at_path(reset)] {
        serving.is(200, &line, &[JSON, &bearer], "{}");
    }
    assert_eq!(done(&server.url(), &["list"]), "every circuit is closed\n");
}

#[test]
fn a_server_that_anybody_reaches_is_for_reading() {
    let server = Server::start();
    let args = ["serve", "--write", "--listen", "0.0.0.0:0"];
    let (code, error) = fails(Some(&server.url()), &args);
    assert_eq!(code, 2);
    assert!(error.contains("--write needs a loopback address"), "{error}");
}

#[test]
fn a_signal_ends_the_server_though_events_are_read() {
    let server = Server::start();
    let mut serving = Serving::start(&server, &[]);
    let mut stream = TcpStream::connect(&serving.host).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", serving.host).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let kill = Command::new("kill").args(["-TERM", &serving.child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert!(serving.child.wait().unwrap().success());
}
