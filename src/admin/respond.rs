//! Responses.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::{Body, Events};
use super::wire::json;

/// Returns a document.
pub(super) fn ok(document: &(impl Serialize + ?Sized)) -> Response<Body> {
    with(StatusCode::OK, document)
}

pub(super) fn with(status: StatusCode, document: &(impl Serialize + ?Sized)) -> Response<Body> {
    whole(status, HeaderValue::from_static("application/json"), json(document))
}

/// Returns a refusal. The text may contain what the client has sent: it is JSON, and in no header.
pub(super) fn refuse(status: StatusCode, text: &str) -> Response<Body> {
    with(status, &serde_json::json!({ "error": text }))
}

/// The same, with one more header.
pub(super) fn refuse_with(
    status: StatusCode,
    text: &str,
    name: HeaderName,
    value: &'static str,
) -> Response<Body> {
    let mut response = refuse(status, text);
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

pub(super) fn whole(status: StatusCode, kind: HeaderValue, bytes: Bytes) -> Response<Body> {
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(Body::whole(bytes));
    *response.status_mut() = status;
    headers(response.headers_mut(), kind);
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

pub(super) fn events(events: Option<Events>) -> Response<Body> {
    let body = events.map_or_else(|| Body::whole(Bytes::new()), Body::events);
    let mut response = Response::new(body);
    headers(response.headers_mut(), HeaderValue::from_static("text/event-stream"));
    // nginx would collect events until its buffer is full.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn headers(headers: &mut HeaderMap, kind: HeaderValue) {
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Pages of other origins can embed nothing of it.
    let own = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", own);
}

/// Returns the response to HEAD: that of GET, without its body.
pub(super) fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| Body::whole(Bytes::new()))
}
