//! How a state changes, and why.

use std::fmt;
use std::time::Duration;

use super::phase::{Origin, State};
use super::window::Tally;

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// So many failures without a success between them.
    ConsecutiveFailures,
    /// The failure rate of the window.
    FailureRate,
    /// The number of failures in the window.
    FailureCount,
    /// The rate of slow calls in the window.
    SlowCallRate,
    /// The open interval is over, and somebody asked.
    IntervalOver,
    /// A probe failed.
    ProbeFailed,
    /// A probe lasted longer than its lease.
    ProbeExpired,
    /// Enough probes succeeded in a row.
    ProbesSucceeded,
    /// An override or a reset.
    ByHand,
    /// The time of an override is over.
    OverrideOver,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::ConsecutiveFailures,
        Self::FailureRate,
        Self::FailureCount,
        Self::SlowCallRate,
        Self::IntervalOver,
        Self::ProbeFailed,
        Self::ProbeExpired,
        Self::ProbesSucceeded,
        Self::ByHand,
        Self::OverrideOver,
    ];

    /// The reason of this [name](Self::as_str).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason's name in logs and metrics, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::FailureCount => "failure_count",
            Self::SlowCallRate => "slow_call_rate",
            Self::IntervalOver => "interval_over",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeExpired => "probe_expired",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ByHand => "by_hand",
            Self::OverrideOver => "override_over",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change of a circuit's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state that ended.
    pub from: State,
    /// The state that began. An override set again begins again: then the two are the same.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The generation that began. It grows with each transition of the circuit, so that
    /// transitions that arrive out of order can be put in order.
    pub generation: u64,
    /// What had been counted in the state that ended: on a trip, the evidence.
    pub tally: Tally,
    /// Where the circuit opened by itself: for how long, jitter included.
    pub open_for: Option<Duration>,
    /// Who decided. Without a backend it is always this process.
    pub origin: Origin,
}

impl fmt::Display for Transition {
    /// For example `closed -> open (failure_rate: 12 of 20), for 31.2s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { calls, failures, slow_calls, consecutive_failures } = self.tally;
        write!(f, "{} -> {} ({}", self.from, self.to, self.reason)?;
        match self.reason {
            Reason::ConsecutiveFailures => write!(f, ": {consecutive_failures})"),
            Reason::FailureRate => write!(f, ": {failures} of {calls})"),
            Reason::FailureCount => write!(f, ": {failures})"),
            Reason::SlowCallRate => write!(f, ": {slow_calls} of {calls})"),
            _ => f.write_str(")"),
        }?;
        match self.open_for {
            Some(wait) => write!(f, ", for {wait:.1?}"),
            None => Ok(()),
        }
    }
}

/// Something that happened to a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Its state changed.
    Transition(Transition),
    /// It is in [`State::MetricsOnly`], and its evidence has just come to what would have opened
    /// it. Told once; again only after the evidence has been below that meanwhile.
    WouldTrip {
        /// The condition that holds.
        reason: Reason,
    },
}
