//! What a circuit has counted.

/// What a circuit has counted: the totals of its window, and its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Calls in the window, and calls still running that are slow already. Zero under a policy
    /// without a window, and in states without evidence.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow, the ones still running included.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// Calls since the last success that were cancelled or failed: calls in a row without an
    /// answer that is good. Where the policy ignores cancelled calls, only failures.
    pub unanswered: u64,
}

impl Tally {
    /// Returns the share of the calls in the window that failed, from 0 to 1; `None` while there
    /// are no calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        fraction(self.failures, self.calls)
    }

    /// Returns the share of the calls in the window that were slow, from 0 to 1; `None` while
    /// there are no calls.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        fraction(self.slow_calls, self.calls)
    }

    /// What is left of a total without one share of it.
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
