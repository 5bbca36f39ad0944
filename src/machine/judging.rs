//! What results do to a circuit that keeps evidence.

use std::time::Duration;

use super::phase::Phase;
use super::reason::Reason;
use super::transition::Event;
use super::window::{Evidence, Mark};
use super::{Effect, Ended, Machine};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

impl Machine {
    /// Records how a call of this generation ended, and returns what that caused.
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
                return notify(self.cancelled(1, now, policy, draw));
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
        // Failures have conditions of their own: a run without a cancelled call is no run of calls
        // without completions.
        let run = policy.no_completions(tally).filter(|_| ended.cancelled);
        notify(self.act(policy.met(tally).chain(run), hint, now, policy, draw))
    }

    /// Adds `n` calls that were cancelled and leave no other evidence.
    ///
    /// When as many consecutive calls as the policy's minimum were cancelled or failed, the circuit
    /// opens: a timeout outside the circuit breaker hides from it that the upstream hangs. Where
    /// cancelled calls count as nothing, they do not add up either.
    pub(crate) fn cancelled(
        &mut self,
        n: u64,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Vec<Event> {
        if n == 0 || policy.ignores_cancelled() {
            return Vec::new();
        }
        self.look_again(now, policy);
        let Some(evidence) = self.phase.evidence_mut() else { return Vec::new() };
        evidence.cancelled(n);
        let run = policy.no_completions(evidence.tally());
        self.act(run.into_iter(), None, now, policy, draw)
    }

    /// Judges the evidence as it is. Call it when [`set_overdue`](Self::set_overdue) has changed
    /// it; results judge it by themselves.
    pub(crate) fn judge(&mut self, now: Timestamp, policy: &Policy, draw: u64) -> Vec<Event> {
        self.look_again(now, policy);
        self.act(policy.met(self.tally()), None, now, policy, draw)
    }

    /// Sets how many running calls are slow already. They are part of the evidence until the number
    /// is set again, or new evidence starts.
    pub(crate) fn set_overdue(&mut self, n: u64) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.set_overdue(n);
        }
    }

    /// Returns how many consecutive calls were cancelled or failed, and how many consecutive calls
    /// failed.
    pub(crate) fn run(&self) -> (u64, u64) {
        self.phase.evidence().map_or((0, 0), Evidence::run)
    }

    /// Returns how many running calls are slow already, as it was set last.
    pub(crate) fn overdue(&self) -> u64 {
        self.phase.evidence().map_or(0, Evidence::overdue)
    }

    /// Records an answer that leaves no evidence but this: it ends a run of cancelled calls.
    pub(crate) fn completed(&mut self) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.completed();
        }
    }

    /// Adds successes that were counted elsewhere and cannot trip.
    pub(crate) fn successes(&mut self, n: u64) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.successes(n);
        }
    }

    /// Drops evidence that has become too old.
    pub(crate) fn slide(&mut self, now: Timestamp) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.slide(now);
        }
    }

    /// Returns whether one more success that is not slow could change anything but a count. As long
    /// as it cannot, successes may be counted elsewhere and added later with
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

    /// Slides the evidence, and notices which of the reported conditions it no longer meets.
    fn look_again(&mut self, now: Timestamp, policy: &Policy) {
        self.slide(now);
        if let Phase::MetricsOnly { evidence, reported } = &mut self.phase {
            let tally = evidence.tally();
            reported.retain(|condition| policy.meets(condition, tally));
        }
    }

    /// Acts as the phase requires on the conditions that its evidence meets, in their order. A
    /// closed circuit opens because of the first; a metrics-only one reports each.
    fn act(
        &mut self,
        mut conditions: impl Iterator<Item = Reason>,
        hint: Option<Duration>,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Vec<Event> {
        match &mut self.phase {
            Phase::Closed(_) => match conditions.next() {
                Some(reason) => {
                    let transition = self.open(reason, hint, (now, now), policy, draw);
                    vec![Event::Transition(transition)]
                }
                None => Vec::new(),
            },
            Phase::MetricsOnly { evidence, reported } => {
                let tally = evidence.tally();
                reported.retain(|condition| policy.meets(condition, tally));
                conditions
                    .filter(|condition| reported.insert(*condition))
                    .map(|reason| Event::WouldTrip { reason })
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

fn notify(events: Vec<Event>) -> Option<Effect> {
    (!events.is_empty()).then_some(Effect::Notify(events))
}
