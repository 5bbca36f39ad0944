//! Why a state changes.

use std::fmt;

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
    /// The backend has no record of the circuit: it is closed, and a change that was published
    /// before does not exist.
    NoRecord,
}

impl Reason {
    const ALL: [Self; 13] = [
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
        Self::NoRecord,
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
            Self::NoRecord => "no_record",
        }
    }
}

impl Reason {
    /// Returns the reason with its numbers, for people: `12 of 20 calls failed`.
    pub(crate) fn with(self, tally: &Tally) -> impl fmt::Display + use<> {
        Explained { reason: self, tally: *tally }
    }
}

#[cfg(feature = "serde")]
crate::data::named!(Reason, "reason");

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
            Reason::NoRecord => f.write_str("the backend has no record of it"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
