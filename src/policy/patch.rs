//! Settings that change a policy.

use std::collections::BTreeMap;
use std::fmt;

use super::builder::PolicyBuilder;
use super::check::{Found, PolicyError};
use super::setting::{Setting, Value};
use super::settings::Policy;
use super::window::Window;

/// Some settings of a policy, as data: those that a configuration contains.
///
/// [`over`](Self::over) makes a policy of them and of another policy, which has the settings that
/// are not set here. They come from [variables](crate::config::Config), from a file (feature
/// `serde`), or from a whole policy:
///
/// ```
/// use tower_breaker::Policy;
/// use tower_breaker::policy::PolicySettings;
///
/// let settings = PolicySettings::from(&Policy::http_api());
/// assert_eq!(settings.over(&Policy::cache())?, Policy::http_api());
/// assert_eq!(PolicySettings::default().over(&Policy::cache())?, Policy::cache());
/// # Ok::<(), tower_breaker::PolicyError>(())
/// ```
///
/// [The configuration](crate::config) lists the names and the values. With the feature `serde`,
/// these settings and a [`Policy`] are read from data and written as data, with the same names. A
/// policy is written with all its settings. One that is read has the settings of the default policy
/// where it has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PolicySettings {
    values: BTreeMap<Setting, Value>,
}

impl PolicySettings {
    /// Returns whether there are no settings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the policy that has these settings, and those of `base` where there are none.
    ///
    /// A preset replaces `base`. Settings of `base` that contradict these are adjusted, as
    /// [`PolicyBuilder`] describes.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy could not work. It names every setting that is wrong.
    pub fn over(&self, base: &Policy) -> Result<Policy, PolicyError> {
        let preset = self.get(Setting::Preset).and_then(Value::preset);
        let base = preset.as_ref().unwrap_or(base);
        let values = self.values.iter();
        let builder = values
            .fold(base.to_builder(), |builder, (setting, value)| put(builder, *setting, *value));
        let mut found = Vec::new();
        let built = self.window(builder, base, &mut found).build();
        match built {
            Ok(policy) if found.is_empty() => Ok(policy),
            Ok(_) => Err(PolicyError::new(found)),
            Err(error) => Err(error.and(found)),
        }
    }

    pub(crate) fn get(&self, setting: Setting) -> Option<Value> {
        self.values.get(&setting).copied()
    }

    pub(crate) fn set(&mut self, setting: Setting, value: Value) {
        self.values.insert(setting, value);
    }

    /// Sets what is set in `upper`. Its preset replaces everything; its window replaces another
    /// kind of window.
    pub(crate) fn change(&mut self, upper: &Self) {
        if upper.get(Setting::Preset).is_some() {
            self.values.clear();
        }
        if [Setting::TimeWindow, Setting::CountWindow].iter().any(|s| upper.get(*s).is_some()) {
            self.values.remove(&Setting::TimeWindow);
            self.values.remove(&Setting::CountWindow);
            if !matches!(upper.get(Setting::TimeWindow), Some(Value::Time(_))) {
                self.values.remove(&Setting::TimeWindowBuckets);
            }
        }
        self.values.extend(upper.values.iter());
    }

    /// Returns the setting that a problem concerns, which is one of these if it can be.
    pub(crate) fn concerned(&self, found: &Found) -> Setting {
        let named = match found.setting {
            "multiplier of backoff" => Some(Setting::Backoff),
            "longest of backoff" => Some(Setting::LongestOpenFor),
            "buckets of time_window" => Some(Setting::TimeWindowBuckets),
            name => Setting::named(name),
        };
        named.unwrap_or_else(|| {
            // No condition is left: one was turned off here.
            let off = self.values.iter().find(|(_, value)| **value == Value::Off);
            off.map_or(Setting::ConsecutiveFailures, |(setting, _)| *setting)
        })
    }

    #[cfg(feature = "serde")]
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, Value)> {
        self.values.iter().map(|(setting, value)| (setting.name(), *value))
    }

    /// The window is one setting of three names.
    fn window(
        &self,
        builder: PolicyBuilder,
        base: &Policy,
        found: &mut Vec<Found>,
    ) -> PolicyBuilder {
        let time = self.get(Setting::TimeWindow);
        let count = self.get(Setting::CountWindow);
        let buckets = match self.get(Setting::TimeWindowBuckets) {
            Some(Value::Count(buckets)) => Some(u32::try_from(buckets).unwrap_or(u32::MAX)),
            _ => None,
        };
        let length = match (time, count, base.window()) {
            (Some(Value::Time(length)), ..) | (None, None, Window::Time { length, .. }) => {
                Some(length)
            }
            _ => None,
        };
        if let (Some(Value::Time(_)), Some(Value::Count(calls))) = (time, count) {
            let expected = "off, or not set: time_window is set, and a policy has one window";
            found.push(Found::new("count_window", calls, expected));
        }
        if let (Some(buckets), None) = (buckets, length) {
            let expected = "a time_window with it, which has the buckets";
            found.push(Found::new("time_window_buckets", buckets, expected));
        }
        match (length, count, buckets) {
            (Some(length), _, Some(buckets)) => builder.time_window_in_buckets(length, buckets),
            (Some(length), ..) if time.is_some() => builder.time_window(length),
            (None, Some(Value::Count(calls)), _) => builder.count_window(calls),
            (None, ..) if time.is_some() || count.is_some() => builder.no_window(),
            _ => builder,
        }
    }
}

