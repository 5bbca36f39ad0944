//! A client of the service, without sockets.

use std::convert::Infallible;
use std::fmt::Debug;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;
use tower_breaker::Store;
use tower_breaker::admin::{AdminService, Body, Operator};

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The text of a refusal.
    #[track_caller]
    pub(super) fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["error"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn send<B>(admin: &AdminService, request: Request<B>) -> Answer
where
    B: http_body::Body<Error: Debug, Data: Send> + Send + 'static,
{
    let (head, body) = admin.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

pub(super) async fn call(admin: &AdminService, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Full::<Bytes>::default());
    send(admin, request.unwrap()).await
}

pub(super) async fn get(admin: &AdminService, path: &str) -> Answer {
    call(admin, Method::GET, path).await
}

/// The JSON of a successful read.
pub(super) async fn read(admin: &AdminService, path: &str) -> Value {
    let answer = get(admin, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer.json()
}

/// A write as the page makes it.
pub(super) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "orders.internal:8080")
        .header("origin", "http://orders.internal:8080")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

pub(super) async fn write(admin: &AdminService, path: &str, body: &Value) -> Answer {
    send(admin, post(path, body.to_string())).await
}

/// A service on which Alice may write.
pub(super) fn alices(store: &Store) -> AdminService {
    AdminService::new(store.clone()).authorise(|_| async { Ok(Operator::new("alice")) })
}

/// A stream of events.
pub(super) struct Stream {
    body: Body,
    text: String,
}

/// An event, or a comment.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) data: Value,
}

impl Stream {
    pub(super) async fn open(admin: &AdminService) -> Self {
        Self::resume(admin, None).await
    }

    pub(super) async fn resume(admin: &AdminService, last: Option<&str>) -> Self {
        let mut request = Request::get("/events");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = admin.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next block of lines, or `None` at the end.
    pub(super) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame: Result<_, Infallible> = self.body.frame().await?;
            let data = frame.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next event. Its lines are exactly `event`, `id` and `data`.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if block.starts_with(": ") || block == "retry: 1000" {
                continue;
            }
            let lines: Vec<_> = block.split('\n').collect();
            let [event, id, data] = lines[..] else { panic!("{block:?}") };
            return Some(Event {
                kind: event.strip_prefix("event: ").unwrap().to_owned(),
                id: id.strip_prefix("id: ").unwrap().to_owned(),
                data: serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
            });
        }
    }

    /// Skips to the next event of a kind.
    pub(super) async fn next(&mut self, kind: &str) -> Event {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if event.kind == kind {
                return event;
            }
        }
    }

    /// Skips to the next description of a circuit.
    pub(super) async fn circuit(&mut self, name: &str) -> Value {
        loop {
            let circuits = self.next("circuits").await.data;
            let found = circuits.as_array().unwrap().iter().find(|circuit| circuit["name"] == name);
            if let Some(circuit) = found {
                return circuit.clone();
            }
        }
    }

    /// Reads to the end.
    pub(super) async fn end(&mut self) {
        while self.block().await.is_some() {}
    }
}
