//! How a state changes, and why.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::override_record::OverrideRecord;
use super::phase::{Origin, State};
use super::window::Tally;

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Too many consecutive failures
    /// ([`consecutive_failures`](crate::policy::PolicyBuilder::consecutive_failures)).
    ConsecutiveFailures,
    /// The failure rate of the window
    /// ([`failure_rate`](crate::policy::PolicyBuilder::failure_rate)).
    FailureRate,
    /// The number of failures in the window
    /// ([`failure_count`](crate::policy::PolicyBuilder::failure_count)).
    FailureCount,
    /// The slow-call rate of the window
    /// ([`slow_call_rate`](crate::policy::PolicyBuilder::slow_call_rate)).
    SlowCallRate,
    /// As many consecutive calls as the policy's
    /// [`minimum_calls`](crate::policy::PolicyBuilder::minimum_calls) were cancelled or failed, and
    /// the last of them was cancelled. The upstream hangs, and a timeout outside the circuit
    /// breaker hides it.
    NoCompletions,
    /// The open interval ended, and a call asked for a permit.
    IntervalOver,
    /// A probe failed.
    ProbeFailed,
    /// A probe succeeded but was slow, and the policy counts slow calls.
    ProbeSlow,
    /// A probe outlived its lease ([`probe_lease`](crate::policy::PolicyBuilder::probe_lease)).
    ProbeExpired,
    /// Enough consecutive probes succeeded.
    ProbesSucceeded,
    /// An operator acted: an override, a reset, or [`probe_now`](crate::Circuit::probe_now).
    Override,
    /// The time of an override ended.
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

    /// Returns the reason with this [name](Self::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason as a number. It means something only within this process.
    pub(crate) const fn code(self) -> u64 {
        self as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "a number of a few reasons")]
    pub(crate) fn from_code(code: u64) -> Self {
        Self::ALL.get(code as usize).copied().unwrap_or(Self::Override)
    }

    /// Returns the reason's name in logs and metrics, in snake case: `failure_rate`.
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
    /// Returns the reason with its numbers, for people: `12 of 20 calls failed`.
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
            // A replica that did not count the evidence knows the reason alone.
            Reason::ConsecutiveFailures if consecutive_failures == 0 => {
                f.write_str("consecutive failures")
            }
            Reason::FailureRate | Reason::FailureCount if failures == 0 => {
                f.write_str("too many calls failed")
            }
            Reason::SlowCallRate if slow_calls == 0 => f.write_str("too many calls were slow"),
            Reason::NoCompletions if unanswered == 0 => f.write_str("no call completed"),
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state that ended.
    pub from: State,
    /// The state that began. It is the same as [`from`](Self::from) in three cases only: after
    /// [`probe_now`](crate::Circuit::probe_now), when an override replaces one with the same state
    /// but another end, reason or operator, and when other replicas have probed an open circuit and
    /// their probes failed.
    pub to: State,
    /// Why the state changed.
    pub reason: Reason,
    /// The generation that began. It grows with each transition of the circuit, so that transitions
    /// that arrive out of order can be sorted. A generation that changes nothing visible has no
    /// transition.
    pub generation: u64,
    /// What had been counted in the state that ended: on a trip, the evidence. If the cluster
    /// opened the circuit, it is the evidence of all replicas.
    pub tally: Tally,
    /// How long the circuit stays open from now on, jitter included. `None` if no open interval
    /// runs.
    pub open_for: Option<Duration>,
    /// What decided: this process or the cluster. Without a backend it is always this process.
    pub origin: Origin,
    /// The override that began, with its reason, its operator and its duration. If the transition
    /// ends an override and no other one begins: the override that ended.
    pub overridden: Option<Arc<OverrideRecord>>,
    /// If the cluster opened the circuit: the names of the replicas that had reported failures,
    /// the latest first.
    pub contributors: Arc<[String]>,
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

/// What happened to a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The circuit changed its state.
    Transition(Transition),
    /// The circuit is in [`State::MetricsOnly`], and its evidence now meets a condition that would
    /// have opened it. Sent for each condition that the evidence begins to meet, and again only
    /// after the evidence has not met it in between.
    WouldTrip {
        /// The condition that the evidence meets.
        reason: Reason,
    },
    /// Ten or more consecutive calls were cancelled or failed, and the last of them was cancelled
    /// and left no evidence. The usual cause is a timeout outside the circuit breaker: put it
    /// inside, so that each such call counts as a failure. Sent once per circuit.
    CallsCancelled {
        /// How many consecutive calls were cancelled or failed.
        calls: u64,
    },
}
