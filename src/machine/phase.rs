//! The states, and what each of them remembers.

use std::fmt;

use super::half_open::Round;
use super::reported::Reported;
use super::window::Evidence;
use crate::timestamp::Timestamp;

/// The state of a circuit.
///
/// A circuit moves through the first three by itself. The others are [overrides](crate::overrides):
/// an operator sets them, and they last until [`reset`](crate::Circuit::reset), the next override,
/// or the end of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are rejected until the open interval ends.
    Open,
    /// A few calls pass as probes; the others are rejected.
    HalfOpen,
    /// Override: calls are rejected.
    ForcedOpen,
    /// Override: calls pass and are counted, but never open the circuit.
    ForcedClosed,
    /// Override: calls pass, and nothing is counted.
    Disabled,
    /// Override: calls pass and are counted. When they would have opened the circuit, it sends
    /// [`Event::WouldTrip`](crate::event::Event::WouldTrip) instead.
    MetricsOnly,
}

impl State {
    /// Returns whether all calls pass in this state.
    #[must_use]
    pub const fn passes_all(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Disabled | Self::MetricsOnly)
    }

    /// Returns whether the state is an override: only an operator sets and ends it.
    #[must_use]
    pub const fn is_overridden(self) -> bool {
        !matches!(self, Self::Closed | Self::Open | Self::HalfOpen)
    }

    /// Returns the state with this [name](Self::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Closed, Self::Open, Self::HalfOpen];
        let overrides = OverrideState::ALL.map(OverrideState::state);
        all.into_iter().chain(overrides).find(|state| state.as_str() == name)
    }

    /// Returns the state's name in logs and metrics, in snake case: `half_open`.
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
    /// Writes the state as in a sentence: `half-open`.
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

/// A state that only an override sets.
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
    pub(crate) const ALL: [Self; 4] =
        [Self::ForcedOpen, Self::ForcedClosed, Self::Disabled, Self::MetricsOnly];

    /// Returns the [`State`] of a circuit under this override.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly => State::MetricsOnly,
        }
    }

    /// Returns the name of its state in logs and metrics, in snake case: `forced_open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.state().as_str()
    }

    /// Returns the override whose state has this [name](State::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.state().as_str() == name)
    }
}

/// What decided a state: this process, or the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This process: its own evidence, its own probes, or an override that was set in it.
    Local,
    /// The cluster, through the [backend](crate::backend). The state is the same on every replica.
    Cluster,
}

impl Origin {
    /// Returns the origin with this [name](Self::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Local, Self::Cluster].into_iter().find(|origin| origin.as_str() == name)
    }

    /// Returns the origin's name in logs and metrics: `local` or `cluster`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cluster => "cluster",
        }
    }
}

#[cfg(feature = "serde")]
mod data {
    use super::{Origin, OverrideState, State};
    use crate::data::named;

    named!(State, "state");
    named!(OverrideState, "override");
    named!(Origin, "origin");
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
    MetricsOnly { evidence: Evidence, reported: Reported },
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

    /// Returns the evidence, if the phase keeps any.
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
