//! How a policy is built.

use std::time::Duration;

use super::check::{MAX_COUNT_WINDOW, PolicyError, check};
use super::fraction::Numbers;
use super::settings::{Cancelled, DEFAULT_BUCKETS, DEFAULT_WINDOW, Policy};
use super::window::Window;

/// Builds a [`Policy`].
///
/// [`Policy::builder`], [`Policy::only`] and [`Policy::to_builder`] return one. The documentation
/// of each method names the default.
///
/// A circuit opens as soon as one of its conditions holds: consecutive failures, failure rate,
/// failure count or slow-call rate. The [transition](crate::event::Transition) says which.
///
/// Rates, multipliers and jitter are fractions: half of the calls is `0.5`.
///
/// # Conflicting settings
///
/// [`build`](Self::build) refuses two settings that you made with this builder and that contradict
/// each other. If a setting that you made contradicts one that the builder started from (the
/// default, or the policy of [`to_builder`](Policy::to_builder)), yours holds and the other is
/// adjusted:
///
/// | you set | adjusted |
/// | --- | --- |
/// | `open_for` longer than the cap | the cap rises to it |
/// | `backoff` with a cap below `open_for` | `open_for` falls to the cap |
/// | `no_window` | rates and the failure count are dropped |
/// | a rate or `failure_count` without a window | the window becomes the default one |
/// | `failure_count` above the count window | the count window grows to it |
/// | `count_window` below the failure count | the failure count is dropped |
/// | `without_slow_call_duration` | the slow-call rate is dropped |
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Policy;
///
/// let hour = Duration::from_secs(3600);
/// let patient = Policy::database().to_builder().open_for(hour).build()?;
/// assert_eq!(patient.longest_open_for(), hour);
/// # Ok::<(), tower_breaker::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PolicyBuilder {
    policy: Policy,
    numbers: Numbers,
    chosen: Chosen,
}

/// The settings that were made with this builder, of those that can be adjusted.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Chosen {
    failure_rate: bool,
    failure_count: bool,
    slow_call_rate: bool,
    no_slow_calls: bool,
    window: bool,
    open_for: bool,
    longest: bool,
}

impl PolicyBuilder {
    pub(super) fn new() -> Self {
        Self::from_policy(Policy::default())
    }

    pub(super) fn from_policy(policy: Policy) -> Self {
        let numbers = Numbers::of(&policy);
        Self { policy, numbers, chosen: Chosen::default() }
    }

    /// Opens the circuit after this many consecutive failures, counted over all callers. Default:
    /// 5.
    pub fn consecutive_failures(mut self, failures: u64) -> Self {
        self.policy.consecutive_failures = Some(failures);
        self
    }

    /// Turns off the condition on consecutive failures.
    pub fn without_consecutive_failures(mut self) -> Self {
        self.policy.consecutive_failures = None;
        self
    }

