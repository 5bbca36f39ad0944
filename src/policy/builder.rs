//! How a policy is made.

use std::time::Duration;

use super::check::{MAX_COUNT_WINDOW, PolicyError, check};
use super::fraction::Numbers;
use super::settings::{Cancelled, Policy};
use super::window::Window;

/// Where no cap is set: the longest open interval, unless the first one is longer.
const DEFAULT_LONGEST: Duration = Duration::from_secs(300);
const DEFAULT_BUCKETS: u32 = 10;
const DEFAULT_WINDOW: Window =
    Window::Time { length: Duration::from_secs(60), buckets: DEFAULT_BUCKETS };

/// Makes a [`Policy`].
///
/// Every setting has a default, given at its method. Conditions add up: the first that holds opens
/// the circuit, and the transition says which it was.
///
/// Rates, multipliers and jitter are fractions: half of the calls is `0.5`.
///
/// # What gives way
///
/// Some settings can contradict each other. [`build`](Self::build) refuses what this builder was
/// asked for and contradicts itself. What the builder merely started from, the defaults or the
/// policy of [`to_builder`](Policy::to_builder), gives way to what it was asked for:
///
/// | asked for | gives way |
/// | --- | --- |
/// | `open_for` longer than the cap | the cap rises to it |
/// | `backoff` with a cap below `open_for` | `open_for` comes down to it |
/// | `no_window` | rates and the failure count are dropped |
/// | a rate or `failure_count` without a window | the window becomes the default one |
/// | `failure_count` above the count window | the count window grows to it |
/// | `count_window` below the failure count | the failure count is dropped |
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
    asked: Asked,
}

/// Which settings this builder was asked for, of those that can give way.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Asked {
    failure_rate: bool,
    failure_count: bool,
    slow_call_rate: bool,
    window: bool,
    open_for: bool,
    longest: bool,
}

