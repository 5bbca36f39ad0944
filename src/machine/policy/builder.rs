//! How a policy is made, and what is refused.

use std::fmt;
use std::time::Duration;

use super::{Cancelled, Policy};
use crate::machine::window::Shape;

/// The most results a count window may hold: a million, at two bits each.
const MAX_COUNT_WINDOW: u64 = 1_000_000;
/// The most buckets a time window may have: a second each for an hour.
const MAX_BUCKETS: u32 = 3_600;
/// Where no cap is set: the longest open interval, unless the first one is longer.
const DEFAULT_LONGEST: Duration = Duration::from_secs(300);

/// Makes a [`Policy`].
///
/// Every setting has a default, given at its method. Conditions add up: the first that holds opens
/// the circuit, and the transition says which it was.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PolicyBuilder {
    policy: Policy,
    /// Nobody asked for the failure rate, so `no_window` may drop it.
    default_rate: bool,
    /// Nobody asked for the cap, so a long `open_for` may raise it.
    default_longest: bool,
}

pub(super) fn default_policy() -> Policy {
    Policy {
        consecutive_failures: Some(5),
        failure_rate: Some(50),
        failure_count: None,
        slow_call_rate: None,
        slow_call_duration: None,
        minimum_calls: 20,
        shape: Shape::Time { length: Duration::from_secs(60), buckets: 10 },
        open_for: Duration::from_secs(30),
        backoff: 2,
        longest: DEFAULT_LONGEST,
        jitter: 10,
        probes: 3,
        successes_to_close: 2,
        probe_lease: Duration::from_secs(10),
        cancelled: Cancelled::default(),
        quorum: 1,
    }
}

impl PolicyBuilder {
    pub(super) fn new() -> Self {
        Self { policy: default_policy(), default_rate: true, default_longest: true }
    }

    pub(super) fn from_policy(policy: Policy) -> Self {
        Self { policy, default_rate: false, default_longest: false }
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

    /// Trips when `percent` of the calls in the window or more have failed, once there are
    /// [`minimum_calls`](Self::minimum_calls) in it. From 1 to 100. Default: 50.
    pub fn failure_rate(mut self, percent: u32) -> Self {
        self.policy.failure_rate = Some(percent);
        self.default_rate = false;
        self
    }

    /// Does not look at the failure rate.
    pub fn without_failure_rate(mut self) -> Self {
        self.policy.failure_rate = None;
        self
    }

    /// Trips when `failures` calls in the window have failed, however many succeeded.
    /// Default: off.
    pub fn failure_count(mut self, failures: u64) -> Self {
        self.policy.failure_count = Some(failures);
        self
    }

    /// Trips when `percent` of the calls in the window or more were slow, failed or not, once
    /// there are [`minimum_calls`](Self::minimum_calls) in it. From 1 to 100. Default: off. Needs
    /// [`slow_call_duration`](Self::slow_call_duration).
    pub fn slow_call_rate(mut self, percent: u32) -> Self {
        self.policy.slow_call_rate = Some(percent);
        self
    }

    /// A call that takes longer is slow. Default: none is.
    ///
    /// Costs a second clock read per call. It also tells which cancelled calls count as failures:
    /// see [`Cancelled::FailureIfSlow`].
    pub fn slow_call_duration(mut self, limit: Duration) -> Self {
        self.policy.slow_call_duration = Some(limit);
        self
    }

    /// Rates mean nothing before there are `calls` in the window. Default: 20. More than a count
    /// window holds is cut down to what it holds.
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.policy.minimum_calls = calls;
        self
    }

    /// Rates and counts are taken over the last `length`. Default: 60 s, in 10 buckets.
    pub fn time_window(mut self, length: Duration) -> Self {
        let buckets = match self.policy.shape {
            Shape::Time { buckets, .. } => buckets,
            Shape::Count { .. } | Shape::None => 10,
        };
        self.policy.shape = Shape::Time { length, buckets };
        self
    }

    /// Like [`time_window`](Self::time_window), in `buckets` slices: 1 to 3600. A slice leaves the
    /// window as a whole, so more of them slide more smoothly; each takes 24 bytes a circuit.
    pub fn time_window_in_buckets(mut self, length: Duration, buckets: u32) -> Self {
        self.policy.shape = Shape::Time { length, buckets };
        self
    }

    /// Rates and counts are taken over the last `calls` results, at most a million. They take two
    /// bits each.
    pub fn count_window(mut self, calls: u64) -> Self {
        self.policy.shape = Shape::Count { calls };
        self
    }

    /// No window: failures in a row are all that counts. The cheapest policy: a success costs no
    /// clock read and writes nothing. A failure rate or count that was asked for is then refused.
    pub fn no_window(mut self) -> Self {
        self.policy.shape = Shape::None;
        self
    }

    /// How long the circuit stays open before it probes. Default: 30 s.
    pub fn open_for(mut self, interval: Duration) -> Self {
        self.policy.open_for = interval;
        self
    }

    /// Each time a probe opens the circuit again the interval is `multiplier` times as long, up to
    /// `longest`; closing starts anew. A hint (`Retry-After`) is bounded by `longest` too.
    /// Default: 2, and 5 minutes or `open_for`, whichever is longer. A multiplier of 1 keeps the
    /// interval as it is.
    pub fn backoff(mut self, multiplier: u32, longest: Duration) -> Self {
        self.policy.backoff = multiplier;
        self.policy.longest = longest;
        self.default_longest = false;
        self
    }

