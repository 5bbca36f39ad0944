//! What the lock does for a circuit that a backend shares.

use tokio::sync::oneshot;

use super::grant::Grant;
use super::locked::Locked;
use super::synced::Signal;
use crate::backend::{Lease, OverrideChange, View};
use crate::machine::{Event, LeaseId, Reason, Transition, Verdict};
use crate::name::CircuitName;
use crate::sync::{
    Acknowledgement, Agenda, CircuitSync, Command, Context, Effects, Input, Pace, Reported, Totals,
    Unclaimed, left,
};
use crate::timestamp::Timestamp;

/// What happened here.
impl Locked {
    pub(super) fn transitioned(&mut self, transition: &Transition) {
        let Some(synced) = &mut self.synced else { return };
        synced.sync.transitioned(transition, &self.policy, &self.machine);
        synced.signal(Signal::Now);
    }

    pub(super) fn settle(&mut self, lease: LeaseId, verdict: Verdict) {
        let Some(synced) = &mut self.synced else { return };
        let failed = matches!(verdict, Verdict::Failed { reason: Reason::ProbeFailed, .. });
        let error = self.last_failure.text().filter(|_| failed);
        synced.sync.settle(lease, verdict, error, &self.policy, &self.machine);
        synced.signal(Signal::Now);
    }

    /// Sends a change of the override to the backend, if there is one.
    pub(super) fn send_override(
        &mut self,
        change: OverrideChange,
        now: Timestamp,
    ) -> Option<Acknowledgement> {
        if self.has_left {
            let (waiter, answer) = oneshot::channel();
            // It is received below.
            let _ = waiter.send(Err(left()));
            return Some(answer);
        }
        let mut effects = Effects::default();
        let synced = self.synced.as_mut()?;
        let answer = synced.sync.change_override(change, now, &mut effects);
        synced.signal(Signal::Now);
        self.take_effects(effects, now);
        Some(answer)
    }

    /// Proposes to all that the open interval of the cluster ends. Returns false if there is none.
    pub(super) fn propose_to_probe(&mut self) -> bool {
        let Some(synced) = &mut self.synced else { return false };
        let proposed = synced.sync.propose_to_probe(&self.machine);
        if proposed {
            synced.signal(Signal::Now);
        }
        proposed
    }

    pub(super) fn end_shared_override(&mut self, reason: Reason, now: Timestamp) {
        self.with_sync(Pace::default(), now, |sync, cx| sync.end_override(reason, cx));
    }
}

/// What the replicator does.
impl Locked {
    /// Takes an input. Returns what is to be sent then.
    pub(super) fn apply(&mut self, input: Input<'_>, pace: Pace, now: Timestamp) -> Agenda {
        self.with_sync(pace, now, |sync, cx| sync.on(input, cx));
        self.agenda(pace)
    }

    pub(super) fn agenda(&mut self, pace: Pace) -> Agenda {
        let Some(synced) = &mut self.synced else { return Agenda::default() };
        let agenda = synced.sync.agenda(&self.policy, &self.machine, pace);
        synced.looked(&agenda);
        agenda
    }

    pub(super) fn command(&mut self, now: Timestamp) -> Option<Command> {
        self.synced.as_mut()?.sync.command(now, &self.policy)
    }

    pub(super) fn report(&mut self, name: &CircuitName, now: Timestamp) -> Reported {
        let Self { synced, policy, machine, .. } = self;
        let Some(synced) = synced else { return Reported::Nothing };
        synced.sync.report(name, policy, machine, now)
    }

    /// Leaves the cluster: from here on the circuit belongs to this process.
    pub(super) fn leave(&mut self, now: Timestamp) {
        self.with_sync(Pace::default(), now, CircuitSync::leave);
        let synced = self.synced.take();
        self.has_left |= synced.is_some();
        self.renewed = true;
        self.later.push(Box::new(|| drop(synced)));
    }

    fn with_sync<R>(
        &mut self,
        pace: Pace,
        now: Timestamp,
        f: impl FnOnce(&mut CircuitSync, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let mut effects = Effects::default();
        let last_error = self.last_failure.text();
        let Self { synced, machine, policy, .. } = self;
        let effects_of = &mut effects;
        let mut context = Context { machine, policy, pace, now, last_error, effects: effects_of };
        let result = f(&mut synced.as_mut()?.sync, &mut context);
        self.take_effects(effects, now);
        Some(result)
    }

    fn take_effects(&mut self, effects: Effects, now: Timestamp) {
        if effects.new_phase {
            self.begin_phase(now);
        }
        if effects.is_first_view {
            for event in &effects.events {
                if let Event::Transition(transition) = event {
                    self.entered(transition);
                }
            }
        } else {
            self.happened(effects.events);
        }
        for confirmation in effects.confirmations {
            self.later.push(Box::new(|| confirmation.send()));
        }
    }
}

/// Leases.
impl Locked {
    /// Returns the generation to ask in, if the circuit may ask for a lease now.
    pub(super) fn begin_asking(&mut self) -> Option<u64> {
        let Self { synced, machine, .. } = self;
        synced.as_mut()?.sync.begin_asking(machine)
    }

    pub(super) fn end_asking(&mut self) {
        if let Some(synced) = &mut self.synced {
            synced.sync.end_asking();
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.synced.as_ref().is_some_and(|synced| synced.sync.is_asking())
    }

    /// Applies a lease, which was `asked` for at that time. Returns the grant, if it is for the
    /// caller and not for the next one.
    pub(super) fn granted(
        &mut self,
        lease: Lease,
        view: &View,
        unclaimed: Unclaimed,
        asked: Timestamp,
        now: Timestamp,
    ) -> Option<Grant> {
        self.applied(view, asked, now);
        let Self { synced, machine, .. } = self;
        let synced = synced.as_mut()?;
        // The replicator is to look when the lease expires.
        synced.signal(Signal::Now);
        let id = synced.sync.granted(lease, unclaimed, asked, machine)?;
        Some(Grant::probe(self.epoch, id))
    }

    /// Applies the view that came with no lease. Returns the generation that is known now, and
    /// whether it is known when to ask again.
    pub(super) fn refused(&mut self, view: &View, asked: Timestamp, now: Timestamp) -> (u64, bool) {
        self.applied(view, asked, now);
        let Self { synced, machine, .. } = self;
        let Some(synced) = synced else { return (View::FIRST, false) };
        let known = synced.sync.refused(view, machine, now);
        (synced.sync.generation(), known)
    }

    fn applied(&mut self, view: &View, asked: Timestamp, now: Timestamp) {
        let totals = Totals::Absent;
        let input = Input::Answer { view, asked, at: now, totals };
        self.with_sync(Pace::default(), now, |sync, cx| sync.on(input, cx));
        if let Some(synced) = &mut self.synced {
            synced.signal(Signal::Now);
        }
    }
}
