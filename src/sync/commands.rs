//! Commands: what a circuit sends by itself, one at a time.

use std::mem::take;
use std::time::Duration;

use super::circuit::{CircuitSync, Command, Context, Detached, Outbox};
use super::scheduler::Class;
use crate::backend::{BackendError, Move, RecordState, View};
use crate::machine::Reason;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// A command that failed is sent again after so long.
const SEND_AGAIN: Duration = Duration::from_millis(250);

/// The shortest interval that is proposed.
const SHORTEST: Duration = Duration::from_millis(1);

/// After a restore, the next one is sent no sooner than this: the last may have changed nothing.
const RESTORE_AGAIN: Duration = Duration::from_secs(1);

impl CircuitSync {
    pub(super) fn next_class(&self, policy: &Policy) -> Option<Class> {
        let Outbox { restore, settled, busy, .. } = &self.outbox;
        if *busy || !self.is_synced() {
            None
        } else if !settled.is_empty() || self.has_change_to_send() {
            Some(Class::Settle)
        } else if *restore || self.proposal(policy).is_some() {
            Some(Class::Transition)
        } else {
            None
        }
    }

    /// When the next command is to be sent.
    pub(super) fn command_at(&self, policy: &Policy) -> Timestamp {
        let Outbox { settled, not_before, .. } = &self.outbox;
        let restores =
            settled.is_empty() && !self.has_change_to_send() && self.proposal(policy).is_none();
        if restores { self.restores_at().max(*not_before) } else { *not_before }
    }

    fn restores_at(&self) -> Timestamp {
        self.outbox.restored.map_or(Timestamp::default(), |at| at.after(RESTORE_AGAIN))
    }

    fn has_change_to_send(&self) -> bool {
        // If a newer override was pushed, an answer first tells whether it supersedes this one.
        let pushed = self.hint.as_ref().map_or(0, |hint| hint.view.overridden.version);
        let change = self.outbox.change.as_ref();
        change.is_some_and(|change| !change.sent && pushed <= change.version)
    }

    /// Takes the next command, in an order in which nothing contradicts what was sent before.
    pub(crate) fn command(&mut self, now: Timestamp, policy: &Policy) -> Option<Command> {
        self.next_class(policy)?;
        if self.command_at(policy) > now {
            return None;
        }
        self.outbox.busy = true;
        if self.restores_at() <= now && take(&mut self.outbox.restore) {
            return Some(Command::Restore(Box::new(self.known_now(now))));
        }
        if !self.outbox.settled.is_empty() {
            return Some(Command::Settle(self.outbox.settled.remove(0)));
        }
        let sends_change = self.has_change_to_send();
        if let Some(change) = self.outbox.change.as_mut().filter(|_| sends_change) {
            change.sent = true;
            return Some(Command::Override(change.now(now)));
        }
        let mut to = self.proposal(policy)?;
        if self.is_trip(&to)
            && let Move::Open { terms, .. } = &mut to
        {
            // The rest of it: the others are not to stay open for longer than this replica.
            let rest = self.trip_until.since(now).max(SHORTEST);
            terms.interval = terms.interval.min(rest);
        }
        self.outbox.proposal = None;
        Some(Command::Transition { from: self.followed.generation, to })
    }

    /// Whether a proposal is what this replica's own evidence proposes, but for its interval.
    fn is_trip(&self, proposal: &Move) -> bool {
        match (&self.trip, proposal) {
            (Some(Move::Open { reason, tally, .. }), Move::Open { reason: r, tally: t, .. }) => {
                (reason, tally) == (r, t)
            }
            _ => false,
        }
    }

    /// What is proposed: by the totals, or by this replica's own evidence, where that is enough.
    fn proposal(&self, policy: &Policy) -> Option<Move> {
        let closed = self.followed.state == RecordState::Closed;
        let trip = || self.trip.clone().filter(|_| closed && policy.quorum() == 1);
        self.outbox.proposal.clone().or_else(trip)
    }
}

/// Commands that were answered, or were not.
impl CircuitSync {
    pub(super) fn done(
        &mut self,
        command: &Command,
        result: Result<&View, &BackendError>,
        asked: Timestamp,
        cx: &mut Context<'_>,
    ) {
        self.outbox.busy = false;
        match result {
            Ok(view) => {
                self.refusals = 0;
                match command {
                    Command::Override(_) => self.acknowledge(view, cx),
                    Command::Restore(_) => self.outbox.restored = Some(cx.now),
                    Command::Settle(_) | Command::Transition { .. } => {}
                }
                self.answered(view, asked, cx.now, cx);
            }
            Err(error) => {
                self.outbox.not_before = cx.now.after(SEND_AGAIN);
                self.put_back(command, cx.now);
                self.supersede_returned(cx);
                if !error.is_unavailable() {
                    self.detach(Detached::refused(error.clone(), cx.now, fastrand::f64()), cx);
                }
            }
        }
    }

    /// What was not acknowledged waits to be sent again, unless it is superseded.
    fn put_back(&mut self, command: &Command, now: Timestamp) {
        let generation = self.followed.generation;
        let closed = self.followed.state == RecordState::Closed;
        let is_trip = matches!(command, Command::Transition { to, .. } if self.is_trip(to));
        let Outbox { restore, settled, proposal, change, .. } = &mut self.outbox;
        match command {
            Command::Restore(_) => *restore = true,
            Command::Settle(one) => {
                if one.lease.generation == generation {
                    settled.insert(0, one.clone());
                }
            }
            Command::Override(_) => {
                if let Some(change) = change {
                    change.sent = false;
                }
            }
            // What this replica's own evidence proposes is not forgotten by being taken.
            Command::Transition { from, .. } if *from != generation || is_trip => {}
            // These totals may be old by the time of the next try: they are judged anew.
            Command::Transition { to: Move::Open { reason, .. }, .. }
                if closed && *reason != Reason::Override =>
            {
                self.read_again = Some(now);
            }
            Command::Transition { to, .. } => {
                *proposal = proposal.take().or_else(|| Some(to.clone()))
            }
        }
    }
}
