//! What a circuit has counted since it was made, as far as it is behind the lock.

use crate::machine::{Event, State};
use crate::outcome::{FailureKind, Outcome};
use crate::stats::Totals;
use crate::timestamp::Timestamp;

/// Totals, but for what the stripes hold, and for the time in the present state.
pub(super) struct Counted {
    pub(super) totals: Totals,
    state: State,
    since: Timestamp,
}

/// A call that has ended, as totals see it.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) outcome: Outcome,
    pub(super) kind: FailureKind,
    pub(super) cancelled: bool,
    pub(super) slow: bool,
}

impl Counted {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { totals: Totals::default(), state: State::Closed, since: now }
    }

    pub(super) fn ended(&mut self, call: Call) {
        let totals = &mut self.totals;
        match call.outcome {
            Outcome::Success => totals.succeeded += 1,
            Outcome::Failure { .. } if call.cancelled => {
                totals.failed.count(FailureKind::Cancelled);
            }
            Outcome::Failure { .. } => totals.failed.count(call.kind),
            Outcome::Ignored if call.cancelled => totals.cancelled += 1,
            Outcome::Ignored => totals.ignored += 1,
        }
        totals.slow += u64::from(call.slow && call.outcome != Outcome::Ignored);
    }

    pub(super) fn happened(&mut self, event: &Event) {
        match event {
            Event::Transition(transition) => self.totals.count_transition(transition),
            Event::WouldTrip { .. } => self.totals.would_trip += 1,
            Event::CallsCancelled { .. } => {}
        }
    }

    /// A phase begins. It may have the state of the last one.
    pub(super) fn enter(&mut self, state: State, now: Timestamp) {
        self.totals.times.spend(self.state, now.since(self.since));
        (self.state, self.since) = (state, now);
    }

    /// Returns the totals, the time up to now included.
    pub(super) fn totals(&self, now: Timestamp) -> Totals {
        let mut totals = self.totals.clone();
        totals.times.spend(self.state, now.since(self.since));
        totals
    }
}
