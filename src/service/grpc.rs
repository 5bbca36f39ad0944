//! gRPC: how a rejection is sent, and how a client recognises it.

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::circuit::Rejected;

/// The metadata key of the circuit's name in a gRPC reply to a rejected call.
pub const REJECTED_BY: HeaderName = HeaderName::from_static("tower-breaker-rejected-by");

/// Returns the name of the circuit that rejected a gRPC call; `None` if no circuit did: the server
/// answered, or the connection failed.
///
/// A circuit breaker that [responds](crate::CircuitBreakerLayer::respond) answers a gRPC call with
/// the code `Unavailable`. Servers answer with that code too. This function distinguishes the two,
/// from the headers of the response or from the metadata of tonic's `Status`.
///
/// The reply contains the name, with `?` for control characters. So if the server has a circuit
/// breaker of this crate too, compare the name with that of your circuit. If a public gRPC server
/// must not reveal which upstreams it depends on, remove the header in
/// [`respond_with`](crate::CircuitBreakerLayer::respond_with).
///
/// ```
/// use http::HeaderMap;
/// use tower_breaker::service::grpc;
///
/// fn explain(status: &tonic::Status) -> String {
///     match grpc::rejected_by(status.metadata().as_ref()) {
///         Some(circuit) => format!("not sent: the circuit {circuit} rejected the call"),
///         None => format!("the call failed: {}", status.message()),
///     }
/// }
///
/// assert_eq!(explain(&tonic::Status::unavailable("busy")), "the call failed: busy");
/// ```
#[must_use]
pub fn rejected_by(headers: &HeaderMap) -> Option<&str> {
    std::str::from_utf8(headers.get(REJECTED_BY)?.as_bytes()).ok()
}

/// Whether the content is gRPC, if there is any. gRPC-Web is not: its status is in the body.
pub(super) fn is_grpc(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let rest = kind.strip_prefix(b"application/grpc");
    Some(rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))))
}

/// Adds a rejection in gRPC's terms: a reply that is all trailers, which travel as headers.
pub(super) fn unavailable(rejected: &Rejected, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    headers.insert("grpc-message", HeaderValue::from_static("circuit open"));
    headers.extend(header_value(rejected.name().as_str()).map(|name| (REJECTED_BY, name)));
    if let Some(millis) = pushback(rejected) {
        headers.insert("grpc-retry-pushback-ms", millis.into());
    }
}

/// In milliseconds, where the circuit knows, and otherwise as HTTP has it.
fn pushback(rejected: &Rejected) -> Option<u64> {
    match rejected.retry_after() {
        Some(wait) => u64::try_from(wait.as_nanos().div_ceil(1_000_000)).ok(),
        None => rejected.retry_after_seconds().map(|seconds| seconds * 1_000),
    }
}

/// A name may hold what a header must not: control characters.
fn header_value(name: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(name)
        .or_else(|_| HeaderValue::from_bytes(name.replace(char::is_control, "?").as_bytes()))
        .ok()
}
