//! The validated settings of a circuit.

use std::time::Duration;

use super::window::Window;
use crate::outcome::Outcome;

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
/// [`build`](crate::policy::PolicyBuilder::build), with every problem named at once.
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
    pub(crate) consecutive_failures: Option<u64>,
    /// In parts per million, as are the other fractions.
    pub(crate) failure_rate: Option<u32>,
    pub(crate) failure_count: Option<u64>,
    pub(crate) slow_call_rate: Option<u32>,
    pub(crate) slow_call_duration: Option<Duration>,
    pub(crate) minimum_calls: u64,
    pub(crate) window: Window,
    pub(crate) open_for: Duration,
    pub(crate) multiplier: u64,
    pub(crate) longest: Duration,
    pub(crate) jitter: u32,
    pub(crate) probes: u64,
    pub(crate) successes_to_close: u64,
    pub(crate) probe_lease: Duration,
    pub(crate) cancelled: Cancelled,
    pub(crate) quorum: u64,
}

/// What a cancelled call counts as: one whose future was dropped before it ended, as by a timeout
/// outside the circuit breaker or by a client that went away.
///
/// A panic is not a cancellation; it is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// As a failure if it had run longer than the policy's
    /// [`slow_call_duration`](crate::policy::PolicyBuilder::slow_call_duration), as ignored otherwise, and always
    /// as ignored where none is set. The default: most callers that go away say nothing about the
    /// upstream, those that waited too long do.
    ///
    /// One call that is ignored so leaves no evidence, but many in a row do: see
    /// [`Reason::NoCompletions`](crate::event::Reason::NoCompletions).
    #[default]
    FailureIfSlow,
    /// As a failure. For a timeout outside the circuit breaker, where nothing else cancels calls.
    Failure,
    /// As nothing, however many there are in a row.
    Ignored,
}

impl Policy {
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
