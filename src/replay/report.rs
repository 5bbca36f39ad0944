//! What a replay found.

use std::time::Duration;

use super::calls::Calls;
use super::simulated::Sink;
use crate::machine::{State, Transition};
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// What a [`Replay`](super::Replay) found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// How many calls the trace has.
    pub calls: u64,
    /// When the first call started, in the time of the trace; zero if it started before that.
    pub from: Duration,
    /// When the last call ended.
    pub to: Duration,
    /// How many calls took longer than the [longest call](super::Replay::longest_call), and so
    /// started later in the replay than in the trace.
    pub shortened: u64,
    /// One report for each policy, in the order in which they were given.
    pub policies: Vec<PolicyReport>,
}

impl Replayed {
    /// Returns the reports in the order of their [scores](PolicyReport::score), the best first. Of
    /// equal scores, fewer trips come first, and then what was given first.
    #[must_use]
    pub fn ranked(&self, cost: f64) -> Vec<&PolicyReport> {
        let mut reports: Vec<_> = self.policies.iter().collect();
        let trips = |report: &PolicyReport| report.circuits.iter().map(|c| c.trips).sum::<u64>();
        reports.sort_by(|a, b| {
            b.score(cost).total_cmp(&a.score(cost)).then_with(|| trips(a).cmp(&trips(b)))
        });
        reports
    }
}

/// What one policy would have done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PolicyReport {
    /// The policy.
    pub policy: Policy,
    /// One report for each circuit of the trace, in the order in which they appear there.
    pub circuits: Vec<CircuitReport>,
}

impl PolicyReport {
    /// Returns the calls that the circuits would have admitted, all circuits together.
    #[must_use]
    pub fn admitted(&self) -> Calls {
        self.circuits.iter().fold(Calls::default(), |sum, circuit| sum.plus(&circuit.admitted))
    }

    /// Returns the calls that the circuits would have rejected, all circuits together.
    #[must_use]
    pub fn rejected(&self) -> Calls {
        self.circuits.iter().fold(Calls::default(), |sum, circuit| sum.plus(&circuit.rejected))
    }

    /// Returns the score of the policy: the number of bad calls it would have rejected, minus
    /// `cost` times the number of good calls it would have rejected.
    ///
    /// So `cost` says how many saved calls are worth one good call: 1 if both weigh the same, more
    /// if a bad call fails at once and harms little. A policy that never opens has the score 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a score compares")]
    pub fn score(&self, cost: f64) -> f64 {
        let rejected = self.rejected();
        rejected.bad() as f64 - cost * rejected.good() as f64
    }
}

/// What one circuit would have done under one policy.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CircuitReport {
    /// The name of the circuit; `None` for the calls that name none.
    pub circuit: Option<CircuitName>,
    /// Calls that it would have admitted. The bad ones among them were made in vain.
    pub admitted: Calls,
    /// Calls that it would have rejected: the good ones for nothing, the bad ones were saved.
    pub rejected: Calls,
    /// How often it would have opened from closed.
    pub trips: u64,
    /// How often a probe would have opened it again.
    pub reopenings: u64,
    /// How long it would have been open.
    pub open: Duration,
    /// How long it would have been half-open.
    pub half_open: Duration,
    /// The state at the end of the trace. `None` without calls.
    pub ends: Option<State>,
    /// The transitions. Of all circuits of a policy, the first 10,000.
    pub transitions: Vec<TimedTransition>,
    /// How many more transitions there were.
    pub more_transitions: u64,
}

/// A transition, and when it would have happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimedTransition {
    /// When, in the time of the trace.
    pub at: Duration,
    /// The transition, with its reason and its evidence.
    pub transition: Transition,
}

/// The most transitions of a policy.
pub(super) const MOST_TRANSITIONS: u64 = 10_000;

/// Where transitions go: into the report of a circuit.
pub(super) struct Entry<'a> {
    pub(super) report: &'a mut CircuitReport,
    /// How many transitions may still be listed.
    pub(super) room: &'a mut u64,
    /// When the state began.
    pub(super) since: &'a mut Timestamp,
    pub(super) now: Timestamp,
    /// Now, in the time of the trace.
    pub(super) at: Duration,
}

impl Entry<'_> {
    /// Adds the time that was spent in a state.
    pub(super) fn spent(&mut self, state: State) {
        let spent = self.now.since(*self.since);
        match state {
            State::Open => self.report.open += spent,
            State::HalfOpen => self.report.half_open += spent,
            _ => {}
        }
        *self.since = self.now;
    }
}

impl Sink for Entry<'_> {
    fn happened(&mut self, transition: Transition) {
        self.spent(transition.from);
        match (transition.from, transition.to) {
            (State::HalfOpen, State::Open) => self.report.reopenings += 1,
            (_, State::Open) => self.report.trips += 1,
            _ => {}
        }
        if *self.room == 0 {
            self.report.more_transitions += 1;
        } else {
            *self.room -= 1;
            self.report.transitions.push(TimedTransition { at: self.at, transition });
        }
    }
}
