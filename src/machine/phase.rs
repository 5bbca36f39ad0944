//! The states, and what each of them remembers.

use std::fmt;

use super::half_open::Round;
use super::window::Evidence;
use crate::timestamp::Timestamp;

/// The state of a circuit.
///
/// The first three are those a circuit moves through by itself; the others are overrides, set by
/// hand and kept until [`reset`](crate::Circuit::reset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are rejected until the open interval is over.
    Open,
    /// A few calls pass as probes; the others are rejected.
    HalfOpen,
    /// By hand: calls are rejected, for as long as it takes.
    ForcedOpen,
    /// By hand: calls pass and are counted, and nothing trips.
    ForcedClosed,
    /// By hand: calls pass, and nothing is counted.
    Disabled,
    /// By hand: calls pass and are counted, and what would trip is told, not done.
    MetricsOnly,
}

impl State {
    /// Whether calls pass, all of them.
    #[must_use]
    pub const fn passes_all(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Disabled | Self::MetricsOnly)
    }

    /// Whether only a hand sets it, and ends it.
    #[must_use]
    pub const fn is_overridden(self) -> bool {
        !matches!(self, Self::Closed | Self::Open | Self::HalfOpen)
    }

    /// The state's name in logs and metrics, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    /// The state as in a sentence: `half-open`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
            Self::MetricsOnly => "metrics-only",
            other => other.as_str(),
        })
    }
}

/// A state that only a hand can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverrideState {
    /// [`State::ForcedOpen`].
    ForcedOpen,
    /// [`State::ForcedClosed`].
    ForcedClosed,
    /// [`State::Disabled`].
    Disabled,
    /// [`State::MetricsOnly`].
    MetricsOnly,
}

impl OverrideState {
    const ALL: [Self; 4] =
        [Self::ForcedOpen, Self::ForcedClosed, Self::Disabled, Self::MetricsOnly];

    /// The state that it sets.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly => State::MetricsOnly,
        }
    }

    /// The one whose state has this [name](State::as_str).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.state().as_str() == name)
    }
}

/// Who decided a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This process, by its own evidence, its own probes, or a hand that set it here.
    Local,
    /// The cluster: it is the same on every replica.
    Cluster,
}

impl Origin {
    /// The origin's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cluster => "cluster",
        }
    }
}

/// A state with what it remembers.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Closed(Evidence),
    Open { until: Timestamp },
    HalfOpen(Round),
    ForcedOpen,
    ForcedClosed(Evidence),
    Disabled,
    MetricsOnly { evidence: Evidence, told: Told },
}

/// What would have opened a metrics-only circuit, has been told, and still would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Condition,
    /// A run of calls without completions.
    Run,
}

impl Phase {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Closed(_) => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen(_) => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed(_) => State::ForcedClosed,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly { .. } => State::MetricsOnly,
        }
    }

    /// The evidence of a phase that keeps some.
    pub(super) fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Closed(evidence)
            | Self::ForcedClosed(evidence)
            | Self::MetricsOnly { evidence, .. } => Some(evidence),
            Self::Open { .. } | Self::HalfOpen(_) | Self::ForcedOpen | Self::Disabled => None,
        }
    }

    pub(super) fn evidence_mut(&mut self) -> Option<&mut Evidence> {
        match self {
            Self::Closed(evidence)
            | Self::ForcedClosed(evidence)
            | Self::MetricsOnly { evidence, .. } => Some(evidence),
            Self::Open { .. } | Self::HalfOpen(_) | Self::ForcedOpen | Self::Disabled => None,
        }
    }
}
