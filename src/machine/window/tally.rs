//! What a circuit has counted.

/// What a circuit has counted: the totals of its window, and its consecutive results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Tally {
    /// Calls in the window, plus running calls that are slow already. Zero under a policy without a
    /// window, and in states that keep no evidence.
    pub calls: u64,
    /// How many of these calls failed.
    pub failures: u64,
    /// How many of these calls were slow, the running ones included.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// Calls that were cancelled or failed since the last success. If the policy ignores cancelled
    /// calls, only failures.
    pub unanswered: u64,
}

impl Tally {
    /// Returns the fraction of the calls in the window that failed, from 0 to 1, or `None` if there
    /// are no calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        fraction(self.failures, self.calls)
    }

    /// Returns the fraction of the calls in the window that were slow, from 0 to 1, or `None` if
    /// there are no calls.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        fraction(self.slow_calls, self.calls)
    }

    /// Returns what is left of a total without one replica's share of it.
    pub(crate) fn without(self, share: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(share.calls),
            failures: self.failures.saturating_sub(share.failures),
            slow_calls: self.slow_calls.saturating_sub(share.slow_calls),
            consecutive_failures: self
                .consecutive_failures
                .saturating_sub(share.consecutive_failures),
            unanswered: self.unanswered.saturating_sub(share.unanswered),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people; the rules decide in integers")]
fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