    /// Each open interval is longer by a random share of `percent` of it, so that circuits that
    /// opened together do not probe together. From 0 to 100. Default: 10.
    pub fn jitter(mut self, percent: u32) -> Self {
        self.policy.jitter = percent;
        self
    }

    /// How many probes may be out at once while the circuit is half-open. Default: 3.
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
    pub fn cancelled(mut self, cancelled: Cancelled) -> Self {
        self.policy.cancelled = cancelled;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The policy could not work. The error names every setting that is in the way.
    pub fn build(self) -> Result<Policy, PolicyError> {
        let mut policy = self.policy;
        if self.default_rate && policy.shape == Shape::None {
            policy.failure_rate = None;
        }
        if self.default_longest {
            policy.longest = DEFAULT_LONGEST.max(policy.open_for);
        }
        let problems = problems(&policy);
        if !problems.is_empty() {
            return Err(PolicyError { problems });
        }
        if let Shape::Count { calls } = policy.shape {
            policy.minimum_calls = policy.minimum_calls.min(calls);
        }
        Ok(policy)
    }

    /// Builds a policy of our own, which `tests::presets_can_work` builds too.
    pub(super) fn preset(self) -> Policy {
        self.build().unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// A policy that cannot work: every reason why.
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Policy;
///
/// let error = Policy::builder()
///     .failure_rate(150)
///     .open_for(Duration::ZERO)
///     .build()
///     .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the policy cannot work: `failure_rate` is 150 %, expected 1 to 100; \
///      `open_for` is 0ns, expected more than zero",
/// );
/// assert_eq!(error.problems().len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot work: {}", .problems.join("; "))]
pub struct PolicyError {
    problems: Vec<String>,
}

impl PolicyError {
    /// One sentence per setting, each with its name, its value and what was expected.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

fn problems(policy: &Policy) -> Vec<String> {
    let mut checks = Checks::default();
    checks.count("consecutive_failures", policy.consecutive_failures);
    checks.percent("failure_rate", policy.failure_rate);
    checks.count("failure_count", policy.failure_count);
    checks.percent("slow_call_rate", policy.slow_call_rate);
    checks.duration("slow_call_duration", policy.slow_call_duration);
    checks.count("minimum_calls", Some(policy.minimum_calls));
    match policy.shape {
        Shape::Count { calls } => {
            let fits = (1..=MAX_COUNT_WINDOW).contains(&calls);
            checks.that(fits, "count_window", calls, "1 to 1000000");
        }
        Shape::Time { length, buckets } => {
            checks.duration("time_window", Some(length));
            let fits = (1..=MAX_BUCKETS).contains(&buckets);
            checks.that(fits, "buckets of time_window", buckets, "1 to 3600");
        }
        Shape::None => {
            let set = [
                ("failure_rate", policy.failure_rate.is_some()),
                ("failure_count", policy.failure_count.is_some()),
                ("slow_call_rate", policy.slow_call_rate.is_some()),
            ];
            for (setting, set) in set {
                checks.that(!set, setting, "set", "a time_window or count_window with it");
            }
        }
    }
    checks.duration("open_for", Some(policy.open_for));
    checks.that(policy.backoff >= 1, "multiplier of backoff", policy.backoff, "1 or more");
    let capped = format!("at least open_for ({:?})", policy.open_for);
    let longest = format!("{:?}", policy.longest);
    checks.that(policy.longest >= policy.open_for, "longest of backoff", longest, &capped);
    checks.that(policy.jitter <= 100, "jitter", Percent(policy.jitter), "0 to 100");
    checks.count("probes", Some(policy.probes));
    checks.count("successes_to_close", Some(policy.successes_to_close));
    checks.duration("probe_lease", Some(policy.probe_lease));
    checks.count("quorum", Some(policy.quorum));
    let timed = policy.slow_call_rate.is_none() || policy.slow_call_duration.is_some();
    checks.that(timed, "slow_call_duration", "not set", "a limit, for slow_call_rate needs one");
    let conditions = policy.consecutive_failures.is_some()
        || policy.failure_rate.is_some()
        || policy.failure_count.is_some()
        || policy.slow_call_rate.is_some();
    checks.that(conditions, "conditions", "none", "at least one, or the circuit never opens");
    checks.problems
}

#[derive(Default)]
struct Checks {
    problems: Vec<String>,
}

impl Checks {
    fn that(&mut self, holds: bool, setting: &str, value: impl fmt::Display, expected: &str) {
        if !holds {
            self.problems.push(format!("`{setting}` is {value}, expected {expected}"));
        }
    }

    fn count(&mut self, setting: &str, value: Option<u64>) {
        self.that(value != Some(0), setting, 0, "1 or more");
    }

    fn percent(&mut self, setting: &str, value: Option<u32>) {
        let percent = value.unwrap_or(1);
        self.that((1..=100).contains(&percent), setting, Percent(percent), "1 to 100");
    }

    fn duration(&mut self, setting: &str, value: Option<Duration>) {
        self.that(value != Some(Duration::ZERO), setting, "0ns", "more than zero");
    }
}

struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}
