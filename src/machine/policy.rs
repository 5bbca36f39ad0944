//! The validated rules of a circuit.

mod builder;
mod check;
mod fraction;
mod preset;
mod read;

use std::time::Duration;

pub use builder::PolicyBuilder;
pub use check::PolicyError;

use super::transition::Reason;
use super::window::{Tally, Window};
use crate::outcome::Outcome;
use crate::timestamp::nanos;
use fraction::WHOLE;

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
///     .failure_rate(0.3)
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
///
/// A policy can be read, by methods named like those of its builder, and as a line for people:
///
/// ```
/// # use tower_breaker::Policy;
/// let policy = Policy::default();
/// assert_eq!(policy.failure_rate(), Some(0.5));
/// assert_eq!(
///     policy.to_string(),
///     "opens after 5 consecutive failures, or at a failure rate of 50 % of at least 20 calls in 60s; \
///      open for 30s, times 2 up to 300s, jitter 10 %; \
///      3 probes at once, 2 successes to close, probe lease 10s",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    consecutive_failures: Option<u64>,
    /// In parts per million, as are the other fractions.
    failure_rate: Option<u32>,
    failure_count: Option<u64>,
    slow_call_rate: Option<u32>,
    slow_call_duration: Option<Duration>,
    minimum_calls: u64,
    window: Window,
    open_for: Duration,
    multiplier: u64,
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
    ///
    /// One call that is ignored so leaves no evidence, but many in a row do: see
    /// [`Reason::NoCompletions`](crate::Reason::NoCompletions).
    #[default]
    FailureIfSlow,
    /// As a failure. For a timeout outside the circuit breaker, where nothing else cancels calls.
    Failure,
    /// As nothing, however many there are in a row.
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

    /// Returns a builder that starts without any condition: what opens the circuit is what you ask
    /// for, but for one rule. All other settings start as in the default policy.
    ///
    /// The rule: [`minimum_calls`](PolicyBuilder::minimum_calls) calls in a row that were cancelled
    /// or failed, the last of them cancelled, open the circuit
    /// ([`Reason::NoCompletions`](crate::Reason::NoCompletions)). `cancelled(Cancelled::Ignored)` switches
    /// it off.
    ///
    /// ```
    /// # use tower_breaker::Policy;
    /// let policy = Policy::only().failure_rate(0.3).build()?;
    /// assert_eq!(policy.consecutive_failures(), None);
    /// # Ok::<(), tower_breaker::PolicyError>(())
    /// ```
    pub fn only() -> PolicyBuilder {
        PolicyBuilder::new().without_consecutive_failures().without_failure_rate()
    }

    /// A builder that starts from this policy.
    ///
    /// What you then ask for holds; what contradicts it and comes from this policy gives way, as
    /// told at [`PolicyBuilder`].
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

    /// From how many calls on rates mean something. A window that holds fewer needs to be full.
    fn enough_calls(&self) -> u64 {
        match self.window {
            Window::Count { calls } => self.minimum_calls.min(calls),
            Window::Time { .. } | Window::None => self.minimum_calls,
        }
    }

    /// [`Reason::NoCompletions`], if so many calls in a row had no good answer. It is no condition
    /// like the others: only a cancelled call can meet it.
    pub(super) fn no_completions(&self, tally: Tally) -> Option<Reason> {
        let holds = tally.unanswered >= self.minimum_calls && !self.ignores_cancelled();
        holds.then_some(Reason::NoCompletions)
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
    ///
    /// Calls of the tally that are only `overdue` are judged on a tick, and need no success for it.
    pub(super) fn success_can_trip(&self, tally: Tally, overdue: u64) -> bool {
        let rated = self.failure_rate.is_some() || self.slow_call_rate.is_some();
        let against = tally.failures + tally.slow_calls.saturating_sub(overdue);
        let completes = rated && against > 0 && tally.calls < self.enough_calls();
        completes || self.judge(tally).is_some()
    }

    /// How long a circuit stays open that has been reopened `reopenings` times in a row: as the
    /// backoff or the hint says, whichever is longer, up to the cap.
    ///
    /// Jitter lengthens and never shortens, by an even share of `draw` of `u64::MAX`. It comes
    /// after the cap, or all circuits at the cap would probe in step.
    pub(crate) fn open_interval(
        &self,
        reopenings: u32,
        hint: Option<Duration>,
        draw: u64,
    ) -> Duration {
        let backoff = nanos(self.open_for);
        let backoff = scaled(backoff, power(self.multiplier, reopenings));
        self.jittered(backoff.max(hint.map_or(0, nanos)), draw)
    }

    /// How long a circuit stays open of which the upstream asked for that.
    pub(super) fn hinted_interval(&self, hint: Duration, draw: u64) -> Duration {
        self.jittered(nanos(hint), draw)
    }

    fn jittered(&self, interval: u64, draw: u64) -> Duration {
        let interval = interval.min(nanos(self.longest));
        let jitter = u128::from(interval) * u128::from(self.jitter) / u128::from(WHOLE);
        let drawn = u64::try_from((jitter * u128::from(draw)) >> 64).unwrap_or(u64::MAX);
        Duration::from_nanos(interval.saturating_add(drawn))
    }

    /// What a call counts as that was dropped after it had run for `ran`.
    pub(crate) fn cancelled_after(&self, ran: Duration) -> Outcome {
        match self.cancelled {
            Cancelled::Failure => Outcome::failure(),
            Cancelled::FailureIfSlow if self.is_slow(ran) => Outcome::failure(),
            Cancelled::FailureIfSlow | Cancelled::Ignored => Outcome::Ignored,
        }
    }

    pub(crate) fn ignores_cancelled(&self) -> bool {
        self.cancelled == Cancelled::Ignored
    }

    pub(crate) fn is_slow(&self, ran: Duration) -> bool {
        self.slow_call_duration.is_some_and(|limit| ran > limit)
    }

    /// Whether slow calls are held against the upstream.
    pub(crate) fn counts_slow_calls(&self) -> bool {
        self.slow_call_rate.is_some()
    }

    /// The duration past which a call that is still running is evidence already.
    pub(crate) fn watched_duration(&self) -> Option<Duration> {
        self.slow_call_duration.filter(|_| self.counts_slow_calls())
    }
}

/// How many binary places a [`power`] has.
const PLACES: u32 = 32;

/// A number of parts per million to the `n`, in binary fixed point. It saturates far beyond what
/// any interval can be multiplied with.
fn power(parts: u64, mut n: u32) -> u128 {
    let times = |a: u128, b: u128| a.saturating_mul(b) >> PLACES;
    let mut square = (u128::from(parts) << PLACES) / u128::from(WHOLE);
    let mut power = 1 << PLACES;
    while n > 0 {
        if n % 2 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        n /= 2;
    }
    power
}

fn scaled(nanos: u64, factor: u128) -> u64 {
    u64::try_from(u128::from(nanos).saturating_mul(factor) >> PLACES).unwrap_or(u64::MAX)
}