    /// Opens the circuit when at least this fraction of the calls in the window have failed and the
    /// window holds at least [`minimum_calls`](Self::minimum_calls). More than 0, at most 1.
    /// Default: 0.5.
    ///
    /// The fraction is rounded down to a millionth, but not below one millionth.
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.numbers.failure_rate = Some(rate);
        self.chosen.failure_rate = true;
        self
    }

    /// Turns off the condition on the number of failures.
    pub fn without_failure_count(mut self) -> Self {
        self.policy.failure_count = None;
        self
    }

    /// Turns off the condition on the slow-call rate.
    /// [`slow_call_duration`](Self::slow_call_duration) still decides which cancelled calls are
    /// failures.
    pub fn without_slow_call_rate(mut self) -> Self {
        self.numbers.slow_call_rate = None;
        self
    }

    /// Turns off the condition on the failure rate.
    pub fn without_failure_rate(mut self) -> Self {
        self.numbers.failure_rate = None;
        self.chosen.failure_rate = false;
        self
    }

    /// Opens the circuit when this many calls in the window have failed, however many succeeded.
    /// Default: off. A count window must hold at least as many calls.
    pub fn failure_count(mut self, failures: u64) -> Self {
        self.policy.failure_count = Some(failures);
        self.chosen.failure_count = true;
        self
    }

    /// Opens the circuit when at least this fraction of the calls in the window were slow, whether
    /// they failed or not, and the window holds at least [`minimum_calls`](Self::minimum_calls).
    /// More than 0, at most 1. Default: off. Needs
    /// [`slow_call_duration`](Self::slow_call_duration).
    ///
    /// A call that still runs counts as slow before it ends: at the latest when it has run for one
    /// and a half times the limit, if other calls arrive. So an upstream that never answers opens
    /// the circuit without any timeout.
    ///
    /// A probe that succeeds but is slow counts as failed
    /// ([`Reason::ProbeSlow`](crate::event::Reason::ProbeSlow)).
    pub fn slow_call_rate(mut self, rate: f64) -> Self {
        self.numbers.slow_call_rate = Some(rate);
        self.chosen.slow_call_rate = true;
        self
    }

    /// Sets the duration above which a call is slow. Default: no call is slow.
    ///
    /// The limit also decides which cancelled calls are failures: see [`Cancelled::FailureIfSlow`].
    ///
    /// # Cost
    ///
    /// Timing a call costs a second clock read. On Linux, a limit of 100 kernel ticks or more (0.1
    /// to 1 s, depending on the kernel) is measured with the kernel's coarse clock, with an error
    /// of at most 1 %. A shorter limit is measured exactly.
    pub fn slow_call_duration(mut self, limit: Duration) -> Self {
        self.policy.slow_call_duration = Some(limit);
        self.chosen.no_slow_calls = false;
        self
    }

    /// Removes the duration above which a call is slow, so that no call is.
    /// [`build`](Self::build) refuses it together with a slow-call rate that you set; one that the
    /// builder started from is dropped.
    pub fn without_slow_call_duration(mut self) -> Self {
        self.policy.slow_call_duration = None;
        self.chosen.no_slow_calls = true;
        self
    }

    /// Sets how many calls the window must hold before rates are judged. Default: 20. A count
    /// window that holds fewer is judged once it is full.
    ///
    /// The same number of consecutive calls that were cancelled or failed, the last of them
    /// cancelled, also opens the circuit, whatever its conditions: see
    /// [`cancelled`](Self::cancelled).
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.policy.minimum_calls = calls;
        self
    }

    /// Takes rates and counts over the last `length`. Default: 60 s, in 10 buckets.
    ///
    /// The oldest bucket is dropped as a whole, so the window covers between `length` minus one
    /// bucket and `length`: by default, the last 54 to 60 s. A result counts from the moment it
    /// arrives, not from the moment its call started.
    pub fn time_window(self, length: Duration) -> Self {
        let buckets = match self.policy.window {
            Window::Time { buckets, .. } => buckets,
            Window::Count { .. } | Window::None => DEFAULT_BUCKETS,
        };
        self.time_window_in_buckets(length, buckets)
    }

    /// Takes rates and counts over the last `length`, in `buckets` buckets: 1 to 3600.
    ///
    /// Otherwise like [`time_window`](Self::time_window). More buckets let the window slide more
    /// smoothly; each takes 24 bytes per circuit.
    pub fn time_window_in_buckets(self, length: Duration, buckets: u32) -> Self {
        self.window(Window::Time { length, buckets })
    }

    /// Takes rates and counts over the last `calls` results: 1 to 1,000,000, at two bits each. A
    /// result counts from the moment it arrives, however long its call took.
    pub fn count_window(self, calls: u64) -> Self {
        self.window(Window::Count { calls })
    }

    /// Keeps no window, so that only consecutive failures count.
    ///
    /// This is the cheapest policy: a success reads no clock and writes nothing.
    /// [`build`](Self::build) refuses it together with a rate or a failure count that you set;
    /// those that the builder started from are dropped.
    pub fn no_window(self) -> Self {
        self.window(Window::None)
    }

    fn window(mut self, window: Window) -> Self {
        self.policy.window = window;
        self.chosen.window = true;
        self
    }

    /// Sets how long the circuit stays open before it probes. Default: 30 s.
    ///
    /// [Jitter](Self::jitter) lengthens each interval by up to a tenth by default, and a probe that
    /// fails doubles the next one: see [`backoff`](Self::backoff).
    pub fn open_for(mut self, interval: Duration) -> Self {
        self.policy.open_for = interval;
        self.chosen.open_for = true;
        self
    }

    /// Sets how the open interval grows: each time a probe fails, the next interval is `multiplier`
    /// times as long, up to `longest`. When the circuit closes, the interval is
    /// [`open_for`](Self::open_for) again.
    ///
    /// Default: 2.0, up to 5 minutes, or up to `open_for` if that is longer. A multiplier of 1
    /// keeps the interval constant; [`build`](Self::build) refuses less than 1. It is rounded down
    /// to a millionth.
    ///
    /// `longest` also bounds an interval that the upstream asked for (`Retry-After`).
    /// [Jitter](Self::jitter) is added after the cap, so an interval may exceed `longest` by that
    /// fraction.
    pub fn backoff(self, multiplier: f64, longest: Duration) -> Self {
        self.multiplier(multiplier).longest(longest)
    }

    pub(super) fn multiplier(mut self, multiplier: f64) -> Self {
        self.numbers.multiplier = multiplier;
        self
    }

    pub(super) fn longest(mut self, longest: Duration) -> Self {
        self.policy.longest = longest;
        self.chosen.longest = true;
        self
    }

    /// Sets the largest random fraction by which each open interval is lengthened, so that circuits
    /// that opened together do not probe together. From 0 to 1. Default: 0.1.
    ///
    /// Jitter also lengthens intervals that the upstream asked for (`Retry-After`), and is added
    /// after the cap of [`backoff`](Self::backoff).
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.numbers.jitter = fraction;
        self
    }

    /// Sets how many probes may run at once while the circuit is half-open. Default: 3.
    ///
    /// This bounds the probes that run at the same time, not their total: when a probe ends, the
    /// next may start, until [enough](Self::successes_to_close) have succeeded or one has failed.
    pub fn probes(mut self, probes: u64) -> Self {
        self.policy.probes = probes;
        self
    }

    /// Sets how many consecutive probes must succeed before the circuit closes. Default: 2. It may
    /// be larger than [`probes`](Self::probes).
    pub fn successes_to_close(mut self, successes: u64) -> Self {
        self.policy.successes_to_close = successes;
        self
    }

    /// Sets how long a probe may take before it counts as failed, so that a probe that hangs cannot
    /// keep the circuit half-open. Default: 10 s. Choose at least the timeout of the call.
    ///
    /// The circuit opens again as of the end of the lease, when the next call or result arrives.
    /// Results that arrive after the lease do not count, not even successes.
    pub fn probe_lease(mut self, lease: Duration) -> Self {
        self.policy.probe_lease = lease;
        self
    }

    /// Sets how many replicas must have seen the failures before the whole cluster opens. Default:
    /// 1. It has no effect without a [backend](crate::StoreBuilder::backend).
    ///
    /// With 1, a replica whose own calls fail opens the circuit for all. This is the fastest
    /// protection, as long as calls fail because of the upstream.
    ///
    /// With 2 or more, a replica that fails for a local reason, for example a broken route, opens
    /// only its own circuit. That is one vote. The cluster opens when there are `replicas` votes,
    /// or when the evidence of all replicas still meets a condition without the `replicas - 1`
    /// replicas that contributed most to it. A vote lasts as long as the time window, or 60 s
    /// without one.
    pub fn quorum(mut self, replicas: u64) -> Self {
        self.policy.quorum = replicas;
        self
    }

    /// Sets what a cancelled call counts as. Default: [`Cancelled::FailureIfSlow`].
    ///
    /// Unless it is [`Cancelled::Ignored`], calls without an answer add up: when
    /// [`minimum_calls`](Self::minimum_calls) consecutive calls were cancelled or failed and the
    /// last of them was cancelled, the circuit opens
    /// ([`Reason::NoCompletions`](crate::event::Reason::NoCompletions)).
    pub fn cancelled(mut self, cancelled: Cancelled) -> Self {
        self.policy.cancelled = cancelled;
        self
    }

    /// Checks the settings and returns the policy.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy could not work. It names every setting that is wrong.
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        self.adjust();
        check(&self.policy, &self.numbers)?;
        self.numbers.put(&mut self.policy);
        Ok(self.policy)
    }

    /// Adjusts what the builder started from to what was set.
    fn adjust(&mut self) {
        let Self { policy, numbers, chosen } = self;
        if chosen.no_slow_calls && !chosen.slow_call_rate {
            numbers.slow_call_rate = None;
        }
        if policy.window == Window::None {
            let wanted = chosen.failure_rate || chosen.failure_count || chosen.slow_call_rate;
            if wanted && !chosen.window {
                policy.window = DEFAULT_WINDOW;
            } else {
                numbers.failure_rate = numbers.failure_rate.filter(|_| chosen.failure_rate);
                policy.failure_count = policy.failure_count.filter(|_| chosen.failure_count);
                numbers.slow_call_rate = numbers.slow_call_rate.filter(|_| chosen.slow_call_rate);
            }
        }
        if let (Window::Count { calls }, Some(failures)) = (policy.window, policy.failure_count)
            && failures > calls
        {
            if !chosen.failure_count {
                policy.failure_count = None;
            } else if !chosen.window && failures <= MAX_COUNT_WINDOW {
                policy.window = Window::Count { calls: failures };
            }
        }
        if !chosen.longest {
            policy.longest = policy.longest.max(policy.open_for);
        } else if !chosen.open_for && !policy.longest.is_zero() {
            policy.open_for = policy.open_for.min(policy.longest);
        }
    }

    /// Builds one of our presets. A test builds them all.
    pub(super) fn preset(self) -> Policy {
        self.build().unwrap_or_else(|error| unreachable!("{error}"))
    }
}
