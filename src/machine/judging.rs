//! What results make of a circuit that keeps evidence.

use std::time::Duration;

use super::phase::{Phase, Told};
use super::transition::{Event, Reason};
use super::window::{Evidence, Mark};
use super::{Effect, Ended, Machine};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

impl Machine {
    /// Records how a call of this generation ended, and tells what that made happen.
    pub(crate) fn record(
        &mut self,
        ended: Ended,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Effect> {
        if let Phase::HalfOpen(_) = &self.phase {
            return self.record_probe(ended, now, policy, draw);
        }
        let (failed, hint) = match ended.outcome {
            Outcome::Success => (false, None),
            Outcome::Failure { retry_after } => (true, retry_after),
            Outcome::Ignored if ended.cancelled => {
                return self.cancelled(1, now, policy, draw).map(Effect::Tell);
            }
            Outcome::Ignored => {
                self.completed();
                return None;
            }
        };
        self.look_again(now, policy);
        let evidence = self.phase.evidence_mut()?;
        evidence.record(Mark { failed, slow: ended.slow });
        let tally = evidence.tally();
        // Failures have conditions of their own: without a cancelled call they are no such run.
        let run = || policy.no_completions(tally).filter(|_| ended.cancelled);
        let reason = policy.judge(tally).or_else(run);
        self.act(reason, hint, now, policy, draw).map(Effect::Tell)
    }

    /// Adds `n` calls that were cancelled and leave no other evidence.
    ///
    /// Calls in a row that were cancelled or failed, as many as the policy's minimum of calls, open
    /// the circuit: a timeout outside of it hides from it that the upstream hangs. Where cancelled
    /// calls count as nothing, so do these.
    pub(crate) fn cancelled(
        &mut self,
        n: u64,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Event> {
        if n == 0 || policy.ignores_cancelled() {
            return None;
        }
        self.look_again(now, policy);
        let evidence = self.phase.evidence_mut()?;
        evidence.cancelled(n);
        let reason = policy.no_completions(evidence.tally());
        self.act(reason, None, now, policy, draw)
    }

    /// Judges the evidence as it is. To be called when [`set_overdue`](Self::set_overdue) has
    /// changed it: results judge it by themselves.
    pub(crate) fn judge(&mut self, now: Timestamp, policy: &Policy, draw: u64) -> Option<Event> {
        self.look_again(now, policy);
        let reason = policy.judge(self.phase.evidence()?.tally());
        self.act(reason, None, now, policy, draw)
    }

    /// Sets how many calls are still running that are slow already. They are part of the evidence
    /// until the number is set again, or new evidence starts.
    pub(crate) fn set_overdue(&mut self, n: u64) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.set_overdue(n);
        }
    }

    /// Calls in a row that were cancelled or failed, and those of them that failed.
    pub(crate) fn run(&self) -> (u64, u64) {
        self.phase.evidence().map_or((0, 0), Evidence::run)
    }

    /// How many calls are still running that are slow already, as it was set last.
    pub(crate) fn overdue(&self) -> u64 {
        self.phase.evidence().map_or(0, Evidence::overdue)
    }

    /// A call was answered, and leaves no evidence but this: it ends a run of cancelled calls.
    pub(crate) fn completed(&mut self) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.completed();
        }
    }

    /// Adds a run of successes that were counted elsewhere and cannot trip.
    pub(crate) fn successes(&mut self, n: u64) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.successes(n);
        }
    }

    /// Lets go of evidence that has become too old.
    pub(crate) fn slide(&mut self, now: Timestamp) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.slide(now);
        }
    }

    /// Whether one more success, not a slow one, could change anything but a count. As long as it
    /// cannot, successes may be counted elsewhere and added later with
    /// [`successes`](Self::successes).
    pub(crate) fn success_matters(&self, policy: &Policy) -> bool {
        match &self.phase {
            Phase::Closed(evidence) | Phase::MetricsOnly { evidence, .. } => {
                evidence.run().0 > 0
                    || policy.success_can_trip(evidence.tally(), evidence.overdue())
            }
            Phase::ForcedClosed(evidence) => evidence.run().0 > 0,
            Phase::Disabled => false,
            Phase::Open { .. } | Phase::HalfOpen(_) | Phase::ForcedOpen => true,
        }
    }

    /// Slides the evidence, and notices if it has fallen below what was told.
    fn look_again(&mut self, now: Timestamp, policy: &Policy) {
        self.slide(now);
        if let Phase::MetricsOnly { evidence, told } = &mut self.phase {
            *told = still(*told, policy, evidence);
        }
    }

    /// Does what the phase does when evidence meets a condition, or has stopped to.
    fn act(
        &mut self,
        reason: Option<Reason>,
        hint: Option<Duration>,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Event> {
        match &mut self.phase {
            Phase::Closed(_) => {
                let transition = self.open(reason?, hint, (now, now), policy, draw);
                Some(Event::Transition(transition))
            }
            Phase::MetricsOnly { evidence, told } => {
                *told = still(*told, policy, evidence);
                let reason = reason.filter(|_| *told == Told::Nothing)?;
                let run = reason == Reason::NoCompletions;
                *told = if run { Told::Run } else { Told::Condition };
                Some(Event::WouldTrip { reason })
            }
            _ => None,
        }
    }
}

/// What was told, as long as there is something that would open the circuit.
fn still(told: Told, policy: &Policy, evidence: &Evidence) -> Told {
    let tally = evidence.tally();
    let holds = match told {
        Told::Nothing => false,
        // A run of failures alone is none of calls without completions.
        Told::Condition => policy.judge(tally).is_some(),
        Told::Run => policy.judge(tally).or_else(|| policy.no_completions(tally)).is_some(),
    };
    if holds { told } else { Told::Nothing }
}
