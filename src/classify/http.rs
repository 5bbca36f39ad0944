//! HTTP responses, judged by their status.

use std::fmt;
use std::time::Duration;

use ::http::{HeaderMap, Response, StatusCode, header};

use super::{Classify, grpc};
use crate::circuit::OpenCircuit;
use crate::outcome::Outcome;

/// Judges HTTP responses by their status; the default classifier.
///
/// | result | counts as |
/// | --- | --- |
/// | an error | failure |
/// | 5xx | failure, with `Retry-After` as its hint if there is one |
/// | 429 | failure, likewise |
/// | a gRPC reply with its status in the headers | failure if Unavailable, DeadlineExceeded, Internal, Unknown, DataLoss, ResourceExhausted, or none of gRPC's codes; with `grpc-retry-pushback-ms` as its hint |
/// | a rejection of another circuit breaker's [`respond`](crate::CircuitBreakerLayer::respond) | ignored: that circuit has counted it |
/// | everything else | success: the upstream is well, whatever it thinks of the request |
///
/// `Retry-After` may be seconds or a date; a date is taken against the `Date` of the same response,
/// so that clocks need not agree. What cannot be read, or has passed, is no hint.
///
/// A gRPC status in trailers comes after the response has been judged: see
/// [`observe_body`](crate::CircuitBreakerLayer::observe_body).
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpStatus;

impl HttpStatus {
    /// For a response that is not an `http::Response` and has a status.
    ///
    /// ```
    /// # mod reqwest {
    /// #     pub struct Response(pub http::StatusCode);
    /// #     impl Response { pub fn status(&self) -> http::StatusCode { self.0 } }
    /// # }
    /// use tower_breaker::{CircuitBreakerLayer, HttpStatus, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .classify(HttpStatus::of(reqwest::Response::status));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub const fn of<F, R>(status: F) -> HttpStatusOf<F>
    where
        F: Fn(&R) -> StatusCode,
    {
        HttpStatusOf(status)
    }
}

impl<B, E> Classify<Response<B>, E> for HttpStatus {
    #[inline]
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => {
                let headers = response.headers();
                if response.extensions().get::<OpenCircuit>().is_some() {
                    Outcome::Ignored
                } else if failed(response.status()) {
                    Outcome::Failure { retry_after: retry_after(headers) }
                } else {
                    grpc::outcome(headers).unwrap_or(Outcome::Success)
                }
            }
            Err(_) => Outcome::failure(),
        }
    }
}

/// Judges responses by a status: see [`HttpStatus::of`].
#[derive(Clone, Copy)]
pub struct HttpStatusOf<F>(F);

impl<F, R, E> Classify<R, E> for HttpStatusOf<F>
where
    F: Fn(&R) -> StatusCode,
{
    #[inline]
    fn classify(&self, result: Result<&R, &E>) -> Outcome {
        match result {
            Ok(response) if !failed((self.0)(response)) => Outcome::Success,
            _ => Outcome::failure(),
        }
    }
}

impl<F> fmt::Debug for HttpStatusOf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpStatusOf").field(&std::any::type_name::<F>()).finish()
    }
}

fn failed(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
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
