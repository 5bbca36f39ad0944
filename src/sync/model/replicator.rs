//! What a replica sends, and what it makes of the answers: as its replicator does it.

use std::mem::take;
use std::time::Duration;

use super::replica::{Around, Replica};
use crate::backend::{BackendError, Batch, Changes, Lease, View};
use crate::outcome::Outcome;
use crate::sync::Unclaimed;
use crate::sync::circuit::{Command, Detached, Input, Totals};
use crate::sync::report::Reported;
use crate::timestamp::Timestamp;

/// How long a call waits for a lease.
const DEADLINE: Duration = Duration::from_millis(50);

/// As the replicator does it.
impl Replica {
    pub(super) fn wants_command(&self, at: &Around<'_>) -> bool {
        let agenda = self.sync.agenda(at.policy, &self.machine, at.pace);
        agenda.command.is_some_and(|(_, due)| due <= at.now)
    }

    pub(super) fn command(&mut self, at: &Around<'_>) -> Option<Command> {
        self.sync.command(at.now, at.policy)
    }

    /// Whether a batch would say or confirm something.
    pub(super) fn wants_batch(&self, at: &Around<'_>) -> bool {
        let group = &self.group;
        let wants = group.due || group.unanswered.is_some() || !self.is_synced();
        !group.in_flight && (wants || self.wants_report(at))
    }

    fn wants_report(&self, at: &Around<'_>) -> bool {
        let agenda = self.sync.agenda(at.policy, &self.machine, at.pace);
        let soon = at.now.after(at.pace.far / 4);
        agenda.report.is_some_and(|(_, due)| due <= soon)
    }

    pub(super) fn batch(&mut self, at: &Around<'_>) -> Batch {
        self.group.in_flight = true;
        let batch = match self.group.unanswered.take() {
            Some((mut batch, made)) => {
                batch.grow_older(at.now.since(made));
                batch.seen = 0;
                batch.since = self.group.begin();
                batch
            }
            None => self.new_batch(at),
        };
        self.group.unanswered = Some((batch.clone(), at.now));
        batch
    }

    fn new_batch(&mut self, at: &Around<'_>) -> Batch {
        let wanted = self.wants_report(at);
        self.group.due = false;
        let (since, seen) = (self.group.begin(), self.group.seen);
        self.group.seq += 1;
        let (mut reports, mut circuits) = (Vec::new(), Vec::new());
        if wanted {
            let Around { circuit, policy, now, .. } = *at;
            match self.sync.report(circuit, policy, &self.machine, now) {
                Reported::Report(report) => reports.push(report),
                Reported::View => circuits.push(circuit.clone()),
                Reported::Nothing => {}
            }
        }
        let active = !self.sync.agenda(at.policy, &self.machine, at.pace).is_plain;
        if self.sync.is_unknown() || active && !wanted {
            circuits.push(at.circuit.clone());
        }
        Batch { sender: self.sender(), seq: self.group.seq, since, seen, reports, circuits }
    }

    pub(super) fn not_synced(&mut self) {
        self.group.in_flight = false;
    }

    pub(super) fn synced(&mut self, changes: &Changes, asked: Timestamp, at: &Around<'_>) {
        let group = &mut self.group;
        group.in_flight = false;
        let batch = group.unanswered.take().map(|(batch, _)| batch);
        let reported = batch.as_ref().is_some_and(|batch| !batch.reports.is_empty());
        group.acknowledged = batch.map_or(0, |batch| batch.seen).max(group.acknowledged);
        group.advance(changes, asked);
        let mut rolled = false;
        for (_, view) in &changes.views {
            self.group.listing = self.group.listing.map(|_| true);
            let totals = if reported { Totals::Present } else { Totals::Absent };
            self.input(Input::Answer { view, asked, at: at.now, totals }, at);
            rolled |= view.suspect.is_some_and(|roll| roll.age < at.pace.settling);
        }
        let group = &mut self.group;
        group.due |= rolled && group.acknowledged < group.seen;
        if group.restarts {
            return;
        }
        if take(&mut self.group.listing) == Some(false) {
            let (view, totals) = (&View::default(), Totals::Absent);
            self.input(Input::Answer { view, asked, at: at.now, totals }, at);
        }
        if !self.is_synced() && !self.sync.is_unknown() {
            self.input(Input::Current, at);
        }
    }

    /// Heartbeats are not answered for too long.
    pub(super) fn degrade(&mut self, at: &Around<'_>) {
        self.input(Input::Detach(Detached::Unreachable), at);
        self.restart();
    }

    /// Something may have been missed, for example because a connection broke.
    pub(super) fn restart(&mut self) {
        (self.group.restarts, self.group.due) = (true, true);
    }

    pub(super) fn pushed(&mut self, view: &View, (previous, version): (u64, u64), at: &Around<'_>) {
        let group = &mut self.group;
        if group.seen == previous {
            (group.seen, group.pushed) = (version, at.now);
        } else if version > group.seen {
            group.due = true;
        }
        group.due |= view.suspect.is_some_and(|roll| roll.age < at.pace.settling);
        self.input(Input::Push(view), at);
    }

    /// The answer to a request for a lease. Returns whether it is to be asked for again.
    pub(super) fn lease_answered(
        &mut self,
        answer: Option<(Option<Lease>, &View)>,
        asked: Timestamp,
        at: &Around<'_>,
    ) -> bool {
        let Some(mut asking) = self.asking.take() else { return false };
        asking.tries -= 1;
        let Some((lease, view)) = answer else {
            if asking.tries > 0 {
                self.asking = Some(asking);
                return true;
            }
            self.sync.end_asking();
            let error = BackendError::unavailable("no lease");
            let why = Detached::refused(error, at.now, 0.5);
            self.input(Input::Detach(why), at);
            return false;
        };
        let input = Input::Answer { view, asked, at: at.now, totals: Totals::Absent };
        self.input(input, at);
        if let Some(lease) = lease {
            let unclaimed = Unclaimed::GiveBack;
            let id = self.sync.granted(lease, unclaimed, asked, &mut self.machine);
            self.sync.end_asking();
            if let Some(id) = id {
                let waits = at.now.since(asking.since) <= DEADLINE;
                if waits && self.machine.begin(id, at.now, at.policy) {
                    self.run(id);
                } else {
                    self.record(Outcome::Ignored, Some(id), at);
                }
            }
            return false;
        }
        self.sync.refused(view, &mut self.machine, at.now);
        let known = self.sync.generation();
        if known != asking.generation && asking.tries > 0 {
            asking.generation = known;
            self.asking = Some(asking);
            return true;
        }
        self.sync.end_asking();
        false
    }
}
