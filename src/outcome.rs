//! How a call ended, as a circuit sees it.

use std::time::Duration;

/// How a call ended, as its circuit sees it.
///
/// A [classifier](crate::Classify) makes one from a response or an error; a caller that works
/// with [permits](crate::circuit::Permit) gives one to [`settle`](crate::circuit::Permit::settle).
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
    /// The upstream did its work. An error that is the caller's own fault (a 404, a row that does
    /// not exist) is a success in this sense: the upstream is well.
    Success,
    /// The upstream is not well.
    Failure {
        /// How long the upstream asked to be left alone, as in `Retry-After`. If this failure opens
        /// the circuit, it stays open at least so long, bounded by the
        /// [longest interval](crate::policy::PolicyBuilder::backoff) of the policy.
        retry_after: Option<Duration>,
    },
    /// Says nothing about the upstream: it leaves no evidence, and a probe's place is free again.
    Ignored,
}

impl Outcome {
    /// A failure without a hint.
    #[must_use]
    pub const fn failure() -> Self {
        Self::Failure { retry_after: None }
    }

    /// A failure whose sender asked to be left alone for `retry_after`.
    #[must_use]
    pub const fn failure_with_hint(retry_after: Duration) -> Self {
        Self::Failure { retry_after: Some(retry_after) }
    }
}