impl Default for Policy {
    fn default() -> Self {
        default_policy()
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
    /// ([`Reason::NoCompletions`](crate::event::Reason::NoCompletions)). `cancelled(Cancelled::Ignored)` switches
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
}

fn default_policy() -> Policy {
    Policy {
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

impl PolicyBuilder {
    pub(super) fn new() -> Self {
        Self::from_policy(default_policy())
    }

    pub(super) fn from_policy(policy: Policy) -> Self {
        let numbers = Numbers::of(&policy);
        Self { policy, numbers, asked: Asked::default() }
    }

    /// Trips after `failures` in a row, over all callers. Default: 5.
    pub fn consecutive_failures(mut self, failures: u64) -> Self {
        self.policy.consecutive_failures = Some(failures);
        self
    }

    /// Does not look at failures in a row.
    pub fn without_consecutive_failures(mut self) -> Self {
        self.policy.consecutive_failures = None;
        self
    }

    /// Trips when this fraction of the calls in the window or more have failed, once there are
    /// [`minimum_calls`](Self::minimum_calls) in it. More than 0, at most 1. Default: 0.5.
    ///
    /// The fraction is rounded down to a millionth, and is at least that.
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.numbers.failure_rate = Some(rate);
        self.asked.failure_rate = true;
        self
    }

    /// Does not look at the number of failures.
    pub fn without_failure_count(mut self) -> Self {
        self.policy.failure_count = None;
        self
    }

    /// Does not look at the rate of slow calls. What [`slow_call_duration`](Self::slow_call_duration) says
    /// of cancelled calls stays.
    pub fn without_slow_call_rate(mut self) -> Self {
        self.numbers.slow_call_rate = None;
        self
    }

    /// Does not look at the failure rate.
    pub fn without_failure_rate(mut self) -> Self {
        self.numbers.failure_rate = None;
        self.asked.failure_rate = false;
        self
    }

    /// Trips when `failures` calls in the window have failed, however many succeeded.
    /// Default: off. A count window must hold at least as many calls.
    pub fn failure_count(mut self, failures: u64) -> Self {
        self.policy.failure_count = Some(failures);
        self.asked.failure_count = true;
        self
    }

    /// Trips when this fraction of the calls in the window or more were slow, failed or not, once
    /// there are [`minimum_calls`](Self::minimum_calls) in it. More than 0, at most 1. Default:
    /// off. Needs [`slow_call_duration`](Self::slow_call_duration).
    ///
    /// A call that is still running past the limit counts as slow before it ends, at the latest when
    /// it has run one and a half times as long, if other calls come. So an upstream that never
    /// answers opens the circuit without any timeout. A probe that succeeds but is slow counts as failed
    /// ([`Reason::ProbeSlow`](crate::event::Reason::ProbeSlow)).
    pub fn slow_call_rate(mut self, rate: f64) -> Self {
        self.numbers.slow_call_rate = Some(rate);
        self.asked.slow_call_rate = true;
        self
    }

    /// A call that takes longer is slow. Default: none is.
    ///
    /// Costs a second clock read per call. On Linux a limit of a hundred ticks of the kernel or more
    /// (0.1 to 1 s) is measured by the ticks, so with an error of 1 % at most; a shorter one exactly. The
    /// limit also says which cancelled calls count as failures: see [`Cancelled::FailureIfSlow`].
    pub fn slow_call_duration(mut self, limit: Duration) -> Self {
        self.policy.slow_call_duration = Some(limit);
        self
    }

    /// Rates mean nothing before there are `calls` in the window. Default: 20. Where a count window
    /// holds fewer, rates mean something once it is full.
    ///
    /// As many calls in a row that were cancelled or failed, the last of them cancelled, open the circuit
    /// too, with any conditions and with none: see [`cancelled`](Self::cancelled).
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.policy.minimum_calls = calls;
        self
    }

    /// Takes rates and counts over the last `length`. Default: 60 s, in 10 buckets.
    ///
    /// The oldest bucket leaves as a whole, so the window covers between `length` less one bucket
    /// and `length`: with the default, the last 54 to 60 s. A result counts at the moment at which
    /// it arrives, not when its call began: a call that took longer than the window counts like
    /// one that took no time.
    pub fn time_window(self, length: Duration) -> Self {
        let buckets = match self.policy.window {
            Window::Time { buckets, .. } => buckets,
            Window::Count { .. } | Window::None => DEFAULT_BUCKETS,
        };
        self.time_window_in_buckets(length, buckets)
    }

    /// Like [`time_window`](Self::time_window), in `buckets` slices: 1 to 3600. A slice leaves the
    /// window as a whole, so more of them slide more smoothly; each takes 24 bytes a circuit.
    pub fn time_window_in_buckets(self, length: Duration, buckets: u32) -> Self {
        self.window(Window::Time { length, buckets })
    }

    /// Takes rates and counts over the last `calls` results, at most a million. They take two bits
    /// each. A result takes its place when it arrives, however long its call took.
    pub fn count_window(self, calls: u64) -> Self {
        self.window(Window::Count { calls })
    }

    /// Keeps no window: failures in a row are all that counts. The cheapest policy: a success costs
    /// no clock read and writes nothing. A rate or a failure count that this builder was asked for
    /// is then refused; one that it started from is dropped.
    pub fn no_window(self) -> Self {
        self.window(Window::None)
    }

    fn window(mut self, window: Window) -> Self {
        self.policy.window = window;
        self.asked.window = true;
        self
    }

    /// How long the circuit stays open before it probes. Default: 30 s.
    pub fn open_for(mut self, interval: Duration) -> Self {
        self.policy.open_for = interval;
        self.asked.open_for = true;
        self
    }

    /// Each time a probe opens the circuit again the interval is `multiplier` times as long, up to
    /// `longest`; closing starts anew. A hint (`Retry-After`) is bounded by `longest` too.
    /// Default: 2, and 5 minutes or `open_for`, whichever is longer. A multiplier of 1 keeps the
    /// interval as it is; less than 1 is refused. It is rounded down to a millionth.
    ///
    /// [Jitter](Self::jitter) is added after the cap, so a circuit can stay open for longer than
    /// `longest`, by the jitter's share of it.
    pub fn backoff(mut self, multiplier: f64, longest: Duration) -> Self {
        self.numbers.multiplier = multiplier;
        self.policy.longest = longest;
        self.asked.longest = true;
        self
    }

    /// Lengthens each open interval by a random share of up to this fraction of it, so that
    /// circuits that opened together do not probe together. From 0 to 1. Default: 0.1.
    ///
    /// Intervals that a hint (`Retry-After`) asked for are lengthened too: circuits that got the
    /// same hint do not probe together either. The share is added after the cap: an interval may
    /// exceed the longest one of [`backoff`](Self::backoff), by at most this fraction of it.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.numbers.jitter = fraction;
        self
    }

