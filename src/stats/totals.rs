//! What a circuit has counted since it was made.

use super::by_kind::ByKind;
use super::by_state::ByState;
use crate::machine::{Origin, Reason, State, Transition};

/// What a circuit has counted in this process since it was made.
///
/// No number ever falls: totals go on over transitions, overrides, resets and changes of the
/// policy. (The [`tally`](crate::circuit::Snapshot::tally) of a snapshot is something else: the
/// evidence of the current state.) Each call that has ended is in exactly one of
/// [`succeeded`](Self::succeeded), [`failed`](Self::failed), [`ignored`](Self::ignored),
/// [`cancelled`](Self::cancelled) and [`stale`](Self::stale), also while the circuit is
/// [disabled](State::Disabled). The numbers are exact: a result whose recording returned before the
/// snapshot was taken is in it.
///
/// [`Snapshot::totals`](crate::circuit::Snapshot::totals) returns those of one circuit,
/// [`KeyedCircuits::totals`](crate::store::KeyedCircuits::totals) the sums over circuits of keys.
///
/// ```
/// use tower_breaker::{Outcome, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// payments.try_acquire()?.settle(Outcome::Success);
/// payments.try_acquire()?.settle(Outcome::failure());
/// payments.force_open("maintenance");
/// assert!(payments.try_acquire().is_err());
///
/// let totals = payments.snapshot().totals;
/// assert_eq!((totals.permitted(), totals.succeeded, totals.failed.sum()), (2, 1, 1));
/// assert_eq!(totals.rejected, 1);
/// # Ok::<(), tower_breaker::Rejected>(())
/// ```
///
/// # Cost
///
/// Successes are counted in the counter that the circuit needs for its evidence. Other results and
/// rejections add one to a counter of the thread, or one under the lock that their result takes
/// anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Totals {
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that counted as failures, by the kind of the failure. A cancelled call is among them
    /// if the policy [counts it](crate::policy::PolicyBuilder::cancelled) as a failure.
    pub failed: ByKind,
    /// Calls whose result said nothing about the upstream ([`Outcome::Ignored`](crate::Outcome)).
    pub ignored: u64,
    /// Calls that were dropped before they ended, and counted as no failure.
    pub cancelled: u64,
    /// Calls whose result arrived after the end of the state in which they were admitted. What the
    /// result was is not counted, since it changed nothing.
    pub stale: u64,
    /// Those among the succeeded and the failed calls that ran for longer than the policy's
    /// [`slow_call_duration`](crate::policy::PolicyBuilder::slow_call_duration).
    pub slow: u64,
    /// Calls that the circuit rejected: the [`Rejected`](crate::Rejected)s that it made. A caller
    /// that waits for the circuit is not rejected.
    pub rejected: u64,
    /// Probes that began. They are also in the numbers above, once they have ended.
    pub probes: u64,
    /// How many times the circuit would have opened, had it not been in
    /// [`State::MetricsOnly`].
    pub would_trip: u64,
    /// How long the circuit was in each state.
    #[cfg_attr(feature = "serde", serde(rename = "times_ms"))]
    pub times: ByState,
    /// The changes of the state. There is one entry for each kind of change that has occurred.
    pub transitions: Vec<TransitionTotal>,
}

/// How many times a circuit changed its state in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TransitionTotal {
    /// The state that ended.
    pub from: State,
    /// The state that began.
    pub to: State,
    /// Why the state changed.
    pub reason: Reason,
    /// What decided: this process or the cluster.
    pub origin: Origin,
    /// How many times.
    pub times: u64,
}

impl Totals {
    /// Returns how many permitted calls have ended, however they ended. A call that still runs is
    /// not among them.
    ///
    /// Admissions are not counted: that would cost each call a second counter.
    #[must_use]
    pub fn permitted(&self) -> u64 {
        self.succeeded + self.failed.sum() + self.ignored + self.cancelled + self.stale
    }

    /// Returns how many transitions there were, of all kinds.
    #[must_use]
    pub fn transitioned(&self) -> u64 {
        self.transitions.iter().map(|total| total.times).sum()
    }

    /// Adds the totals of another circuit, to sum up several.
    pub fn add(&mut self, other: &Self) {
        // By name, so that no field is forgotten.
        let Self { succeeded, failed, ignored, cancelled, stale, slow, rejected, .. } = other;
        let Self { probes, would_trip, times, transitions, .. } = other;
        self.succeeded += succeeded;
        self.failed.add(failed);
        self.ignored += ignored;
        self.cancelled += cancelled;
        self.stale += stale;
        self.slow += slow;
        self.rejected += rejected;
        self.probes += probes;
        self.would_trip += would_trip;
        self.times.add(times);
        for total in transitions {
            self.add_transitions(*total);
        }
    }

    pub(crate) fn count_transition(&mut self, transition: &Transition) {
        let Transition { from, to, reason, origin, .. } = *transition;
        self.add_transitions(TransitionTotal { from, to, reason, origin, times: 1 });
    }

    fn add_transitions(&mut self, new: TransitionTotal) {
        let kind = |total: &TransitionTotal| (total.from, total.to, total.reason, total.origin);
        match self.transitions.iter_mut().find(|total| kind(total) == kind(&new)) {
            Some(total) => total.times += new.times,
            None => self.transitions.push(new),
        }
    }
}
