//! A circuit detaches from the backend, and comes back.

use std::mem::take;
use std::time::Duration;

use super::circuit::{CircuitSync, Context, Detached, SyncState};
use super::inbound::is_absent;
use crate::backend::{Move, OpenTerms, RecordState, View};
use crate::machine::{Backing, Reason, State};

/// A circuit that is refused again and again is tried after twice as long each time, up to so many
/// times, and up to the longest wait.
const MOST_DOUBLINGS: u32 = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(15);

impl CircuitSync {
    /// From here on the circuit decides without the backend.
    pub(super) fn detach(&mut self, mut why: Detached, cx: &mut Context<'_>) {
        if let Detached::Refused { retry, .. } = &mut why {
            // Each try ends what the circuit's own probes have found: it needs time to close.
            let wait = retry.since(cx.now) * (1 << self.refusals.min(MOST_DOUBLINGS));
            *retry = cx.now.after(wait.min(LONGEST_WAIT));
            self.refusals = self.refusals.saturating_add(1);
        }
        if let SyncState::Detached(known) = &mut self.state {
            *known = why;
            return;
        }
        self.state = SyncState::Detached(why);
        self.outbox.restore = false;
        cx.machine.set_backing(Backing::Detached);
        let generation = self.followed.generation;
        for settled in take(&mut self.outbox.settled) {
            if settled.lease.generation == generation {
                let draw = fastrand::u64(..);
                if let Some(transition) =
                    cx.machine.settle(settled.verdict, cx.now, cx.policy, draw)
                {
                    cx.effects.began(Some(transition));
                }
            }
        }
    }

    /// The backend answers, and `known` is its view: the circuit follows it again.
    pub(super) fn attach(&mut self, cx: &mut Context<'_>) {
        if self.is_synced() {
            return;
        }
        if let SyncState::Detached(Detached::Refused { retry, .. }) = &self.state
            && *retry > cx.now
        {
            return;
        }
        let first = self.state == SyncState::Unknown;
        cx.effects.is_first_view = first;
        self.state = SyncState::Synced;
        cx.machine.set_backing(Backing::Attached);
        self.voted = false;
        // Not of the revision: in the same phase, this replica may still have gone on by itself.
        let ahead = first
            || self.known.generation > self.followed.generation
            || !self.known.state.is_like(&self.followed.state);
        // What was only pushed may be forged: it is not restored.
        let hinted = self.hint.take().is_some();
        let lost = !hinted && self.known.generation < self.followed.generation;
        let overridden = cx.machine.state().is_overridden();
        let nothing_lost = is_absent(&self.known) && cx.machine.state() == State::Closed;
        if lost && !nothing_lost {
            // The backend has lost it, and this replica still finds the upstream failing.
            let (view, at) = (self.followed.clone(), self.followed_at);
            self.known = View { overridden: take(&mut self.known.overridden), ..view };
            self.at = at;
            self.outbox.restore = true;
        }
        let generation = self.followed.generation;
        self.follow_known(cx);
        let same = self.followed.generation == generation;
        if same && !ahead && !overridden && !cx.machine.state().is_overridden() {
            self.reconcile(cx);
        }
    }

    /// The backend is where it was, but this replica may have gone on.
    fn reconcile(&mut self, cx: &mut Context<'_>) {
        let until = match self.current(cx.now).state {
            RecordState::Closed => return self.reconcile_closed(cx),
            RecordState::Open { remaining, .. } => cx.now.after(remaining),
            RecordState::HalfOpen { .. } => cx.now,
        };
        match cx.machine.state() {
            // Closed by its own probes.
            State::Closed if until <= cx.now => {
                self.outbox.proposal = Some(Move::Closed { reason: Reason::ProbesSucceeded });
            }
            // Opened again by its own probes: the later end holds, unless the others probe by now.
            State::Open => {
                let own = cx.machine.rejects_until(cx.policy).unwrap_or(cx.now);
                self.apply_until(Some(until.max(own)), None, cx);
            }
            _ => self.apply(None, cx),
        }
    }

    /// The backend stayed closed. What this replica opened by itself is proposed for the rest of
    /// its interval, and not at all if this replica probes already.
    fn reconcile_closed(&mut self, cx: &mut Context<'_>) {
        let remaining = match cx.machine.state() {
            State::Open => cx.machine.rejects_until(cx.policy).map(|until| until.since(cx.now)),
            _ => None,
        };
        let Some(Move::Open { terms, reason, tally, last_error }) = self.trip.take() else {
            return;
        };
        if let Some(interval) = remaining.filter(|remaining| !remaining.is_zero()) {
            let terms = OpenTerms { interval, ..terms };
            self.trip = Some(Move::Open { terms, reason, tally, last_error });
        } else {
            // Nor is what had opened it reported.
            self.drop_evidence(cx.policy);
        }
    }
}
