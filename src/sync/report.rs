//! When a circuit reports, and what.

use std::time::Duration;

use super::circuit::{CircuitSync, Detached, Pace, SyncState};
use super::outbound::horizon;
use super::scheduler::Class;
use super::unreported::Detail;
use crate::backend::{Attention, RecordState, Report, Shares};
use crate::machine::Machine;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// With many replicas, each looks after so many far intervals whether a circuit is quiet again.
const CALM_IN_FAR: u32 = 10;

/// What a circuit has for a batch.
#[derive(Debug)]
pub(crate) enum Reported {
    Report(Report),
    /// Only its view is to be read.
    View,
    Nothing,
}

impl CircuitSync {
    pub(super) fn next_report(
        &self,
        policy: &Policy,
        machine: &Machine,
        pace: Pace,
    ) -> Option<(Class, Timestamp)> {
        if let SyncState::Detached(Detached::Refused { retry, .. }) = &self.state {
            return Some((Class::Poll, *retry));
        }
        if let Some(confirms) = self.confirms_at() {
            return Some((Class::Failures, confirms));
        }
        if !self.counts(machine) {
            return None;
        }
        if self.is_urgent(policy) {
            return Some((Class::Failures, Timestamp::default()));
        }
        let near = self.is_near();
        let next = self.reported.after(if near { pace.near } else { pace.far });
        let failures = self.unreported.failing_since().map(|since| {
            // Far from any threshold, it waits for others of its group.
            if near { next.max(since) } else { next.max(since.after(pace.far)) }
        });
        let ended = self.unreported.ends_known_streak();
        let ended = ended.then(|| self.reported.after(pace.near));
        let alarm = self.outbox.alarm.then(|| self.settles_at(pace));
        let urgent = [failures, ended, alarm, self.read_again].into_iter().flatten().min();
        // Successes of a suspect circuit are counted outside the lock: whether there are some shows
        // when they are taken. Far from any threshold they go with failures.
        let successes =
            self.is_suspect().then(|| if near { next } else { self.calm_at(policy, pace) });
        match (urgent, successes) {
            (Some(urgent), successes) => {
                Some((Class::Failures, successes.map_or(urgent, |due| due.min(urgent))))
            }
            (None, successes) => successes.map(|due| (Class::Successes, due)),
        }
    }

    /// Whether successes are reported as soon as failures are.
    pub(crate) fn reports_successes(&self) -> bool {
        self.is_suspect() && self.is_near()
    }

    fn is_near(&self) -> bool {
        self.near || self.alarmed
    }

    /// When a suspect circuit is looked at that has not been suspicious for a window: perhaps it is
    /// quiet. The more replicas there are, the longer each waits, since one of them is enough.
    fn calm_at(&self, policy: &Policy, pace: Pace) -> Timestamp {
        let since = self.suspected.max(self.reported);
        since.after(horizon(policy).max(pace.far * CALM_IN_FAR))
    }

    /// When it is over to wait for the answers to a roll call that this replica has answered.
    fn settles_at(&self, pace: Pace) -> Timestamp {
        let roll = self.followed.suspect.filter(|roll| roll.id == self.answered_roll);
        roll.map_or(Timestamp::default(), |roll| {
            self.followed_at.after(pace.settling.saturating_sub(roll.age))
        })
    }

    /// Whether something cannot wait for the interval.
    fn is_urgent(&self, policy: &Policy) -> bool {
        let votes = policy.quorum() > 1 && self.trip.is_some() && !self.voted;
        let outbox = &self.outbox;
        let asks = outbox.attention.is_some() || outbox.shares;
        votes || asks || self.has_roll_to_answer()
    }

    /// Whether the totals are to be read, even if there is nothing to report.
    fn reads(&self, policy: &Policy, now: Timestamp) -> bool {
        let again = self.read_again.is_some_and(|at| at <= now);
        // A circuit becomes quiet when it has not been suspicious for a window.
        let calm = self.is_suspect() && self.suspected.after(horizon(policy)) <= now;
        self.is_urgent(policy) || self.outbox.alarm || again || calm
    }

    /// Whether the results of calls are evidence for the cluster now.
    pub(super) fn counts(&self, machine: &Machine) -> bool {
        let closed = self.followed.state == RecordState::Closed;
        self.is_synced() && closed && !machine.state().is_overridden()
    }

    /// Whether replicas were asked to report, and this one has not.
    pub(super) fn has_roll_to_answer(&self) -> bool {
        self.followed.suspect.is_some_and(|roll| roll.id > self.answered_roll)
    }

    /// Returns a report of what was counted, or says that there is nothing to report.
    pub(crate) fn report(
        &mut self,
        circuit: &CircuitName,
        policy: &Policy,
        machine: &Machine,
        now: Timestamp,
    ) -> Reported {
        // Nothing is reported in a generation that was only pushed: it may not exist.
        let confirms = self.confirms_at().is_some();
        let exists = self.followed.generation == self.known.generation;
        if !self.is_synced() || confirms && !exists {
            return Reported::View;
        }
        if !self.counts(machine) {
            return if confirms { Reported::View } else { Reported::Nothing };
        }
        let reads = self.reads(policy, now);
        let suspect = self.followed.suspect;
        let detail = if suspect.is_some() { Detail::All } else { Detail::Bad };
        let taken = self.unreported.take(detail, now);
        self.reported = now;
        if taken.is_empty() && !reads && !confirms {
            return Reported::Nothing;
        }
        // An outage is the usual cause of an alarm: the roll call need not wait for the answer.
        let alarm = (self.outbox.alarm && suspect.is_none() && self.next_roll <= now)
            .then_some(Attention::RollCall { after: 0 });
        let votes = policy.quorum() > 1;
        let lasting = Duration::from_secs(60).max(horizon(policy));
        let mut report = Report {
            circuit: circuit.clone(),
            generation: self.followed.generation,
            window: self.unreported.window(),
            counts: Vec::new(),
            failures: Vec::new(),
            last_success: None,
            vote: (votes && self.trip.is_some()).then_some(lasting),
            shares: match (votes, self.outbox.shares) {
                (false, _) => Shares::None,
                (true, false) => Shares::Count,
                (true, true) => Shares::Return,
            },
            attention: self.outbox.attention.take().or(alarm),
        };
        taken.into_report(&mut report);
        self.voted = report.vote.is_some();
        self.answered_roll = suspect.map_or(self.answered_roll, |roll| roll.id);
        self.read_again = None;
        (self.outbox.alarm, self.outbox.shares) = (false, false);
        Reported::Report(report)
    }
}