    /// How many probes may be under way at once while the circuit is half-open. Default: 3.
    ///
    /// It bounds how many there are at once, not how many there are in all: a probe that ends makes
    /// room for the next, until [enough](Self::successes_to_close) have succeeded or one has failed.
    pub fn probes(mut self, probes: u64) -> Self {
        self.policy.probes = probes;
        self
    }

    /// How many probes in a row must succeed before the circuit closes. Default: 2. It may be more
    /// than [`probes`](Self::probes): a probe that ends makes room for the next.
    pub fn successes_to_close(mut self, successes: u64) -> Self {
        self.policy.successes_to_close = successes;
        self
    }

    /// A probe that lasts longer counts as failed, so that one that hangs cannot keep the circuit
    /// half-open. Default: 10 s. Give it at least the timeout of the call.
    ///
    /// The circuit is then open as of the end of the lease, whenever the next call or result shows
    /// it: results that arrive after it, good ones included, no longer count.
    pub fn probe_lease(mut self, lease: Duration) -> Self {
        self.policy.probe_lease = lease;
        self
    }

    /// How many replicas must have seen the failures before the whole cluster opens. Default: 1.
    /// Without a backend it means nothing.
    ///
    /// With 1, a replica whose own calls fail opens the circuit for all: the fastest protection, as
    /// long as replicas fail for the upstream's reasons. With 2 or more, a replica that cannot reach
    /// the upstream for reasons of its own, a broken route say, opens only its own circuit; that is
    /// a vote, and the cluster opens when there are so many, or when what all have counted still
    /// trips without the ones (one less than the quorum) that counted most failures. A vote counts
    /// for as long as the time window, or 60 s where there is none.
    pub fn quorum(mut self, replicas: u64) -> Self {
        self.policy.quorum = replicas;
        self
    }

    /// What a cancelled call counts as. Default: [`Cancelled::FailureIfSlow`].
    ///
    /// Unless it is [`Cancelled::Ignored`], calls without an answer add up: when as many calls in
    /// a row as [`minimum_calls`](Self::minimum_calls) were cancelled or failed, and none succeeded
    /// in between, the circuit opens
    /// ([`Reason::NoCompletions`](crate::event::Reason::NoCompletions)).
    pub fn cancelled(mut self, cancelled: Cancelled) -> Self {
        self.policy.cancelled = cancelled;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The policy could not work. The error names every setting that is in the way.
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        self.give_way();
        check(&self.policy, &self.numbers)?;
        self.numbers.put(&mut self.policy);
        Ok(self.policy)
    }

    /// Lets what the builder started from give way to what it was asked for.
    fn give_way(&mut self) {
        let Self { policy, numbers, asked } = self;
        if policy.window == Window::None {
            let wanted = asked.failure_rate || asked.failure_count || asked.slow_call_rate;
            if wanted && !asked.window {
                policy.window = DEFAULT_WINDOW;
            } else {
                numbers.failure_rate = numbers.failure_rate.filter(|_| asked.failure_rate);
                policy.failure_count = policy.failure_count.filter(|_| asked.failure_count);
                numbers.slow_call_rate = numbers.slow_call_rate.filter(|_| asked.slow_call_rate);
            }
        }
        if let (Window::Count { calls }, Some(failures)) = (policy.window, policy.failure_count)
            && failures > calls
        {
            if !asked.failure_count {
                policy.failure_count = None;
            } else if !asked.window && failures <= MAX_COUNT_WINDOW {
                policy.window = Window::Count { calls: failures };
            }
        }
        if !asked.longest {
            policy.longest = policy.longest.max(policy.open_for);
        } else if !asked.open_for && !policy.longest.is_zero() {
            policy.open_for = policy.open_for.min(policy.longest);
        }
    }

    /// Builds a policy of our own, which `tests::presets_can_work` builds too.
    pub(super) fn preset(self) -> Policy {
        self.build().unwrap_or_else(|error| unreachable!("{error}"))
    }
}