fn put(builder: PolicyBuilder, setting: Setting, value: Value) -> PolicyBuilder {
    use Value::{Count, Number, Off, Time};
    match (setting, value) {
        (Setting::ConsecutiveFailures, Count(failures)) => builder.consecutive_failures(failures),
        (Setting::ConsecutiveFailures, Off) => builder.without_consecutive_failures(),
        (Setting::FailureRate, Number(rate)) => builder.failure_rate(rate),
        (Setting::FailureRate, Off) => builder.without_failure_rate(),
        (Setting::FailureCount, Count(failures)) => builder.failure_count(failures),
        (Setting::FailureCount, Off) => builder.without_failure_count(),
        (Setting::SlowCallRate, Number(rate)) => builder.slow_call_rate(rate),
        (Setting::SlowCallRate, Off) => builder.without_slow_call_rate(),
        (Setting::SlowCallDuration, Time(limit)) => builder.slow_call_duration(limit),
        (Setting::SlowCallDuration, Off) => builder.without_slow_call_duration(),
        (Setting::MinimumCalls, Count(calls)) => builder.minimum_calls(calls),
        (Setting::OpenFor, Time(interval)) => builder.open_for(interval),
        (Setting::Backoff, Number(multiplier)) => builder.multiplier(multiplier),
        (Setting::LongestOpenFor, Time(longest)) => builder.longest(longest),
        (Setting::Jitter, Number(fraction)) => builder.jitter(fraction),
        (Setting::Jitter, Off) => builder.jitter(0.0),
        (Setting::Probes, Count(probes)) => builder.probes(probes),
        (Setting::SuccessesToClose, Count(successes)) => builder.successes_to_close(successes),
        (Setting::ProbeLease, Time(lease)) => builder.probe_lease(lease),
        (Setting::Quorum, Count(replicas)) => builder.quorum(replicas),
        (Setting::Cancelled, value) => match value.cancelled() {
            Some(cancelled) => builder.cancelled(cancelled),
            None => builder,
        },
        // The preset is the base; the window is one setting of three names.
        _ => builder,
    }
}

impl From<&Policy> for PolicySettings {
    /// Returns all settings of a policy.
    fn from(policy: &Policy) -> Self {
        let count = |count: Option<u64>| count.map_or(Value::Off, Value::Count);
        let number = |number: Option<f64>| number.map_or(Value::Off, Value::Number);
        let limit = policy.slow_call_duration().map_or(Value::Off, Value::Time);
        let mut values = BTreeMap::from([
            (Setting::ConsecutiveFailures, count(policy.consecutive_failures())),
            (Setting::FailureRate, number(policy.failure_rate())),
            (Setting::FailureCount, count(policy.failure_count())),
            (Setting::SlowCallRate, number(policy.slow_call_rate())),
            (Setting::SlowCallDuration, limit),
            (Setting::MinimumCalls, Value::Count(policy.minimum_calls())),
            (Setting::OpenFor, Value::Time(policy.open_for())),
            (Setting::Backoff, Value::Number(policy.backoff())),
            (Setting::LongestOpenFor, Value::Time(policy.longest_open_for())),
            (Setting::Jitter, Value::Number(policy.jitter())),
            (Setting::Probes, Value::Count(policy.probes())),
            (Setting::SuccessesToClose, Value::Count(policy.successes_to_close())),
            (Setting::ProbeLease, Value::Time(policy.probe_lease())),
            (Setting::Cancelled, policy.cancelled().into()),
            (Setting::Quorum, Value::Count(policy.quorum())),
        ]);
        match policy.window() {
            Window::Time { length, buckets } => values.extend([
                (Setting::TimeWindow, Value::Time(length)),
                (Setting::TimeWindowBuckets, Value::Count(buckets.into())),
            ]),
            Window::Count { calls } => {
                values.insert(Setting::CountWindow, Value::Count(calls));
            }
            Window::None => {
                values.insert(Setting::TimeWindow, Value::Off);
            }
        }
        Self { values }
    }
}

impl From<Policy> for PolicySettings {
    fn from(policy: Policy) -> Self {
        Self::from(&policy)
    }
}

impl fmt::Debug for PolicySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter();
        let shown = values.map(|(setting, value)| (setting.name(), value.to_string()));
        f.debug_map().entries(shown).finish()
    }
}
