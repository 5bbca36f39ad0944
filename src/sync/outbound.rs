//! What happened in this process, on its way to the backend.

use std::mem::take;
use std::time::Duration;

use tokio::sync::oneshot;

use super::circuit::{
    Acknowledgement, Change, CircuitSync, Command, Confirmation, Context, Detached, Effects, Outbox, Pace, Settled,
    SyncState,
};
use super::scheduler::Class;
use super::unreported::Detail;
use crate::backend::{
    BackendError, Geometry, Lease, Move, OpenTerms, OverrideChange, OverrideRecord, Probed,
    RecordState, Report, Shares, View,
};
use crate::machine::{Backing, LeaseId, Machine, Origin, Reason, State, Tally, Transition, Verdict};
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// When a circuit wants to send, and to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agenda {
    /// A [command](CircuitSync::command).
    pub(crate) command: Option<(Class, Timestamp)>,
    /// A [report](CircuitSync::report), with those of its group.
    pub(crate) report: Option<(Class, Timestamp)>,
    /// A [tick](super::circuit::Input::Tick).
    pub(crate) tick: Option<Timestamp>,
    /// The circuit is closed and quiet: a lost push about it does no harm for a while.
    pub(crate) is_plain: bool,
    pub(crate) is_unknown: bool,
    pub(crate) is_synced: bool,
    /// A command is under way.
    pub(crate) is_busy: bool,
    /// Why the backend refuses the circuit.
    pub(crate) refused: Option<String>,
}

impl Default for Agenda {
    /// That of a circuit that has left the cluster.
    fn default() -> Self {
        Self {
            command: None,
            report: None,
            tick: None,
            is_plain: true,
            is_unknown: false,
            is_synced: false,
            is_busy: false,
            refused: None,
        }
    }
}

/// What happened here.
impl CircuitSync {
    /// The machine has made a transition.
    pub(crate) fn transitioned(
        &mut self,
        transition: &Transition,
        policy: &Policy,
        machine: &Machine,
    ) {
        if self.followed.state != RecordState::Closed || transition.origin != Origin::Local {
            return;
        }
        match transition.to {
            State::Open if transition.reason != Reason::OverrideOver => {
                let terms = terms(policy, machine, transition.open_for.unwrap_or_default());
                let (reason, tally) = (transition.reason, transition.tally);
                self.trip = Some(Move::Open { terms, reason, tally });
                self.opened_in = Some(self.followed.generation);
                self.outbox.proposal = None;
                self.voted = false;
            }
            State::Closed => {
                self.trip = None;
                // What had opened it is paid for, by the cluster too.
                self.drop_evidence(policy);
            }
            _ => {}
        }
    }

    /// A probe of the cluster has ended.
    pub(crate) fn settle(
        &mut self,
        lease: LeaseId,
        verdict: Verdict,
        policy: &Policy,
        machine: &Machine,
    ) {
        let reopenings = machine.reopenings().saturating_add(1);
        let probed = match verdict {
            Verdict::Passed => Probed::Passed,
            Verdict::Released => Probed::Released,
            Verdict::Failed { reason, hint } => {
                let interval = policy.open_interval(reopenings, hint, fastrand::u64(..));
                let terms = OpenTerms { reopenings, ..terms(policy, machine, interval) };
                Probed::Failed { terms, reason }
            }
        };
        let generation = self.followed.generation;
        let lease = Lease { generation, nonce: lease.0, remaining: Duration::ZERO };
        self.outbox.settled.push(Settled { lease, probed, verdict });
    }

    /// An operator has changed the override here. Returns where the answer arrives.
    pub(crate) fn change_override(
        &mut self,
        change: OverrideChange,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Acknowledgement {
        let (waiter, answer) = oneshot::channel();
        // What was only pushed is in force here too, so an operator has seen it.
        let version = self.known.overridden.version.max(self.followed.overridden.version);
        let change = Change { change, at: now, version, waiter: Some(waiter), sent: false };
        if let Some(before) = self.outbox.change.replace(change) {
            before.end(Err(superseded()), effects);
        }
        self.trip = None;
        self.override_followed = None;
        self.outbox.proposal = None;
        answer
    }

    /// Proposes to all that the open interval of the cluster ends. Returns false if there is none.
    pub(crate) fn propose_to_probe(&mut self, machine: &Machine) -> bool {
        let RecordState::Open { terms, .. } = self.followed.state else { return false };
        if machine.state() != State::Open {
            return false;
        }
        // As short as an interval can be. The one after a failed probe is drawn from the policy.
        let terms = OpenTerms { interval: Duration::from_millis(1), ..terms };
        let (reason, tally) = (Reason::Override, Tally::default());
        self.outbox.proposal = Some(Move::Open { terms, reason, tally });
        true
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        for lease in cx.machine.take_expired(cx.now) {
            let verdict = Verdict::Failed { reason: Reason::ProbeExpired, hint: None };
            self.settle(lease, verdict, cx.policy, cx.machine);
        }
        if let Some(change) = &self.outbox.change
            && !change.sent
            && change.ends().is_some_and(|ends| ends <= cx.now)
        {
            let change = take(&mut self.outbox.change);
            let error = BackendError::refused("the override ended before the backend stored it");
            change.into_iter().for_each(|change| change.end(Err(error.clone()), cx.effects));
        }
    }

    /// The circuit leaves the cluster: nothing is sent any more.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        self.detach(Detached::Unreachable, cx);
        cx.machine.set_backing(Backing::None);
        if let Some(change) = self.outbox.change.take() {
            change.end(Err(left()), cx.effects);
        }
    }
}

