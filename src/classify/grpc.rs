//! The status of gRPC replies: in the headers ("trailers-only"), as most failures send it, or in
//! the trailers.

use std::time::Duration;

use ::http::{HeaderMap, HeaderName};

use crate::outcome::{FailureKind, Outcome};

// Parsed once, not at each call.
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

const UNKNOWN: u16 = 2;
const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const DATA_LOSS: u16 = 15;
const UNAUTHENTICATED: u16 = 16;

/// Returns what `grpc-status` means, if there is one. A malformed status is a failure, and so is
/// one that does not exist: clients read it as Unknown.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(&STATUS)?;
    let code = status.to_str().ok().and_then(|code| code.parse().ok());
    let failed = code.is_none_or(|code: u16| {
        let failures =
            [UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS];
        failures.contains(&code) || code > UNAUTHENTICATED
    });
    Some(if failed {
        Outcome::Failure { retry_after: pushback(headers) }
    } else {
        Outcome::Success
    })
}

/// Returns the kind of failure that `grpc-status` tells, if there is one.
pub(crate) fn kind(headers: &HeaderMap) -> Option<FailureKind> {
    let status = headers.get(&STATUS)?;
    Some(match status.to_str().ok().and_then(|code| code.parse().ok()) {
        Some(UNKNOWN) | None => FailureKind::GrpcUnknown,
        Some(DEADLINE_EXCEEDED) => FailureKind::GrpcDeadlineExceeded,
        Some(RESOURCE_EXHAUSTED) => FailureKind::GrpcResourceExhausted,
        Some(INTERNAL) => FailureKind::GrpcInternal,
        Some(UNAVAILABLE) => FailureKind::GrpcUnavailable,
        Some(DATA_LOSS) => FailureKind::GrpcDataLoss,
        Some(code) if code > UNAUTHENTICATED => FailureKind::GrpcUnknown,
        Some(_) => FailureKind::GrpcOther,
    })
}

/// Reads `grpc-retry-pushback-ms`. A negative value means "do not retry" and is no duration.
fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(&PUSHBACK)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}
