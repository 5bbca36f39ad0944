//! Every refusal of a write.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::Full;
use serde_json::json;
use tower_breaker::admin::{AdminService, Operator};
use tower_breaker::{State, Store};

use super::client::{alices, post, send, write};
use crate::support::*;

const WRITES: [&str; 5] = [
    "/api/circuits/payments/override",
    "/api/circuits/payments/clear",
    "/api/circuits/payments/reset",
    "/api/circuits/payments/policy",
    "/api/reset",
];

const SET: &str = r#"{"state":"forced_closed","reason":"x"}"#;

/// A circuit that a write would change.
fn shop() -> Store {
    let store = store(fragile());
    store.circuit("payments").force_open("maintenance");
    store
}

async fn assert_refused(admin: &AdminService, request: Request<Full<Bytes>>, status: StatusCode) {
    let shown = format!("{request:?}");
    let answer = send(admin, request).await;
    assert_eq!(answer.status, status, "{shown}: {answer:?}");
    assert!(!answer.error().is_empty());
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn without_an_authoriser_nothing_is_written() {
    let store = shop();
    let admin = AdminService::new(store.clone());
    for path in WRITES {
        assert_refused(&admin, post(path, "{}"), StatusCode::FORBIDDEN).await;
    }
    assert_eq!(store.circuit("payments").state(), State::ForcedOpen);
}

#[tokio::test]
async fn a_page_of_another_origin_writes_nothing() {
    let store = shop();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let admin = AdminService::new(store.clone()).authorise(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(Operator::new("alice")) }
    });
    let wrong: [(&'static str, &'static str); 15] = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "orders.internal:8080"),
        ("origin", "http://orders.internal"),
        ("origin", "http://orders.internal:80800"),
        ("origin", "http://orders.internal:8080.evil.example"),
        ("origin", "http://evil.example/http://orders.internal:8080"),
        ("origin", "file://orders.internal:8080"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", ""),
        ("sec-fetch-site", "same-origin, cross-site"),
        ("host", ""),
        ("host", "other.internal:8080"),
    ];
    for path in WRITES {
        for (header, value) in wrong {
            let mut request = post(path, "{}");
            request.headers_mut().insert(header, value.parse().unwrap());
            assert_refused(&admin, request, StatusCode::FORBIDDEN).await;
        }
        for header in ["origin", "sec-fetch-site", "host"] {
            let mut request = post(path, "{}");
            request.headers_mut().append(header, "http://evil.example".parse().unwrap());
            assert_refused(&admin, request, StatusCode::FORBIDDEN).await;
        }
        let mut request = post(path, "{}");
        request.headers_mut().remove("host");
        assert_refused(&admin, request, StatusCode::FORBIDDEN).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "such requests do not reach the authoriser");
    assert_eq!(store.circuit("payments").state(), State::ForcedOpen);
}

