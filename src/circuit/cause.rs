//! Why a circuit rejects, in words that are read without the lock.

use std::fmt;

use crate::machine::{Reason, State, Tally, Transition};
use crate::timestamp::Timestamp;

/// Why a circuit rejects calls, on what evidence, and since when.
///
/// It is packed, and copied as it is into each rejection, because most rejections are never
/// examined.
///
/// ```text
///  calls (32 bits) │ failures          slow calls │ consecutive failures
///  unanswered      │ reason            since, in nanoseconds
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Cause(pub(super) [u64; 4]);

impl Cause {
    /// Each number of the evidence is kept up to `u32::MAX`.
    pub(super) fn new(reason: Reason, evidence: Tally, since: Timestamp) -> Self {
        let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = evidence;
        let pair = |high: u64, low: u64| high.min(LOW) << 32 | low.min(LOW);
        Self([
            pair(calls, failures),
            pair(slow_calls, consecutive_failures),
            pair(unanswered, reason.code()),
            since.as_nanos(),
        ])
    }

    /// Returns the cause after a transition. If probes open the circuit again, the reason is
    /// theirs; the evidence and the time are those of when it opened first.
    pub(super) fn after(self, transition: &Transition, now: Timestamp) -> Self {
        let Transition { from, to, reason, tally, .. } = *transition;
        let rejected = matches!(from, State::Open | State::HalfOpen);
        match to {
            // An operator lets it probe; why it opened stays.
            State::Open if rejected && reason == Reason::Override => self,
            State::Open if rejected => Self::new(reason, self.evidence(), self.since()),
            State::Open | State::ForcedOpen => Self::new(reason, tally, now),
            _ => self,
        }
    }

    pub(super) fn reason(self) -> Reason {
        Reason::from_code(self.0[2] & LOW)
    }

    pub(super) fn since(self) -> Timestamp {
        Timestamp::from_nanos(self.0[3])
    }

    pub(super) fn evidence(self) -> Tally {
        let [first, second, third, _] = self.0;
        Tally {
            calls: first >> 32,
            failures: first & LOW,
            slow_calls: second >> 32,
            consecutive_failures: second & LOW,
            unanswered: third >> 32,
        }
    }
}

const LOW: u64 = u32::MAX as u64;

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cause")
            .field("reason", &self.reason())
            .field("evidence", &self.evidence())
            .field("since", &self.since())
            .finish()
    }
}
