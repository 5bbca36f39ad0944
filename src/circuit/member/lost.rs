//! The ledger is lost, and found again.

use std::mem::take;

use super::Heard;
use crate::backend::{Move, OpenTerms, RecordState, View};
use crate::circuit::locked::Locked;
use crate::machine::{Event, Ledger, Reason, State};
use crate::timestamp::Timestamp;

impl Locked {
    /// The ledger cannot be reached: from here on this replica decides alone.
    pub(in crate::circuit) fn detach(&mut self, now: Timestamp) {
        let Some(member) = &mut self.member else { return };
        member.known = true;
        member.restore = false;
        if self.machine.ledger() == Ledger::Lost {
            return;
        }
        self.machine.set_ledger(Ledger::Lost);
        let generation = member.view.generation;
        for settled in take(&mut member.settled) {
            if settled.lease.generation != generation {
                continue;
            }
            let draw = fastrand::u64(..);
            let transition = self.machine.settle(settled.verdict, now, &self.policy, draw);
            self.happened(transition.map(Event::Transition));
        }
    }

    /// There is no ledger any more: from here on the circuit is this process's own.
    pub(in crate::circuit) fn leave(&mut self, now: Timestamp) {
        self.detach(now);
        self.machine.set_ledger(Ledger::None);
        let member = self.member.take();
        self.later.push(Box::new(|| drop(member)));
    }

    /// The ledger is back, and this is its view.
    pub(in crate::circuit) fn rejoin(&mut self, view: &View, now: Timestamp) {
        if self.machine.ledger() == Ledger::Lost {
            self.machine.set_ledger(Ledger::Reachable);
        }
        let Some(member) = &mut self.member else { return };
        let ahead = view.generation > member.view.generation;
        member.voted = false;
        self.adopt(view, Heard::Answered, now);
        if !ahead && !self.machine.state().is_overridden() {
            self.reconcile(now);
        }
    }

    /// The ledger stayed closed. What this replica opened alone is proposed to all for as long as it
    /// is still to last, and not at all where this replica already looks if it is over.
    fn reconcile_closed(&mut self, now: Timestamp) {
        let remaining = match self.machine.state() {
            State::Open => self.machine.rejects_until(&self.policy).map(|until| until.since(now)),
            _ => None,
        };
        let Some(member) = &mut self.member else { return };
        let Some(Move::Open { terms, reason, tally }) = member.trip else { return };
        if let Some(interval) = remaining.filter(|remaining| !remaining.is_zero()) {
            let terms = OpenTerms { interval, ..terms };
            member.trip = Some(Move::Open { terms, reason, tally });
        } else {
            member.trip = None;
            // Nor is what had opened it told.
            member.reshape(&self.policy, now);
        }
    }

    /// The ledger is where it was when it was lost, or behind that and will be brought there; but this
    /// replica may have gone on.
    fn reconcile(&mut self, now: Timestamp) {
        let Some(member) = &mut self.member else { return };
        let until = match member.current(now).state {
            RecordState::Closed => return self.reconcile_closed(now),
            RecordState::Open { remaining, .. } => now.after(remaining),
            RecordState::HalfOpen { .. } => now,
        };
        match self.machine.state() {
            // Closed by its own probes.
            State::Closed if until <= now => {
                member.proposal = Some(Move::Closed { reason: Reason::ProbesSucceeded });
                member.hurry();
            }
            // Opened again by its own probes: the later end holds, unless the others probe by now.
            State::Open => {
                let own = self.machine.rejects_until(&self.policy).unwrap_or(now);
                self.follow(Some(until.max(own)), now);
            }
            _ => self.follow(None, now),
        }
    }
}
