//! What the ledger is to be told.

use std::mem::take;
use std::time::Duration;

use super::{Counted, Draft, News, Ring, Settled, VOTE, Work};
use crate::backend::{Delta, Geometry, Lease, Move, OpenTerms, Probed, RecordState};
use crate::circuit::locked::{Later, Locked};
use crate::machine::{LeaseId, Origin, Reason, State, Transition, Verdict};
use crate::timestamp::Timestamp;

/// A transition, and a probe's end, as the cluster is to know of them.
impl Locked {
    pub(in crate::circuit) fn note(&mut self, transition: &Transition, now: Timestamp) {
        let terms = self.terms(transition.open_for.unwrap_or_default());
        let Some(member) = &mut self.member else { return };
        if member.view.state != RecordState::Closed || transition.origin != Origin::Local {
            return;
        }
        match transition.to {
            State::Open => {
                let Transition { reason, tally, .. } = *transition;
                member.trip = Some(Move::Open { terms, reason, tally });
                member.proposal = None;
                member.voted = false;
                member.hurry();
            }
            State::Closed => {
                member.trip = None;
                // What had opened it is paid for, by the ledger too.
                member.reshape(&self.policy, now);
            }
            _ => {}
        }
    }

    /// What an open phase of so long shall obey.
    fn terms(&self, interval: Duration) -> OpenTerms {
        OpenTerms {
            interval,
            reopenings: self.machine.reopenings(),
            probes: self.policy.probes(),
            lease: self.policy.probe_lease(),
            successes_to_close: self.policy.successes_to_close(),
        }
    }

    pub(in crate::circuit) fn settle(&mut self, lease: LeaseId, verdict: Verdict) {
        let reopenings = self.machine.reopenings().saturating_add(1);
        let probed = match verdict {
            Verdict::Passed => Probed::Passed,
            Verdict::Released => Probed::Released,
            Verdict::Failed { reason, hint } => {
                let interval = self.policy.open_interval(reopenings, hint, fastrand::u64(..));
                let terms = OpenTerms { reopenings, ..self.terms(interval) };
                Probed::Failed { terms, reason }
            }
        };
        let Some(member) = &mut self.member else { return };
        let lease =
            Lease { generation: member.view.generation, nonce: lease.0, remaining: Duration::ZERO };
        member.settled.push(Settled { lease, probed, verdict });
        member.hurry();
    }
}

/// Work, as the keeper takes it.
impl Locked {
    /// Takes what the ledger is to be told, reports apart.
    pub(in crate::circuit) fn work(&mut self, now: Timestamp) -> Option<Work> {
        for lease in self.machine.run_out(now) {
            self.settle(lease, Verdict::Failed { reason: Reason::ProbeExpired, hint: None });
        }
        let next_expiry = self.machine.next_expiry();
        let quorum = self.policy.quorum();
        let member = self.member.as_mut()?;
        member.ring = Ring::Silent;
        // One whose time is over is nothing to tell any more.
        let (over, wish) = match member.wish.take() {
            Some(wish) if wish.is_over(now) => (Some(wish), None),
            wish => (None, wish),
        };
        self.later.extend(over.map(|wish| -> Later { Box::new(|| drop(wish)) }));
        member.imposing = wish.is_some();
        let restore = take(&mut member.restore).then(|| member.current(now));
        // Alone, this replica's own evidence is enough.
        let own = member.trip.filter(|_| quorum == 1);
        let proposal = member.proposal.take().or(own);
        let vote = member.trip.is_some() && !member.voted && quorum > 1;
        Some(Work {
            settled: take(&mut member.settled),
            wish,
            restore,
            proposal: proposal.map(|to| (member.view.generation, to)),
            news: if vote { News::Alarm } else { member.news },
            failing_since: member.failing_since,
            next_expiry,
            closed: member.view.state == RecordState::Closed,
        })
    }

    /// A report, which takes along what was counted, or nothing.
    pub(in crate::circuit) fn draft(&mut self, counted: Counted, now: Timestamp) -> Option<Draft> {
        let window = Geometry::of(&self.policy);
        let votes = self.policy.quorum() > 1;
        let member = self.member.as_mut()?;
        let lasting = window.map_or(VOTE, |window| Duration::from_millis(window.millis));
        let mut draft = Draft {
            generation: member.view.generation,
            delta: Delta::default(),
            window,
            vote: member.trip.filter(|_| votes).map(|_| lasting),
            shares: votes,
        };
        if counted == Counted::All {
            draft.delta = member.delta(now);
            member.voted = draft.vote.is_some();
            member.reshape(&self.policy, now);
        }
        Some(draft)
    }

    /// Takes back what could not be told.
    pub(in crate::circuit) fn untold(&mut self, work: Work) {
        let Some(member) = &mut self.member else { return };
        let generation = member.view.generation;
        let current = work.settled.into_iter().filter(|s| s.lease.generation == generation);
        member.settled.extend(current);
        member.imposing = false;
        match work.wish {
            Some(wish) if member.view.overridden.version > wish.version => {
                self.later.push(wish.outrun(member.view.overridden.record.as_ref()));
            }
            // A newer one has taken its place.
            Some(wish) if member.wish.is_some() => {
                self.later.push(Box::new(|| drop(wish)));
            }
            wish => member.wish = member.wish.take().or(wish),
        }
        let proposal = work.proposal.filter(|(of, _)| *of == generation).map(|(_, to)| to);
        // What this replica's own evidence proposes is not forgotten by being taken.
        member.proposal = member.proposal.or(proposal.filter(|to| member.trip != Some(*to)));
        member.restore |= work.restore.is_some();
    }
}
