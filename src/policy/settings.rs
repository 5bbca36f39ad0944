//! The validated settings of a circuit.

use std::time::Duration;

use super::window::Window;
use crate::outcome::Outcome;

/// The longest open interval if the builder sets no cap, unless `open_for` is longer.
const DEFAULT_LONGEST: Duration = Duration::from_secs(300);
pub(super) const DEFAULT_BUCKETS: u32 = 10;
pub(super) const DEFAULT_WINDOW: Window =
    Window::Time { length: Duration::from_secs(60), buckets: DEFAULT_BUCKETS };

/// When a circuit opens, and how it closes again.
///
/// By default:
///
/// - A circuit opens after 5 consecutive failures, or when at least half of the calls of the last
///   60 s have failed and there were at least 20 of them.
/// - It stays open for 30 s. Each time a probe fails, the next interval is twice as long, up to 5
///   minutes.
/// - It is then half-open and lets up to 3 calls at once through as probes. Two consecutive
///   successes close it; one failure opens it again.
///
/// Start from the default, or from the preset for what you protect ([`database`](Self::database),
/// [`cache`](Self::cache), [`http_api`](Self::http_api), [`authentication`](Self::authentication)),
/// and change what you know better:
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
/// [`build`](crate::policy::PolicyBuilder::build) refuses a policy that cannot work, and its error
/// names every problem at once. So every `Policy` value can work.
///
/// With the feature `serde`, a policy is data, with the names of
/// [`PolicySettings`](crate::policy::PolicySettings).
///
/// A policy can be read with methods named like those of its builder, and printed as one line:
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
    /// In parts per million, like the other fractions.
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

impl Default for Policy {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            failure_rate: Some(500_000),
            failure_count: None,
            slow_call_rate: None,
            slow_call_duration: None,
            minimum_calls: 20,
            window: DEFAULT_WINDOW,
            open_for: Duration::from_secs(30),
            multiplier: 2_000_000,
            longest: DEFAULT_LONGEST,
            jitter: 100_000,
            probes: 3,
            successes_to_close: 2,
            probe_lease: Duration::from_secs(10),
            cancelled: Cancelled::default(),
            quorum: 1,
        }
    }
}

/// What a cancelled call counts as.
///
/// A call is cancelled when its future is dropped before it completes: by a timeout outside the
/// circuit breaker, or because a client disconnected. A panic is not a cancellation; it counts as a
/// failure.
///
/// Set it with [`PolicyBuilder::cancelled`](crate::policy::PolicyBuilder::cancelled).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// A failure if the call ran longer than the policy's
    /// [`slow_call_duration`](crate::policy::PolicyBuilder::slow_call_duration); otherwise ignored.
    /// Without a `slow_call_duration`, every cancelled call is ignored. This is the default,
    /// because a client that disconnects early says nothing about the upstream, and a client that
    /// waited too long does.
    ///
    /// One ignored call leaves no evidence, but many in a row do: see
    /// [`Reason::NoCompletions`](crate::event::Reason::NoCompletions).
    #[default]
    FailureIfSlow,
    /// A failure. Choose this if only a timeout cancels calls.
    Failure,
    /// Nothing, however many calls in a row are cancelled.
    Ignored,
}

impl Policy {
    /// Returns what a call counts as that was cancelled after `ran`.
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

    /// Returns whether slow calls are evidence.
    pub(crate) fn counts_slow_calls(&self) -> bool {
        self.slow_call_rate.is_some()
    }

    /// Returns the duration after which a call that still runs is evidence already.
    pub(crate) fn watched_duration(&self) -> Option<Duration> {
        self.slow_call_duration.filter(|_| self.counts_slow_calls())
    }
}
