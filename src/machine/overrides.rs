//! What operators do to a circuit: law 7.

use std::sync::Arc;

use super::Machine;
use super::override_record::{Beneath, InForce, OverrideRecord};
use super::phase::{Origin, OverrideState, Phase, State};
use super::reason::Reason;
use super::reported::Reported;
use super::transition::Transition;
use super::window::Evidence;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

impl Machine {
    /// Puts an override in force, in place of an earlier one if there is one.
    ///
    /// Returns `None`, and changes nothing, if the same override is in force and ends at the same
    /// time.
    pub(crate) fn force(
        &mut self,
        record: Arc<OverrideRecord>,
        origin: Origin,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Transition> {
        let ends = record.ends(now);
        let same = |known: &InForce| known.record.says_as(&record) && known.ends == ends;
        if self.in_force.as_ref().is_some_and(same) {
            return None;
        }
        let beneath = self.beneath(now);
        let evidence = || Evidence::new(policy.window(), now);
        let phase = match record.state {
            OverrideState::ForcedOpen => Phase::ForcedOpen,
            OverrideState::ForcedClosed => Phase::ForcedClosed(evidence()),
            OverrideState::Disabled => Phase::Disabled,
            OverrideState::MetricsOnly => {
                Phase::MetricsOnly { evidence: evidence(), reported: Reported::default() }
            }
        };
        self.reopenings = 0;
        self.origin = origin;
        let transition = self.enter(phase, Reason::Override);
        self.in_force = Some(InForce { record: record.clone(), ends, beneath });
        Some(Transition { overridden: Some(record), ..transition })
    }

    /// Ends the override in force, and gives back the state beneath it. Returns `None` if there is
    /// no override.
    ///
    /// An open phase beneath it goes on until its own end. If that passed during the override, the
    /// circuit is open with its interval over: the next call is a probe, because nothing has shown
    /// that the upstream works.
    pub(crate) fn end_override(
        &mut self,
        reason: Reason,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Transition> {
        let Some(Beneath { until, reopenings, origin }) = self.in_force.as_ref()?.beneath else {
            return self.reset(reason, policy, now);
        };
        (self.reopenings, self.origin) = (reopenings, origin);
        let transition = self.enter(Phase::Open { until }, reason);
        Some(Transition { open_for: Some(until.since(now)), ..transition })
    }

    /// Closes the circuit without evidence, whatever its state was, and whatever is beneath an
    /// override.
    ///
    /// Returns `None` if it was closed before. Its evidence is dropped and a new generation begins
    /// then too.
    pub(crate) fn reset(
        &mut self,
        reason: Reason,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Transition> {
        self.reopenings = 0;
        self.origin = Origin::Local;
        let transition = self.enter(Phase::Closed(Evidence::new(policy.window(), now)), reason);
        (transition.from != State::Closed).then_some(transition)
    }

    /// Ends the open interval now, so that the next call is a probe. Returns `None` if the circuit
    /// is not open, or if the cluster decides when it probes.
    pub(crate) fn probe_now(&mut self, now: Timestamp) -> Option<Transition> {
        let open = self.state() == State::Open && !self.asks_backend();
        open.then(|| self.enter(Phase::Open { until: now }, Reason::Override))
    }

    /// Returns the override in force, as it was when it began.
    pub(crate) fn overridden(&self) -> Option<&Arc<OverrideRecord>> {
        self.in_force.as_ref().map(|known| &known.record)
    }

    /// Returns whether the override in force covers an open phase that this process decided. A
    /// phase of the cluster must be [applied](Self::apply) again instead when the override ends,
    /// because the record may have moved on.
    pub(crate) fn covers_own_phase(&self) -> bool {
        let beneath = self.in_force.as_ref().and_then(|known| known.beneath);
        beneath.is_some_and(|beneath| beneath.origin == Origin::Local)
    }

    /// Returns whether calls pass only until the override in force ends, because it covers an open
    /// phase. Then each admission must look at the time.
    pub(crate) fn passes_for_a_time(&self) -> bool {
        let timed = |known: &InForce| known.beneath.is_some() && known.ends < Timestamp::NEVER;
        self.state().passes_all() && self.in_force.as_ref().is_some_and(timed)
    }

    /// Returns when the open interval beneath the override in force ends.
    pub(crate) fn beneath_until(&self) -> Option<Timestamp> {
        self.in_force.as_ref()?.beneath.map(|beneath| beneath.until)
    }

    /// Returns when the override in force ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.in_force.as_ref().map_or(Timestamp::NEVER, |known| known.ends)
    }

    /// Corrects when the override in force ends: the backend's time is more exact. To prolong an
    /// override, [`force`](Self::force) it again, which observers see.
    pub(crate) fn set_ends(&mut self, ends: Timestamp) {
        if let Some(known) = &mut self.in_force {
            known.ends = ends;
        }
    }

    /// Returns the open phase that an override is about to cover, or covers already. A half-open
    /// one counts as open with its interval over.
    fn beneath(&self, now: Timestamp) -> Option<Beneath> {
        let (reopenings, origin) = (self.reopenings, self.origin);
        match &self.phase {
            Phase::Open { until } => Some(Beneath { until: *until, reopenings, origin }),
            Phase::HalfOpen(_) => Some(Beneath { until: now, reopenings, origin }),
            _ => self.in_force.as_ref()?.beneath,
        }
    }
}
