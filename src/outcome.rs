//! How a call ended, as its circuit counts it.

use std::fmt;
use std::time::Duration;

/// How a call ended, as its circuit counts it.
///
/// A [classifier](crate::Classify) returns one for a response or an error. Code that works with
/// [permits](crate::circuit::Permit) passes one to [`settle`](crate::circuit::Permit::settle).
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Outcome;
///
/// let plain = Outcome::failure();
/// let hinted = Outcome::failure_with_hint(Duration::from_secs(120));
/// assert_ne!(plain, hinted);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream works. A response that blames the caller (404, a row that does not exist) is a
    /// success in this sense.
    Success,
    /// The upstream does not work.
    Failure {
        /// How long the upstream asked for a pause, as in `Retry-After`. If this failure opens the
        /// circuit, it stays open at least that long, but no longer than the policy's [longest
        /// interval](crate::policy::PolicyBuilder::backoff).
        retry_after: Option<Duration>,
    },
    /// The call says nothing about the upstream. It leaves no evidence, and a probe frees its slot.
    Ignored,
}

impl Outcome {
    /// Returns a failure without a hint.
    #[must_use]
    pub const fn failure() -> Self {
        Self::Failure { retry_after: None }
    }

    /// Returns a failure whose sender asked for a pause of `retry_after`.
    #[must_use]
    pub const fn failure_with_hint(retry_after: Duration) -> Self {
        Self::Failure { retry_after: Some(retry_after) }
    }
}

/// What kind of failure a call ended with, as far as its [classifier](crate::Classify) knows.
///
/// It is for [totals](crate::stats::Totals) only: every failure is the same evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum FailureKind {
    /// A response that is a failure, of which no more is known.
    #[default]
    Other,
    /// An error instead of a response.
    Error,
    /// An error that says that time ran out: that of [`tokio::time::timeout`], or an
    /// [`io::Error`](std::io::Error) of kind `TimedOut`; in a `BoxError`, also as a source. Other
    /// errors of timeouts are an [`Error`](Self::Error), unless a classifier knows better.
    Timeout,
    /// The call panicked.
    Panic,
    /// The call was dropped before it ended, and the policy
    /// [counts that](crate::policy::PolicyBuilder::cancelled) as a failure.
    Cancelled,
    /// An HTTP status from 400 to 499: by default 408 and 429 alone are failures.
    Status4xx,
    /// An HTTP status from 500 to 599.
    Status5xx,
    /// The gRPC status Unknown, or none where there must be one.
    GrpcUnknown,
    /// The gRPC status `DeadlineExceeded`.
    GrpcDeadlineExceeded,
    /// The gRPC status `ResourceExhausted`.
    GrpcResourceExhausted,
    /// The gRPC status Internal.
    GrpcInternal,
    /// The gRPC status Unavailable.
    GrpcUnavailable,
    /// The gRPC status `DataLoss`.
    GrpcDataLoss,
    /// Any other gRPC status.
    GrpcOther,
}

impl FailureKind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Self; 14] = [
        Self::Other,
        Self::Error,
        Self::Timeout,
        Self::Panic,
        Self::Cancelled,
        Self::Status4xx,
        Self::Status5xx,
        Self::GrpcUnknown,
        Self::GrpcDeadlineExceeded,
        Self::GrpcResourceExhausted,
        Self::GrpcInternal,
        Self::GrpcUnavailable,
        Self::GrpcDataLoss,
        Self::GrpcOther,
    ];

    /// Returns the kind's name in metrics, in snake case: `status_5xx`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::Cancelled => "cancelled",
            Self::Status4xx => "status_4xx",
            Self::Status5xx => "status_5xx",
            Self::GrpcUnknown => "grpc_unknown",
            Self::GrpcDeadlineExceeded => "grpc_deadline_exceeded",
            Self::GrpcResourceExhausted => "grpc_resource_exhausted",
            Self::GrpcInternal => "grpc_internal",
            Self::GrpcUnavailable => "grpc_unavailable",
            Self::GrpcDataLoss => "grpc_data_loss",
            Self::GrpcOther => "grpc_other",
        }
    }
}

impl FailureKind {
    /// Returns the kind for people, where nothing more is known of a failure: `HTTP 5xx`.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Other => "failure",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::Cancelled => "cancelled",
            Self::Status4xx => "HTTP 4xx",
            Self::Status5xx => "HTTP 5xx",
            Self::GrpcUnknown => "gRPC Unknown",
            Self::GrpcDeadlineExceeded => "gRPC DeadlineExceeded",
            Self::GrpcResourceExhausted => "gRPC ResourceExhausted",
            Self::GrpcInternal => "gRPC Internal",
            Self::GrpcUnavailable => "gRPC Unavailable",
            Self::GrpcDataLoss => "gRPC DataLoss",
            Self::GrpcOther => "gRPC status",
        }
    }

    /// Returns the kind with this [name](Self::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(feature = "serde")]
crate::data::named!(FailureKind, "kind of failure");

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_in_the_order_of_their_numbers() {
        let numbers: Vec<_> = FailureKind::ALL.into_iter().map(|kind| kind as usize).collect();
        assert_eq!(numbers, (0..FailureKind::ALL.len()).collect::<Vec<_>>());
    }
}
