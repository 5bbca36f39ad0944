//! When a circuit reports, and what.

use std::time::Duration;

use super::circuit::{CircuitSync, Detached, Outbox, Pace, SyncState};
use super::outbound::horizon;
use super::scheduler::Class;
use super::unreported::Detail;
use crate::backend::{RecordState, Report, Shares};
use crate::machine::Machine;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

impl CircuitSync {
    fn next_report(
        &self,
        policy: &Policy,
        machine: &Machine,
        pace: Pace,
    ) -> Option<(Class, Timestamp)> {
        if let SyncState::Detached { why: Detached::Refused { retry, .. }, .. } = &self.state {
            return Some((Class::Poll, *retry));
        }
        if let Some(confirms) = self.confirms_at() {
            return Some((Class::Failures, confirms));
        }
        if !self.counts(machine) {
            return None;
        }
        let votes = policy.quorum() > 1 && self.trip.is_some() && !self.voted;
        let Outbox { alarm, attention, shares, .. } = self.outbox;
        if votes || alarm || attention.is_some() || shares || self.has_roll_to_answer() {
            return Some((Class::Failures, Timestamp::default()));
        }
        let near = self.near || self.alarmed;
        let next = self.reported.after(if near { pace.near } else { pace.far });
        let failures = self.unreported.failing_since().map(|since| {
            // Far from any threshold, it waits for others of its group.
            if near { next.max(since) } else { next.max(since.after(pace.far)) }
        });
        let ended = self.unreported.ends_known_streak();
        let ended = ended.then(|| self.reported.after(pace.near));
        let again = self.read_again;
        let suspect = self.followed.suspect.is_some();
        let successes = self.unreported.succeeding_since().filter(|_| suspect);
        let successes = successes.map(|since| next.max(since));
        // A circuit becomes quiet when it has not been suspicious for a window.
        let calm = suspect.then(|| next.max(self.suspected.after(horizon(policy))));
        let of = |class: Class| move |due: Timestamp| (class, due);
        let urgent = [failures, ended, again].into_iter().flatten().map(of(Class::Failures));
        let others = successes.map(of(Class::Successes));
        let polls = calm.map(of(Class::Poll));
        urgent.chain(others).chain(polls).min_by_key(|(_, due)| *due)
    }

    /// Whether the results of calls are evidence for the cluster now.
    fn counts(&self, machine: &Machine) -> bool {
        let closed = self.followed.state == RecordState::Closed;
        self.is_synced() && closed && !machine.state().is_overridden()
    }

    /// Whether replicas were asked to report, and this one has not.
    pub(super) fn has_roll_to_answer(&self) -> bool {
        self.followed.suspect.is_some_and(|roll| roll.id > self.answered_roll)
    }

    /// Returns a report of what was counted, unless there is nothing to report and nothing to read.
    pub(crate) fn report(
        &mut self,
        circuit: &CircuitName,
        policy: &Policy,
        machine: &Machine,
        pace: Pace,
        now: Timestamp,
    ) -> Option<Report> {
        if !self.counts(machine) {
            return None;
        }
        let wanted = self.next_report(policy, machine, pace).is_some();
        let suspect = self.followed.suspect;
        let detail = if suspect.is_some() { Detail::All } else { Detail::Bad };
        let taken = self.unreported.take(detail, now);
        if taken.is_empty() && !wanted {
            return None;
        }
        let votes = policy.quorum() > 1;
        let lasting = Duration::from_secs(60).max(horizon(policy));
        let mut report = Report {
            circuit: circuit.clone(),
            generation: self.followed.generation,
            window: self.unreported.window(),
            counts: Vec::new(),
            failures: Vec::new(),
            last_success: None,
            vote: self.trip.filter(|_| votes).map(|_| lasting),
            shares: match (votes, self.outbox.shares) {
                (false, _) => Shares::None,
                (true, false) => Shares::Count,
                (true, true) => Shares::Return,
            },
            attention: self.outbox.attention.take(),
        };
        taken.into_report(&mut report);
        self.voted = report.vote.is_some();
        self.reported = now;
        self.answered_roll = suspect.map_or(self.answered_roll, |roll| roll.id);
        self.read_again = None;
        (self.outbox.alarm, self.outbox.shares) = (false, false);
        Some(report)
    }
}