/// Overrides that were changed here.
impl CircuitSync {
    /// The backend has a newer override than the one that was known when one was changed here. It
    /// holds, unless it is the same.
    pub(super) fn supersede(&mut self, cx: &mut Context<'_>) {
        let version = self.known.overridden.version;
        let first = self.state == SyncState::Unknown;
        let Some(change) = &mut self.outbox.change else { return };
        if change.sent || version <= change.version {
            return;
        }
        if first {
            // Whoever changed it could not know what had been set before.
            change.version = version;
            return;
        }
        let same = match (&change.change, &self.known.overridden.record) {
            (OverrideChange::Set(ours), Some(theirs)) => ours.says_as(theirs),
            (OverrideChange::Clear, None) => true,
            _ => false,
        };
        let result = if same { Ok(()) } else { Err(superseded()) };
        let change = take(&mut self.outbox.change);
        change.into_iter().for_each(|change| change.end(result.clone(), cx.effects));
    }

    /// A change was not acknowledged. Meanwhile the backend may have stored it, or a newer one.
    pub(super) fn supersede_returned(&mut self, cx: &mut Context<'_>) {
        self.supersede(cx);
        if self.is_synced() && self.hint.is_none() {
            self.follow_known(cx);
        }
    }

    /// The backend has stored the override that was changed here.
    pub(super) fn acknowledge(&mut self, view: &View, cx: &mut Context<'_>) {
        match &mut self.outbox.change {
            // Another change was made meanwhile, and is to be sent.
            Some(change) if !change.sent => change.version = view.overridden.version,
            _ => {
                let change = take(&mut self.outbox.change);
                change.into_iter().for_each(|change| change.end(Ok(()), cx.effects));
            }
        }
    }
}

/// What is sent.
impl CircuitSync {
    /// When the circuit wants to send something.
    pub(crate) fn agenda(&self, policy: &Policy, machine: &Machine, pace: Pace) -> Agenda {
        let ends = self.outbox.change.as_ref().and_then(Change::ends);
        Agenda {
            command: self.next_class(policy).map(|class| (class, self.outbox.not_before)),
            report: self.next_report(policy, machine, pace),
            tick: machine.next_expiry().into_iter().chain(ends).min(),
            is_plain: self.followed.state == RecordState::Closed && self.followed.suspect.is_none(),
            is_unknown: self.is_unknown(),
            is_synced: self.is_synced(),
            is_busy: self.outbox.busy,
            refused: match &self.state {
                SyncState::Detached { why: Detached::Refused { error, .. }, .. } => {
                    Some(error.to_string())
                }
                _ => None,
            },
        }
    }

    fn next_class(&self, policy: &Policy) -> Option<Class> {
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

    fn has_change_to_send(&self) -> bool {
        // If a newer override was pushed, an answer first tells whether it supersedes this one.
        let pushed = self.hint.as_ref().map_or(0, |hint| hint.view.overridden.version);
        let change = self.outbox.change.as_ref();
        change.is_some_and(|change| !change.sent && pushed <= change.version)
    }

    /// Takes the next command, in an order in which nothing contradicts what was sent before.
    pub(crate) fn command(&mut self, now: Timestamp, policy: &Policy) -> Option<Command> {
        self.next_class(policy)?;
        self.outbox.busy = true;
        if take(&mut self.outbox.restore) {
            return Some(Command::Restore(self.known_now(now)));
        }
        if !self.outbox.settled.is_empty() {
            return Some(Command::Settle(self.outbox.settled.remove(0)));
        }
        let sends_change = self.has_change_to_send();
        if let Some(change) = self.outbox.change.as_mut().filter(|_| sends_change) {
            change.sent = true;
            return Some(Command::Override(change.now(now)));
        }
        let to = self.proposal(policy)?;
        self.outbox.proposal = None;
        Some(Command::Transition { from: self.followed.generation, to })
    }

    /// What is proposed: by the totals, or by this replica's own evidence, where that is enough.
    fn proposal(&self, policy: &Policy) -> Option<Move> {
        let closed = self.followed.state == RecordState::Closed;
        self.outbox.proposal.or(self.trip.filter(|_| closed && policy.quorum() == 1))
    }

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

impl Change {
    /// What is to be changed now.
    fn now(&self, now: Timestamp) -> OverrideChange {
        let mut change = self.change.clone();
        if let OverrideChange::Set(OverrideRecord { remaining: Some(remaining), .. }) = &mut change {
            *remaining = remaining.saturating_sub(now.since(self.at));
        }
        change
    }

    /// When it ends by itself.
    fn ends(&self) -> Option<Timestamp> {
        match &self.change {
            OverrideChange::Set(record) => record.remaining.map(|lasting| self.at.after(lasting)),
            OverrideChange::Clear | OverrideChange::Reset => None,
        }
    }

    fn end(self, result: Result<(), BackendError>, effects: &mut Effects) {
        let confirmation = self.waiter.map(|waiter| Confirmation { waiter, result });
        effects.confirmations.extend(confirmation);
    }
}

/// What an open phase of so long shall obey.
pub(super) fn terms(policy: &Policy, machine: &Machine, interval: Duration) -> OpenTerms {
    OpenTerms {
        interval,
        reopenings: machine.reopenings(),
        probes: policy.probes(),
        lease: policy.probe_lease(),
        successes_to_close: policy.successes_to_close(),
    }
}

/// How far back evidence goes.
pub(super) fn horizon(policy: &Policy) -> Duration {
    Geometry::of(policy).map_or(Report::HORIZON, |window| Duration::from_millis(window.millis))
}

fn superseded() -> BackendError {
    BackendError::refused("another override was set meanwhile, and holds")
}

fn left() -> BackendError {
    BackendError::refused(
        "the store was shut down before the backend stored the override, which applies in this \
         process only",
    )
}
