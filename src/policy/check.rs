//! Which policies are refused, and why.

use std::fmt;
use std::time::Duration;

use super::fraction::Numbers;
use super::settings::Policy;
use super::window::Window;

/// The largest count window: a million results, at two bits each.
pub(super) const MAX_COUNT_WINDOW: u64 = 1_000_000;
/// The most buckets of a time window: one per second for an hour.
const MAX_BUCKETS: u32 = 3_600;

/// The error of [`PolicyBuilder::build`](crate::policy::PolicyBuilder::build): the policy cannot
/// work. It names every problem at once.
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Policy;
///
/// let error = Policy::builder()
///     .failure_rate(50.0)
///     .open_for(Duration::ZERO)
///     .build()
///     .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the policy cannot work: \
///      `failure_rate` is 50, expected a fraction, more than 0 and at most 1; did you mean 0.5?; \
///      `open_for` is 0ns, expected more than zero",
/// );
/// assert_eq!(error.problems().len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot work: {}", .problems.join("; "))]
pub struct PolicyError {
    problems: Vec<String>,
    found: Vec<Found>,
}

/// One problem, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) expected: String,
}

impl Found {
    pub(super) fn new(setting: &'static str, value: impl fmt::Display, expected: &str) -> Self {
        Self { setting, value: value.to_string(), expected: expected.to_owned() }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, expected {}", self.setting, self.value, self.expected)
    }
}

impl PolicyError {
    pub(super) fn new(found: Vec<Found>) -> Self {
        Self { problems: found.iter().map(Found::to_string).collect(), found }
    }

    /// Adds problems.
    pub(super) fn and(mut self, more: Vec<Found>) -> Self {
        self.found.extend(more);
        Self::new(self.found)
    }

    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    /// Returns one text per wrong setting, with its name, its value and what was expected.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

/// Checks a policy whose numbers are still as they were given.
pub(super) fn check(policy: &Policy, numbers: &Numbers) -> Result<(), PolicyError> {
    let mut checks = Checks::default();
    checks.conditions(policy, numbers);
    checks.window(policy, numbers);
    checks.duration("open_for", Some(policy.open_for));
    let multiplier = numbers.multiplier;
    let works = multiplier.is_finite() && multiplier >= 1.0;
    checks.that(works, "multiplier of backoff", multiplier, "a finite number, 1 or more");
    let capped = format!("at least open_for ({:?})", policy.open_for);
    let longest = format!("{:?}", policy.longest);
    checks.that(policy.longest >= policy.open_for, "longest of backoff", longest, &capped);
    let jitter = numbers.jitter;
    let works = (0.0..=1.0).contains(&jitter);
    checks.fraction(works, "jitter", jitter, "a fraction, from 0 to 1");
    checks.count("probes", Some(policy.probes));
    checks.count("successes_to_close", Some(policy.successes_to_close));
    checks.duration("probe_lease", Some(policy.probe_lease));
    checks.count("quorum", Some(policy.quorum));
    if checks.found.is_empty() { Ok(()) } else { Err(PolicyError::new(checks.found)) }
}

#[derive(Default)]
struct Checks {
    found: Vec<Found>,
}

impl Checks {
    fn conditions(&mut self, policy: &Policy, numbers: &Numbers) {
        self.count("consecutive_failures", policy.consecutive_failures);
        self.rate("failure_rate", numbers.failure_rate);
        self.count("failure_count", policy.failure_count);
        self.rate("slow_call_rate", numbers.slow_call_rate);
        self.duration("slow_call_duration", policy.slow_call_duration);
        self.count("minimum_calls", Some(policy.minimum_calls));
        let timed = numbers.slow_call_rate.is_none() || policy.slow_call_duration.is_some();
        self.that(timed, "slow_call_duration", "not set", "a limit: slow_call_rate needs one");
        let conditions = policy.consecutive_failures.is_some()
            || numbers.failure_rate.is_some()
            || policy.failure_count.is_some()
            || numbers.slow_call_rate.is_some();
        self.that(conditions, "conditions", "none", "at least one, or the circuit never opens");
    }

    fn window(&mut self, policy: &Policy, numbers: &Numbers) {
        match policy.window {
            Window::Count { calls } => {
                let fits = (1..=MAX_COUNT_WINDOW).contains(&calls);
                self.that(fits, "count_window", calls, "1 to 1000000");
                let failures = policy.failure_count.unwrap_or(0);
                let most = format!("at most count_window ({calls})");
                self.that(failures <= calls || !fits, "failure_count", failures, &most);
            }
            Window::Time { length, buckets } => {
                self.duration("time_window", Some(length));
                let fits = (1..=MAX_BUCKETS).contains(&buckets);
                self.that(fits, "buckets of time_window", buckets, "1 to 3600");
            }
            Window::None => {
                let set = [
                    ("failure_rate", numbers.failure_rate.is_some()),
                    ("failure_count", policy.failure_count.is_some()),
                    ("slow_call_rate", numbers.slow_call_rate.is_some()),
                ];
                for (setting, set) in set {
                    self.that(!set, setting, "set", "a time_window or count_window with it");
                }
            }
        }
    }

    fn that(
        &mut self,
        holds: bool,
        setting: &'static str,
        value: impl fmt::Display,
        expected: &str,
    ) {
        if !holds {
            self.found.push(Found::new(setting, value, expected));
        }
    }

    fn count(&mut self, setting: &'static str, value: Option<u64>) {
        self.that(value != Some(0), setting, 0, "1 or more");
    }

    fn rate(&mut self, setting: &'static str, rate: Option<f64>) {
        let rate = rate.unwrap_or(1.0);
        let works = rate > 0.0 && rate <= 1.0;
        self.fraction(works, setting, rate, "a fraction, more than 0 and at most 1");
    }

    fn fraction(&mut self, works: bool, setting: &'static str, value: f64, expected: &str) {
        if (2.0..=100.0).contains(&value) {
            let meant = (value * 100.0).round() / 10_000.0;
            self.that(works, setting, value, &format!("{expected}; did you mean {meant}?"));
        } else {
            self.that(works, setting, value, expected);
        }
    }

    fn duration(&mut self, setting: &'static str, value: Option<Duration>) {
        self.that(value != Some(Duration::ZERO), setting, "0ns", "more than zero");
    }
}
