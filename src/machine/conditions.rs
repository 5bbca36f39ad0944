//! Which conditions of a policy the evidence meets.

use super::reason::Reason;
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
        self.met(tally).next()
    }

    /// Returns all conditions that the evidence meets, in the order in which they are judged.
    pub(super) fn met(&self, tally: Tally) -> impl Iterator<Item = Reason> {
        CONDITIONS.into_iter().filter(move |&condition| self.meets(condition, tally))
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

    /// Returns whether the evidence meets a condition.
    pub(super) fn meets(&self, condition: Reason, tally: Tally) -> bool {
        self.meets_times(1, condition, tally)
    }

    /// Returns whether the evidence would meet a condition if all its numbers were so many times as
    /// large, but for the number of calls that a rate is taken of.
    fn meets_times(&self, times: u64, condition: Reason, tally: Tally) -> bool {
        let reaches = |part: u64, n: u64| part.saturating_mul(times) >= n;
        let enough = reaches(tally.calls, self.enough_calls());
        let rates = |part: u64, rate: u32| {
            let part = u128::from(part) * u128::from(times);
            enough && part * u128::from(WHOLE) >= u128::from(tally.calls) * u128::from(rate)
        };
        let Tally { failures, slow_calls, consecutive_failures, unanswered, .. } = tally;
        match condition {
            Reason::ConsecutiveFailures => {
                self.consecutive_failures.is_some_and(|n| reaches(consecutive_failures, n))
            }
            Reason::FailureRate => self.failure_rate.is_some_and(|rate| rates(failures, rate)),
            Reason::FailureCount => self.failure_count.is_some_and(|n| reaches(failures, n)),
            Reason::SlowCallRate => self.slow_call_rate.is_some_and(|rate| rates(slow_calls, rate)),
            // Not among `CONDITIONS`: only a cancelled call can meet it.
            Reason::NoCompletions => {
                !self.ignores_cancelled() && reaches(unanswered, self.minimum_calls)
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

    /// Returns [`Reason::NoCompletions`] if too many consecutive calls had no good answer.
    pub(super) fn no_completions(&self, tally: Tally) -> Option<Reason> {
        self.meets(Reason::NoCompletions, tally).then_some(Reason::NoCompletions)
    }

    /// Returns whether what replicas have reported on a quiet circuit makes it suspect: failures,
    /// or slow calls, reach half of the least number that could open it. So a single failure among
    /// many calls disturbs no replica.
    ///
    /// A streak counts like so many failures: without a window, there is no other number of them.
    pub(crate) fn suspects(&self, tally: Tally) -> bool {
        let of_minimum = |rate: u32| {
            let least = u128::from(self.enough_calls()) * u128::from(rate);
            u64::try_from(least.div_ceil(u128::from(WHOLE))).unwrap_or(u64::MAX)
        };
        let rate = self.failure_rate.map(of_minimum);
        let least = [self.consecutive_failures, self.failure_count, rate].into_iter().flatten();
        let failures = tally.failures.max(tally.consecutive_failures);
        let reaches_half = |part: u64, least: u64| part >= least.div_ceil(2).max(1);
        least.min().is_some_and(|least| reaches_half(failures, least))
            || self
                .slow_call_rate
                .is_some_and(|rate| reaches_half(tally.slow_calls, of_minimum(rate)))
    }

    /// Returns whether the evidence is at half of a condition or more: of the number of failures,
    /// or of a rate and of the calls that it is taken of. Then replicas report often.
    pub(crate) fn is_near(&self, tally: Tally) -> bool {
        CONDITIONS.into_iter().any(|condition| self.meets_times(2, condition, tally))
    }

    /// Returns whether evidence like this must be reported at once: a few consecutive failures, or
    /// half of what would trip by count.
    pub(crate) fn is_alarming(&self, tally: Tally) -> bool {
        let streak = self.consecutive_failures.unwrap_or(u64::MAX).min(ALARMING_STREAK);
        tally.consecutive_failures >= streak
            || self.failure_count.is_some_and(|n| tally.failures.saturating_mul(2) >= n)
    }

    /// Returns a lower bound of how many more failures open the circuit, while no evidence leaves
    /// the window.
    pub(crate) fn failures_to_trip(&self, tally: Tally) -> u64 {
        let to = |n: Option<u64>, now: u64| n.map(|n| n.saturating_sub(now));
        let rate = self.failure_rate.map(|rate| {
            let least = u128::from(tally.calls.max(self.enough_calls())) * u128::from(rate);
            let least = u64::try_from(least.div_ceil(u128::from(WHOLE))).unwrap_or(u64::MAX);
            let missing = self.enough_calls().saturating_sub(tally.calls);
            least.saturating_sub(tally.failures).max(missing)
        });
        let streak = to(self.consecutive_failures, tally.consecutive_failures);
        let count = to(self.failure_count, tally.failures);
        [streak, count, rate].into_iter().flatten().min().unwrap_or(u64::MAX)
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