#[tokio::test]
async fn the_own_origin_is_the_host_in_any_case_and_with_its_default_port() {
    let admin = alices(&shop());
    for (origin, host) in [
        ("https://orders.internal", "orders.internal"),
        ("https://orders.internal", "orders.internal:443"),
        ("http://orders.internal", "ORDERS.internal:80"),
        ("http://[::1]:8080", "[::1]:8080"),
    ] {
        let mut request = post("/api/circuits/payments/override", SET);
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(send(&admin, request).await.status, StatusCode::OK, "{origin} {host}");
    }
    // A program sends neither; HTTP/2 has the host in the URI.
    let mut request = post("/api/circuits/payments/override", SET);
    for header in ["origin", "sec-fetch-site", "host"] {
        request.headers_mut().remove(header);
    }
    assert_eq!(send(&admin, request).await.status, StatusCode::OK);
    let mut request = post("http://orders.internal:8080/api/circuits/payments/override", SET);
    request.headers_mut().remove("host");
    assert_eq!(send(&admin, request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_a_form_could_send_is_refused() {
    let store = shop();
    let admin = alices(&store);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonp",
        "text/plain; application/json",
    ] {
        let mut request = post("/api/circuits/payments/reset", "{}");
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_refused(&admin, request, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    }
    let mut request = post("/api/circuits/payments/reset", "{}");
    request.headers_mut().remove("content-type");
    assert_refused(&admin, request, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    assert_eq!(store.circuit("payments").state(), State::ForcedOpen);
    let mut request = post("/api/circuits/payments/reset", "{}");
    let kind = "Application/JSON; charset=utf-8";
    request.headers_mut().insert("content-type", kind.parse().unwrap());
    assert_eq!(send(&admin, request).await.status, StatusCode::OK);
}

/// A body of 10 MB in chunks, which counts what is read of it.
struct Large {
    chunks: usize,
    read: Arc<AtomicUsize>,
}

impl http_body::Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const CHUNK: &[u8] = &[b' '; 1 << 10];
        self.chunks -= 1;
        self.read.fetch_add(CHUNK.len(), Ordering::SeqCst);
        Poll::Ready((self.chunks > 0).then(|| Ok(Frame::data(Bytes::from_static(CHUNK)))))
    }
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_read_no_further_than_its_limit() {
    let store = shop();
    let admin = alices(&store);
    for path in WRITES {
        for (length, limit) in [(None, 17 << 10), (Some("10485760"), 0)] {
            let read = Arc::new(AtomicUsize::new(0));
            let body = Large { chunks: 10 << 10, read: read.clone() };
            let (mut head, _) = post(path, "").into_parts();
            if let Some(length) = length {
                head.headers.insert("content-length", length.parse().unwrap());
            }
            let answer = send(&admin, Request::from_parts(head, body)).await;
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(answer.error(), "the body is larger than 16384 bytes");
            assert!(read.load(Ordering::SeqCst) <= limit, "{read:?}");
        }
    }
    assert_eq!(store.circuit("payments").state(), State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let (sender, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = Slow(body);
    let (head, _) = post("/api/reset", "").into_parts();
    let answer = send(&alices(&shop()), Request::from_parts(head, body)).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    drop(sender);
}

struct Slow(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_each_problem_by_its_name() {
    let store = shop();
    let admin = alices(&store);
    let path = "/api/circuits/payments/override";
    let wrong = json!({ "state": "open", "reason": " ", "lasting_ms": -1, "actor": "mallory" });
    let answer = write(&admin, path, &wrong).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = answer.error();
    for problem in [
        "`actor`: unknown",
        "`state` is \"open\", expected forced_open, forced_closed, disabled or metrics_only",
        "`reason` is \" \", expected a text of 1 to 512 bytes",
        "`lasting_ms` is -1, expected whole milliseconds from 1 to",
    ] {
        assert!(error.contains(problem), "{error}");
    }
    let long = "x".repeat(513);
    for (body, problem) in [
        (json!({ "reason": "x" }), "`state` is missing"),
        (json!({ "state": "disabled" }), "`reason` is missing"),
        (json!({ "state": 7, "reason": "x" }), "`state` is 7"),
        (json!({ "state": "disabled", "reason": long }), "`reason` is \"xxx"),
        (json!({ "state": "disabled", "reason": "x", "lasting_ms": 0 }), "`lasting_ms` is 0"),
        (json!({ "state": "disabled", "reason": "x", "lasting_ms": 1e300 }), "`lasting_ms` is 1e"),
        (json!([]), "expected a JSON object"),
        (json!(null), "expected a JSON object"),
    ] {
        let answer = write(&admin, path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.error().contains(problem), "{body}: {answer:?}");
        assert!(answer.body.len() < 1_000, "{answer:?}");
    }
    for body in ["", "{", "[[[[", "\u{0}", &"[".repeat(10_000), r#"{"state":"disabled"}x"#] {
        assert_refused(&admin, post(path, body.to_owned()), StatusCode::BAD_REQUEST).await;
    }
    // What `/api/circuits/../reset` becomes where a path is normalised.
    for body in ["{}", "", "[]", r#"{"all":false}"#, r#"{"all":1}"#, r#"{"all":true,"x":1}"#] {
        let answer = send(&admin, post("/api/reset", body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let answer = write(&admin, "/api/reset", &json!({})).await;
    let text = "this path resets all circuits; its body must be {\"all\": true}";
    assert_eq!(answer.error(), text);
    for path in ["/api/circuits/payments/reset", "/api/circuits/payments/clear"] {
        assert_refused(&admin, post(path, r#"{"all":true}"#), StatusCode::BAD_REQUEST).await;
        assert_refused(&admin, post(path, ""), StatusCode::BAD_REQUEST).await;
    }
    assert_eq!(store.circuit("payments").state(), State::ForcedOpen);
}
