//! Classifies HTTP responses by their status.

use std::fmt;
use std::time::Duration;

use ::http::{HeaderMap, Response, StatusCode, header};

use super::classifier::{Classify, error_kind, error_outcome, error_text};
use super::grpc;
use crate::circuit::Rejected;
use crate::outcome::{FailureKind, Outcome};

/// Classifies HTTP responses by their status. The default classifier.
///
/// | result | counts as |
/// | --- | --- |
/// | an error | failure, unless it is another circuit breaker's [rejection](Classify#rejections-of-other-circuit-breakers) |
/// | 5xx | failure, with `Retry-After` as its hint if there is one |
/// | 429 | failure, likewise |
/// | 408 | failure, likewise: the response of tower-http's `TimeoutLayer` inside the circuit breaker |
/// | a gRPC reply with its status in the headers | failure if Unavailable, DeadlineExceeded, Internal, Unknown, DataLoss, ResourceExhausted, or no code of gRPC; with `grpc-retry-pushback-ms` as its hint |
/// | a rejection of another circuit breaker's [`respond`](crate::CircuitBreakerLayer::respond) | ignored: that circuit has counted its cause |
/// | everything else | success: the upstream works, even if the request is wrong |
///
/// `Retry-After` may be a number of seconds or a date. A date is compared with the `Date` of the
/// same response, so that the clocks of two hosts need not agree. A value that cannot be read, or a
/// date in the past, is no hint.
///
/// A gRPC status in the trailers arrives after the head of the response was classified: see
/// [`observe_body`](crate::CircuitBreakerLayer::observe_body).
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpStatus;

impl HttpStatus {
    /// Returns a classifier for responses that have a status but are not an `http::Response`.
    ///
    /// If they have headers too, add [`with_headers`](HttpStatusOf::with_headers), or `Retry-After`
    /// has no effect.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, HttpStatus, Store};
    ///
    /// let status = HttpStatus::of(reqwest::Response::status);
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .classify(status.with_headers(reqwest::Response::headers));
    /// # fn is_service(_: impl tower::Service<reqwest::Request>) {}
    /// # is_service(tower::Layer::layer(&layer, reqwest::Client::new()));
    /// ```
    #[must_use]
    pub const fn of<F, R>(status: F) -> HttpStatusOf<F>
    where
        F: Fn(&R) -> StatusCode,
    {
        HttpStatusOf { status, headers: NoHeaders }
    }
}

impl<B, E: 'static> Classify<Response<B>, E> for HttpStatus {
    #[inline]
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) if response.extensions().get::<Rejected>().is_some() => Outcome::Ignored,
            Ok(response) => judge(response.status(), Some(response.headers())),
            Err(error) => error_outcome(error),
        }
    }

    fn failure_kind(&self, result: Result<&Response<B>, &E>) -> FailureKind {
        result.map_or_else(error_kind, |response| kind(response.status(), Some(response.headers())))
    }

    fn describe(&self, result: Result<&Response<B>, &E>) -> Option<String> {
        result.map_or_else(error_text, |response| describe(response.status()))
    }
}

/// Classifies responses of any type by their status, and optionally by their headers. Made by
/// [`HttpStatus::of`].
#[derive(Clone, Copy)]
pub struct HttpStatusOf<F, H = NoHeaders> {
    status: F,
    headers: H,
}

/// The second parameter of [`HttpStatusOf`] before a call of
/// [`with_headers`](HttpStatusOf::with_headers): no headers are read.
#[derive(Clone, Copy, Debug)]
pub struct NoHeaders;

impl<F> HttpStatusOf<F> {
    /// Returns a classifier that reads the headers too, with this function. `Retry-After` is then
    /// the hint of a failure, and a gRPC status counts, as for an `http::Response`.
    #[must_use]
    pub fn with_headers<H, R>(self, headers: H) -> HttpStatusOf<F, H>
    where
        F: Fn(&R) -> StatusCode,
        H: Fn(&R) -> &HeaderMap,
    {
        HttpStatusOf { status: self.status, headers }
    }
}

impl<F, R, E: 'static> Classify<R, E> for HttpStatusOf<F>
where
    F: Fn(&R) -> StatusCode,
{
    #[inline]
    fn classify(&self, result: Result<&R, &E>) -> Outcome {
        result.map_or_else(error_outcome, |response| judge((self.status)(response), None))
    }

    fn failure_kind(&self, result: Result<&R, &E>) -> FailureKind {
        result.map_or_else(error_kind, |response| kind((self.status)(response), None))
    }

    fn describe(&self, result: Result<&R, &E>) -> Option<String> {
        result.map_or_else(error_text, |response| describe((self.status)(response)))
    }
}

impl<F, H, R, E: 'static> Classify<R, E> for HttpStatusOf<F, H>
where
    F: Fn(&R) -> StatusCode,
    H: Fn(&R) -> &HeaderMap,
{
    #[inline]
    fn classify(&self, result: Result<&R, &E>) -> Outcome {
        result.map_or_else(error_outcome, |response| {
            judge((self.status)(response), Some((self.headers)(response)))
        })
    }

    fn failure_kind(&self, result: Result<&R, &E>) -> FailureKind {
        result.map_or_else(error_kind, |response| {
            kind((self.status)(response), Some((self.headers)(response)))
        })
    }

    fn describe(&self, result: Result<&R, &E>) -> Option<String> {
        result.map_or_else(error_text, |response| describe((self.status)(response)))
    }
}

impl<F, H> fmt::Debug for HttpStatusOf<F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpStatusOf").field(&std::any::type_name::<F>()).finish()
    }
}

#[inline]
fn judge(status: StatusCode, headers: Option<&HeaderMap>) -> Outcome {
    if failed(status) {
        Outcome::Failure { retry_after: headers.and_then(retry_after) }
    } else {
        headers.and_then(grpc::outcome).unwrap_or(Outcome::Success)
    }
}

/// Returns the kind of failure that a response is.
pub(super) fn kind(status: StatusCode, headers: Option<&HeaderMap>) -> FailureKind {
    match status {
        status if status.is_server_error() => FailureKind::Status5xx,
        status if status.is_client_error() => FailureKind::Status4xx,
        _ => headers.and_then(grpc::kind).unwrap_or_default(),
    }
}

/// Returns the status, if that is what failed: `503 Service Unavailable`. A gRPC status is known by
/// its kind.
pub(super) fn describe(status: StatusCode) -> Option<String> {
    if !status.is_server_error() && !status.is_client_error() {
        return None;
    }
    let reason = status.canonical_reason();
    Some(reason.map_or_else(
        || status.as_str().to_owned(),
        |reason| format!("{} {reason}", status.as_str()),
    ))
}

fn failed(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let (retry, sent) =
        (httpdate::parse_http_date(value).ok()?, httpdate::parse_http_date(date).ok()?);
    retry.duration_since(sent).ok()
}
