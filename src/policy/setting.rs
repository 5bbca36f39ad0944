//! The settings of a policy by name, as variables and files contain them.

use std::fmt;
use std::time::Duration;

use super::settings::{Cancelled, Policy};

/// A setting. The order is that in which data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Preset,
    ConsecutiveFailures,
    FailureRate,
    FailureCount,
    SlowCallRate,
    SlowCallDuration,
    MinimumCalls,
    TimeWindow,
    TimeWindowBuckets,
    CountWindow,
    OpenFor,
    Backoff,
    LongestOpenFor,
    Jitter,
    Probes,
    SuccessesToClose,
    ProbeLease,
    Cancelled,
    Quorum,
}

/// What a setting's value is.
#[derive(Clone, Copy)]
enum Kind {
    Count,
    Fraction,
    Factor,
    Time,
    Preset,
    Cancelled,
}

/// The value of a setting. Numbers are finite, and not otherwise checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Off,
    Count(u64),
    Number(f64),
    Time(Duration),
    Word(&'static str),
}

/// Numbers are never NaN.
impl Eq for Value {}

type Preset = (&'static str, fn() -> Policy);

const PRESETS: [Preset; 5] = [
    ("default", Policy::default),
    ("database", Policy::database),
    ("cache", Policy::cache),
    ("http_api", Policy::http_api),
    ("authentication", Policy::authentication),
];

const CANCELLED: [(&str, Cancelled); 3] = [
    ("failure_if_slow", Cancelled::FailureIfSlow),
    ("failure", Cancelled::Failure),
    ("ignored", Cancelled::Ignored),
];

impl Setting {
    pub(crate) const ALL: [Self; 19] = [
        Self::Preset,
        Self::ConsecutiveFailures,
        Self::FailureRate,
        Self::FailureCount,
        Self::SlowCallRate,
        Self::SlowCallDuration,
        Self::MinimumCalls,
        Self::TimeWindow,
        Self::TimeWindowBuckets,
        Self::CountWindow,
        Self::OpenFor,
        Self::Backoff,
        Self::LongestOpenFor,
        Self::Jitter,
        Self::Probes,
        Self::SuccessesToClose,
        Self::ProbeLease,
        Self::Cancelled,
        Self::Quorum,
    ];

    /// Returns its name in files. In variables it is the same in upper case.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }

    /// Its name, what its value is, and whether it may be `off`.
    fn row(self) -> (&'static str, Kind, bool) {
        match self {
            Self::Preset => ("preset", Kind::Preset, false),
            Self::ConsecutiveFailures => ("consecutive_failures", Kind::Count, true),
            Self::FailureRate => ("failure_rate", Kind::Fraction, true),
            Self::FailureCount => ("failure_count", Kind::Count, true),
            Self::SlowCallRate => ("slow_call_rate", Kind::Fraction, true),
            Self::SlowCallDuration => ("slow_call_duration", Kind::Time, true),
            Self::MinimumCalls => ("minimum_calls", Kind::Count, false),
            Self::TimeWindow => ("time_window", Kind::Time, true),
            Self::TimeWindowBuckets => ("time_window_buckets", Kind::Count, false),
            Self::CountWindow => ("count_window", Kind::Count, true),
            Self::OpenFor => ("open_for", Kind::Time, false),
            Self::Backoff => ("backoff", Kind::Factor, false),
            Self::LongestOpenFor => ("longest_open_for", Kind::Time, false),
            Self::Jitter => ("jitter", Kind::Fraction, true),
            Self::Probes => ("probes", Kind::Count, false),
            Self::SuccessesToClose => ("successes_to_close", Kind::Count, false),
            Self::ProbeLease => ("probe_lease", Kind::Time, false),
            Self::Cancelled => ("cancelled", Kind::Cancelled, false),
            Self::Quorum => ("quorum", Kind::Count, false),
        }
    }

    /// Reads a value. The error says what was expected.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let (_, kind, may_be_off) = self.row();
        let text = text.trim().to_ascii_lowercase();
        // YAML reads an unquoted `off` as false.
        if may_be_off && ["off", "none", "false"].contains(&text.as_str()) {
            return Ok(Value::Off);
        }
        let value = match kind {
            Kind::Count => text.parse().ok().map(Value::Count),
            Kind::Fraction | Kind::Factor => number(&text).map(Value::Number),
            Kind::Time => humantime::parse_duration(&text).ok().map(Value::Time),
            Kind::Preset => word(&PRESETS, &text),
            Kind::Cancelled => word(&CANCELLED, &text),
        };
        value.ok_or_else(|| {
            let or_off = if may_be_off { ", or off" } else { "" };
            format!("{}{or_off}{}", kind.expected(), Meant(kind, &text))
        })
    }
}

impl Kind {
    fn expected(self) -> String {
        let names = |names: &[&str]| {
            let (last, rest) = names.split_last().unwrap_or((&"", &[]));
            format!("{} or {last}", rest.join(", "))
        };
        match self {
            Self::Count => format!("a whole number from 1 to {}", u64::MAX),
            Self::Fraction => "a fraction from 0 to 1, as in 0.5".to_owned(),
            Self::Factor => "a number, 1 or more, as in 1.5".to_owned(),
            Self::Time => "a time with its unit, as in 30s or 500ms".to_owned(),
            Self::Preset => names(&PRESETS.map(|(name, _)| name)),
            Self::Cancelled => names(&CANCELLED.map(|(name, _)| name)),
        }
    }
}

/// What a value that cannot be read was probably meant to be.
struct Meant<'a>(Kind, &'a str);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, text) = self;
        let percent = || number(text.strip_suffix('%')?.trim());
        match (kind, percent()) {
            (Kind::Fraction, Some(percent)) if (0.0..=100.0).contains(&percent) => {
                write!(f, "; did you mean {}?", (percent * 100.0).round() / 10_000.0)
            }
            (Kind::Time, _) if text.len() < 8 && text.parse::<u32>().is_ok() => {
                write!(f, "; did you mean {text}s?")
            }
            _ => Ok(()),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn word<T>(words: &[(&'static str, T)], text: &str) -> Option<Value> {
    words.iter().find(|(word, _)| *word == text).map(|(word, _)| Value::Word(word))
}

impl Value {
    pub(super) fn preset(self) -> Option<Policy> {
        let Self::Word(word) = self else { return None };
        PRESETS.iter().find(|(name, _)| *name == word).map(|(_, policy)| policy())
    }

    pub(super) fn cancelled(self) -> Option<Cancelled> {
        let Self::Word(word) = self else { return None };
        CANCELLED.iter().find(|(name, _)| *name == word).map(|(_, cancelled)| *cancelled)
    }
}

impl From<Cancelled> for Value {
    fn from(cancelled: Cancelled) -> Self {
        let word = CANCELLED.iter().find(|(_, known)| *known == cancelled);
        Self::Word(word.map_or("failure_if_slow", |(word, _)| word))
    }
}

/// As [`Setting::read`] reads it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Time(time) => humantime::format_duration(*time).fmt(f),
            Self::Word(word) => f.write_str(word),
        }
    }
}
