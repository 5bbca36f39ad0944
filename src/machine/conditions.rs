//! Which conditions of a policy the evidence meets.

use super::transition::Reason;
use super::window::Tally;
use crate::policy::{Policy, WHOLE, Window};

/// The conditions, in the order in which they are judged.
const CONDITIONS: [Reason; 4] =
    [Reason::ConsecutiveFailures, Reason::FailureRate, Reason::FailureCount, Reason::SlowCallRate];

/// Few enough to be early, enough to leave out most accidents. With 3, a cluster of 10 that makes
/// 10,000 calls a second was open 2 to 4 ms after its upstream failed (`benches/README.md`).
const ALARMING_STREAK: u64 = 3;

/// Returns how much a replica has contributed to a condition.
fn weight(condition: Reason, share: Tally) -> u64 {
    match condition {
        Reason::ConsecutiveFailures => share.consecutive_failures,
        Reason::SlowCallRate => share.slow_calls,
        _ => share.failures,
    }
}

impl Policy {
    /// Returns the first condition that the evidence meets.
    pub(crate) fn judge(&self, tally: Tally) -> Option<Reason> {
        CONDITIONS.into_iter().find(|&condition| self.meets(condition, tally))
    }

    /// Returns the first condition that the evidence of a cluster meets. With a quorum, it must
    /// also be met without the replicas that contributed most to it.
    pub(crate) fn judge_shared(&self, total: Tally, shares: &[Tally]) -> Option<Reason> {
        let others = usize::try_from(self.quorum - 1).unwrap_or(usize::MAX);
        let holds = |&condition: &Reason| {
            let mut shares = shares.to_vec();
            shares.sort_by_key(|share| std::cmp::Reverse(weight(condition, *share)));
            let most = shares.iter().take(others);
            self.meets(condition, most.fold(total, |rest, share| rest.without(*share)))
        };
        CONDITIONS.into_iter().find(holds)
    }

    fn meets(&self, condition: Reason, tally: Tally) -> bool {
        let enough = tally.calls >= self.enough_calls();
        let reaches = |part: u64, rate: u32| {
            u128::from(part) * u128::from(WHOLE) >= u128::from(tally.calls) * u128::from(rate)
        };
        match condition {
            Reason::ConsecutiveFailures => {
                self.consecutive_failures.is_some_and(|n| tally.consecutive_failures >= n)
            }
            Reason::FailureRate => {
                enough && self.failure_rate.is_some_and(|rate| reaches(tally.failures, rate))
            }
            Reason::FailureCount => self.failure_count.is_some_and(|n| tally.failures >= n),
            Reason::SlowCallRate => {
                enough && self.slow_call_rate.is_some_and(|rate| reaches(tally.slow_calls, rate))
            }
            _ => false,
        }
    }

    /// Returns from how many calls on rates are judged. A window that holds fewer must be full.
    pub(crate) fn enough_calls(&self) -> u64 {
        match self.window {
            Window::Count { calls } => self.minimum_calls.min(calls),
            Window::Time { .. } | Window::None => self.minimum_calls,
        }
    }

    /// Returns [`Reason::NoCompletions`] if too many consecutive calls had no good answer. It is no
    /// condition like the others: only a cancelled call can meet it.
    pub(super) fn no_completions(&self, tally: Tally) -> Option<Reason> {
        let holds = tally.unanswered >= self.minimum_calls && !self.ignores_cancelled();
        holds.then_some(Reason::NoCompletions)
    }

    /// Returns whether evidence like this must be reported at once: a few consecutive failures, or
    /// half of what would trip by count.
    pub(crate) fn is_alarming(&self, tally: Tally) -> bool {
        let streak = self.consecutive_failures.unwrap_or(u64::MAX).min(ALARMING_STREAK);
        tally.consecutive_failures >= streak
            || self.failure_count.is_some_and(|n| tally.failures.saturating_mul(2) >= n)
    }

    /// Returns whether one more success that is not slow could meet a condition. It can complete
    /// the minimum of calls, if some calls failed or were slow. And it can be the first result
    /// after good ones have left the window, where what remains meets a condition.
    ///
    /// Running calls of the tally that are only `overdue` are judged on a tick, and need no success
    /// for it.
    pub(super) fn success_can_trip(&self, tally: Tally, overdue: u64) -> bool {
        let rated = self.failure_rate.is_some() || self.slow_call_rate.is_some();
        let against = tally.failures + tally.slow_calls.saturating_sub(overdue);
        let completes = rated && against > 0 && tally.calls < self.enough_calls();
        completes || self.judge(tally).is_some()
    }
}
