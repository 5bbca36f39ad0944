//! How a call ended, as its circuit counts it.

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
