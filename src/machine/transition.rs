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
    /// As many calls in a row as the policy's minimum of calls were cancelled or failed, and none
    /// was answered well in between: the upstream hangs, and a timeout outside of the circuit
    /// breaker hides it.
    NoCompletions,
    /// The open interval is over, and somebody asked.
    IntervalOver,
    /// A probe failed.
    ProbeFailed,
    /// A probe succeeded, but was slow, and the policy counts slow calls.
    ProbeSlow,
    /// A probe lasted longer than its lease.
    ProbeExpired,
    /// Enough probes succeeded in a row.
    ProbesSucceeded,
    /// An operator: an override, a reset, or an [order to probe](crate::Circuit::probe_now).
    Override,
    /// The time of an override is over.
    OverrideOver,
}

impl Reason {
    const ALL: [Self; 12] = [
        Self::ConsecutiveFailures,
        Self::FailureRate,
        Self::FailureCount,
        Self::SlowCallRate,
        Self::NoCompletions,
        Self::IntervalOver,
        Self::ProbeFailed,
        Self::ProbeSlow,
        Self::ProbeExpired,
        Self::ProbesSucceeded,
        Self::Override,
        Self::OverrideOver,
    ];

    /// The reason of this [name](Self::as_str).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason as a number, and back: within a process only.
    pub(crate) const fn code(self) -> u64 {
        self as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "a number of a few reasons")]
    pub(crate) fn from_code(code: u64) -> Self {
        Self::ALL.get(code as usize).copied().unwrap_or(Self::Override)
    }

    /// The reason's name in logs and metrics, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::FailureCount => "failure_count",
            Self::SlowCallRate => "slow_call_rate",
            Self::NoCompletions => "no_completions",
            Self::IntervalOver => "interval_over",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeSlow => "probe_slow",
            Self::ProbeExpired => "probe_expired",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Override => "override",
            Self::OverrideOver => "override_over",
        }
    }
}

impl Reason {
    /// The reason with its numbers, for people: `12 of 20 calls failed`.
    pub(crate) fn with(self, tally: &Tally) -> impl fmt::Display + use<> {
        Explained { reason: self, tally: *tally }
    }
}

struct Explained {
    reason: Reason,
    tally: Tally,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = self.tally;
        match self.reason {
            Reason::ConsecutiveFailures if consecutive_failures == 1 => f.write_str("1 failure"),
            Reason::ConsecutiveFailures => write!(f, "{consecutive_failures} consecutive failures"),
            Reason::FailureRate | Reason::FailureCount => {
                write!(f, "{failures} of {calls} calls failed")
            }
            Reason::SlowCallRate => write!(f, "{slow_calls} of {calls} calls were slow"),
            Reason::NoCompletions => {
                write!(f, "{unanswered} calls in a row were cancelled or failed")
            }
            Reason::IntervalOver => f.write_str("the open interval ended"),
            Reason::ProbeFailed => f.write_str("a probe failed"),
            Reason::ProbeSlow => f.write_str("a probe was slow"),
            Reason::ProbeExpired => f.write_str("a probe outlived its lease"),
            Reason::ProbesSucceeded => f.write_str("enough probes succeeded"),
            Reason::Override => f.write_str("an operator acted"),
            Reason::OverrideOver => f.write_str("the override expired"),
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
    /// Where the circuit opened by itself: for how long from now on, jitter included.
    pub open_for: Option<Duration>,
    /// Who decided. Without a backend it is always this process.
    pub origin: Origin,
}

impl fmt::Display for Transition {
    /// For example `closed -> open: 12 of 20 calls failed; probes in 31.2 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.reason.with(&self.tally))?;
        match self.open_for {
            Some(interval) => write!(f, "; probes in {:.1} s", interval.as_secs_f64()),
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
    /// Ten calls in a row were cancelled or failed, with no success between them, and the last one was
    /// cancelled and left no evidence. A timeout outside the circuit breaker does that: put it inside, and
    /// each call counts as a failure. Sent once for a circuit.
    CallsCancelled {
        /// How many calls in a row were cancelled or failed.
        calls: u64,
    },
}
