//! Responses.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::{Body, Events};
use super::wire::json;
use crate::backend::BackendError;

/// Returns a document.
pub(super) fn ok(document: &(impl Serialize + ?Sized)) -> Response<Body> {
    with(StatusCode::OK, document)
}

pub(super) fn with(status: StatusCode, document: &(impl Serialize + ?Sized)) -> Response<Body> {
    whole(status, HeaderValue::from_static("application/json"), json(document))
}

/// Why a request is refused. The text may contain what the client has sent: it becomes JSON, and no
/// header.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None }
    }

    /// The same, with one more header.
    pub(super) fn header(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// A body that says something wrong.
    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no circuit with this name")
    }

    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    pub(super) fn response(self) -> Response<Body> {
        let mut response = with(self.status, &serde_json::json!({ "error": self.text }));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The backend does not answer, or refuses.
impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        let status = if error.is_unavailable() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::BAD_GATEWAY
        };
        Self::new(status, error.to_string())
    }
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
