//! The validated rules of a circuit.

mod builder;
mod preset;

use std::time::Duration;

pub use builder::{PolicyBuilder, PolicyError};

use super::transition::Reason;
use super::window::{Shape, Tally};
use crate::outcome::Outcome;
use crate::timestamp::nanos;

/// When a circuit opens, and how it closes again.
///
/// What the default says: a circuit opens after 5 failures in a row, or when half of at least 20
/// calls of the last 60 s have failed. It stays open for 30 s, and twice as long each time its
/// probes fail, up to 5 minutes. Then up to 3 calls at once are let through as probes; two good
/// ones in a row close it, and one bad one opens it again.
///
/// Start from the default or from the policy that is named after what you protect, and change what
/// you know better:
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Policy;
///
/// let policy = Policy::builder()
///     .consecutive_failures(10)
///     .failure_rate(30)
///     .time_window(Duration::from_secs(10))
///     .open_for(Duration::from_secs(5))
///     .build()?;
///
/// let tolerant = Policy::http_api().to_builder().minimum_calls(100).build()?;
/// # assert_ne!(policy, tolerant);
/// # Ok::<(), tower_breaker::PolicyError>(())
/// ```
///
/// A policy that is built can work: what cannot is refused by
/// [`build`](PolicyBuilder::build), with every problem named at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    consecutive_failures: Option<u64>,
    failure_rate: Option<u32>,
    failure_count: Option<u64>,
    slow_call_rate: Option<u32>,
    slow_call_duration: Option<Duration>,
    minimum_calls: u64,
    shape: Shape,
    open_for: Duration,
    backoff: u32,
    longest: Duration,
    jitter: u32,
    probes: u64,
    successes_to_close: u64,
    probe_lease: Duration,
    cancelled: Cancelled,
    quorum: u64,
}

/// The conditions, in the order in which they are looked at.
const CONDITIONS: [Reason; 4] =
    [Reason::ConsecutiveFailures, Reason::FailureRate, Reason::FailureCount, Reason::SlowCallRate];

/// Few enough to be early, enough to leave out most accidents. With 3, a cluster of 10 that calls
/// 10 000 times a second was open 2 to 4 ms after its upstream had failed (`benches/README.md`).
const ALARMING_STREAK: u64 = 3;

/// How much a replica has contributed to a condition.
fn weight(condition: Reason, share: Tally) -> u64 {
    match condition {
        Reason::ConsecutiveFailures => share.consecutive_failures,
        Reason::SlowCallRate => share.slow_calls,
        _ => share.failures,
    }
}

/// What a cancelled call counts as: one whose future was dropped before it ended, as by a timeout
/// outside the circuit breaker or by a client that went away.
///
/// A panic is not a cancellation; it is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// As a failure if it had run longer than the policy's
    /// [`slow_call_duration`](PolicyBuilder::slow_call_duration), as ignored otherwise, and always
    /// as ignored where none is set. The default: most callers that go away say nothing about the
    /// upstream, those that waited too long do.
    #[default]
    FailureIfSlow,
    /// As a failure. For a timeout outside the circuit breaker, where nothing else cancels calls.
    Failure,
    /// As nothing.
    Ignored,
}

impl Default for Policy {
    fn default() -> Self {
        builder::default_policy()
    }
}

impl Policy {
    /// A builder that starts from the default policy.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::new()
    }

    /// A builder that starts from this policy.
    pub fn to_builder(&self) -> PolicyBuilder {
        PolicyBuilder::from_policy(self.clone())
    }

    /// The first condition that the evidence meets.
    pub(crate) fn judge(&self, tally: Tally) -> Option<Reason> {
        CONDITIONS.into_iter().find(|&condition| self.meets(condition, tally))
    }

    /// The first condition that the evidence of a cluster meets; with a quorum, also without those
    /// replicas that contributed most to it.
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
        let enough = tally.calls >= self.minimum_calls;
        let reaches = |part: u64, percent: u32| {
            u128::from(part) * 100 >= u128::from(tally.calls) * u128::from(percent)
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

    /// Whether evidence like this is worth telling at once: a few failures in a row, or half of
    /// what would trip by count.
    pub(crate) fn is_alarming(&self, tally: Tally) -> bool {
        let streak = self.consecutive_failures.unwrap_or(u64::MAX).min(ALARMING_STREAK);
        tally.consecutive_failures >= streak
            || self.failure_count.is_some_and(|n| tally.failures.saturating_mul(2) >= n)
    }

    /// Whether one more success, not a slow one, could meet a condition. It can complete the
    /// minimum of calls, where there is something to hold against the upstream. And it can be the
    /// first result after good ones have left the window, with what remains meeting a condition.
    pub(super) fn success_can_trip(&self, tally: Tally) -> bool {
        let rated = self.failure_rate.is_some() || self.slow_call_rate.is_some();
        let completes =
            rated && tally.failures + tally.slow_calls > 0 && tally.calls < self.minimum_calls;
        completes || self.judge(tally).is_some()
    }

    /// How long a circuit stays open that has been reopened `reopenings` times in a row.
    ///
    /// Jitter lengthens and never shortens, by an even share of `draw` of `u64::MAX`. It comes
    /// after the cap, or all circuits at the cap would probe in step.
    pub(crate) fn open_interval(
        &self,
        reopenings: u32,
        hint: Option<Duration>,
        draw: u64,
    ) -> Duration {
        let longest = nanos(self.longest);
        let backoff = u64::from(self.backoff).saturating_pow(reopenings);
        let interval = nanos(self.open_for).saturating_mul(backoff).min(longest);
        let jitter = u128::from(interval) * u128::from(self.jitter) / 100;
        let drawn = u64::try_from((jitter * u128::from(draw)) >> 64).unwrap_or(u64::MAX);
        let hinted = hint.map_or(0, nanos).min(longest);
        Duration::from_nanos(interval.saturating_add(drawn).max(hinted))
    }

    /// What a call counts as that was dropped after it had run for `ran`.
    pub(crate) fn cancelled(&self, ran: Duration) -> Outcome {
        match self.cancelled {
            Cancelled::Failure => Outcome::failure(),
            Cancelled::FailureIfSlow if self.is_slow(ran) => Outcome::failure(),
            Cancelled::FailureIfSlow | Cancelled::Ignored => Outcome::Ignored,
        }
    }

    pub(crate) fn is_slow(&self, ran: Duration) -> bool {
        self.slow_call_duration.is_some_and(|limit| ran > limit)
    }

    pub(crate) fn slow_call_duration(&self) -> Option<Duration> {
        self.slow_call_duration
    }

    pub(crate) fn quorum(&self) -> u64 {
        self.quorum
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn probes(&self) -> u64 {
        self.probes
    }

    pub(crate) fn successes_to_close(&self) -> u64 {
        self.successes_to_close
    }

    pub(crate) fn probe_lease(&self) -> Duration {
        self.probe_lease
    }
}
