//! What the ledger says.

use std::mem::{replace, take};

use super::{ASK_AGAIN, Heard, LEASE_MARGIN, Unclaimed};
use crate::backend::{Lease, Move, OpenTerms, RecordState, View};
use crate::circuit::grant::Grant;
use crate::circuit::locked::Locked;
use crate::machine::{Event, LeaseId, Reason, Shared};
use crate::timestamp::Timestamp;

/// Views.
impl Locked {
    /// Takes on what a view says that is newer than what is known.
    pub(in crate::circuit) fn adopt(&mut self, view: &View, heard: Heard, now: Timestamp) {
        let by_hand = self.machine.state().is_overridden();
        let Some(member) = &mut self.member else { return };
        member.known = true;
        let first = !replace(&mut member.heard, true);
        let known = &member.view;
        let behind = view.rank() < known.rank() && known.generation > View::FIRST;
        let forgot = heard == Heard::Answered
            && (behind || view.overridden.version < known.overridden.version);
        let newer = view.rank() > known.rank();
        let next = view.generation > known.generation;
        let hand = view.overridden.version > known.overridden.version;
        let same = view.state.is_like(&known.state);
        if forgot {
            member.restore = true;
            member.hurry();
        }
        if newer {
            let overridden = take(&mut member.view.overridden);
            member.view = View { overridden, ..view.clone() };
            member.at = now;
        }
        if hand {
            member.view.overridden = view.overridden.clone();
            member.imposed_at = now;
        }
        if next {
            member.reshape(&self.policy, now);
            (member.trip, member.proposal, member.voted) = (None, None, false);
        }
        if behind {
            member.voted = false;
        }
        if hand
            && !member.imposing
            && let Some(mut wish) = member.wish.take()
        {
            if first {
                // Whoever wished could not know what had been set before.
                wish.version = view.overridden.version;
                member.wish = Some(wish);
            } else {
                self.later.push(wish.outrun(member.view.overridden.record.as_ref()));
            }
        }
        // What was set here since is still to be told, and holds until then.
        let hand = hand && member.wish.is_none();
        let setting = member.view.overridden.record.clone();
        match setting {
            Some(setting) if hand => self.take_on(setting, now),
            None if hand && by_hand => self.follow(None, now),
            _ if by_hand => {}
            _ if next || newer && !same => self.follow(None, now),
            _ if newer => self.hear(Timestamp::default()),
            _ => {}
        }
    }

    /// The answer to what a hand has set here.
    pub(in crate::circuit) fn imposed(&mut self, view: &View, now: Timestamp) {
        self.adopt(view, Heard::Answered, now);
        let Some(member) = &mut self.member else { return };
        member.imposing = false;
        if let Some(later) = &mut member.wish {
            later.version = member.view.overridden.version;
        }
    }

    /// Judges what all replicas have counted.
    pub(in crate::circuit) fn judge_shared(&mut self, view: &View) {
        let Some(member) = &mut self.member else { return };
        let current = view.generation == member.view.generation
            && view.state == RecordState::Closed
            && member.view.state == RecordState::Closed;
        if !current || self.machine.state().is_overridden() {
            return;
        }
        let policy = &self.policy;
        let elected = member.trip.filter(|_| view.votes >= policy.quorum());
        member.proposal = elected.or_else(|| {
            let reason = policy.judge_shared(view.tally, &view.shares)?;
            let interval = policy.open_interval(0, None, fastrand::u64(..));
            let terms = OpenTerms {
                interval,
                reopenings: 0,
                probes: policy.probes(),
                lease: policy.probe_lease(),
                successes_to_close: policy.successes_to_close(),
            };
            Some(Move::Open { terms, reason, tally: view.tally })
        });
    }

    /// The ledger was asked for a lease, and gave none. False if that does not tell when to come back.
    pub(in crate::circuit) fn refused(&mut self, view: &View, now: Timestamp) -> bool {
        let Some(member) = &mut self.member else { return false };
        if view.generation != member.view.generation || self.machine.state().is_overridden() {
            return false;
        }
        match view.state {
            RecordState::Open { .. } => {
                (member.view.state, member.at) = (view.state, now);
                self.hear(Timestamp::default());
            }
            RecordState::HalfOpen { next_expiry, .. } => {
                let wait = next_expiry.unwrap_or_default().min(ASK_AGAIN);
                self.hear(now.after(wait));
            }
            RecordState::Closed => {}
        }
        true
    }

    /// The ledger was asked for a lease, and gave one. Unless it is to be kept for who comes next,
    /// it is granted at once. It has been running since some time after it was `asked` for.
    pub(in crate::circuit) fn give(
        &mut self,
        lease: Lease,
        unclaimed: Unclaimed,
        asked: Timestamp,
    ) -> Option<Grant> {
        let id = LeaseId(lease.nonce);
        let member = self.member.as_mut()?;
        let current = member.view.generation == lease.generation;
        // The keeper is to look when the lease runs out.
        member.hurry();
        let ours = lease.remaining.saturating_sub((lease.remaining / 10).min(LEASE_MARGIN));
        if !current || !self.machine.give(id, asked.after(ours)) {
            // Of a round that is over; or of one in which a hand has stepped: the place is free
            // again when the lease runs out.
            return None;
        }
        (unclaimed == Unclaimed::GiveBack && self.machine.claim(id))
            .then(|| Grant::probe(self.epoch, id))
    }

    /// Whether this is who may ask the ledger now: one at a time.
    pub(in crate::circuit) fn begin_asking(&mut self) -> Option<u64> {
        let asks = self.machine.asks();
        let member = self.member.as_mut()?;
        let free = asks && !member.asking;
        free.then(|| {
            member.asking = true;
            member.view.generation
        })
    }

    pub(in crate::circuit) fn end_asking(&mut self) {
        if let Some(member) = &mut self.member {
            member.asking = false;
        }
    }

    pub(in crate::circuit) fn is_asking(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.asking)
    }

    /// The generation that is known of the ledger.
    pub(in crate::circuit) fn shared_generation(&self) -> u64 {
        self.member.as_ref().map_or(View::FIRST, |member| member.view.generation)
    }

    /// Goes to the ledger's state; if that is open, until another time than its own.
    pub(super) fn follow(&mut self, until: Option<Timestamp>, now: Timestamp) {
        let Some(member) = &self.member else { return };
        let shared = match (member.shared(), until) {
            (Shared::Open { reopenings, .. }, Some(until)) => Shared::Open { until, reopenings },
            (shared, _) => shared,
        };
        let (generation, reason) = (member.view.generation, member.view.reason);
        let reason = reason.unwrap_or(Reason::Override);
        let transition = self.machine.adopt(shared, generation, reason, now, &self.policy);
        self.begin_phase(now);
        self.happened(transition.map(Event::Transition));
    }

    pub(super) fn hear(&mut self, refused_until: Timestamp) {
        let Some(member) = &self.member else { return };
        self.machine.hear(member.shared(), refused_until);
    }
}
