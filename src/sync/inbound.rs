//! Views, on their way from the backend to the machine.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use super::circuit::{
    CircuitSync, Command, Context, Detached, Hint, Outbox, Settled, SyncState,
};
use crate::backend::{
    BackendError, Lease, Move, OpenTerms, RecordState, View,
};
use crate::machine::{Backing, LeaseId, Machine, Origin, Reason, Shared, State, Why};
use crate::timestamp::Timestamp;

/// A restore that changed nothing is sent again no sooner than after this.
const RESTORE_AGAIN: Duration = Duration::from_secs(1);

/// A replica counts its lease as over a little before the backend does, so that it can still
/// report the probe as failed.
const LEASE_MARGIN: Duration = Duration::from_millis(250);

/// A refused request for a lease is repeated so long after the next lease expires, by a share of
/// it, so that replicas do not ask in step.
const ASK_SPREAD: f64 = 0.2;

/// A push is confirmed so much later. Pushes of a group often come together.
const CONFIRM_AFTER: Duration = Duration::from_millis(1);

/// A command that failed is sent again after so long.
const SEND_AGAIN: Duration = Duration::from_millis(250);

/// Which lease answers the request of a caller that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    GiveBack,
    /// The next caller takes it.
    Keep,
}

impl CircuitSync {
    /// Applies an answer.
    pub(super) fn answered(
        &mut self,
        view: &View,
        asked: Timestamp,
        at: Timestamp,
        cx: &mut Context<'_>,
    ) {
        self.learn(view, asked, at, cx);
        let confirmed = self.hint.as_ref().is_none_or(|hint| {
            asked > hint.at
                || self.known.rank() >= hint.view.rank()
                    && self.known.overridden.version >= hint.view.overridden.version
        });
        if confirmed {
            self.hint = None;
            if self.is_synced() {
                self.follow_known(cx);
            }
        }
        if self.state == SyncState::Unknown {
            self.attach(cx);
        }
    }

    /// Takes over what an answer says, as far as it is newer or contradicts what is known.
    fn learn(&mut self, view: &View, asked: Timestamp, at: Timestamp, cx: &mut Context<'_>) {
        let known = &self.known;
        // The record of a closed circuit expires, and the next report makes a new one.
        let anew = is_absent(view) || is_first(view) && asked >= self.at;
        let both_closed =
            view.state == RecordState::Closed && known.state == RecordState::Closed;
        let vanished = both_closed && anew && view.rank() < known.rank();
        // A detached circuit judges by itself what the loss of a record means: see `attach`.
        let replaced = !self.is_synced() && asked >= self.at;
        let behind = view.rank() < known.rank() && !vanished && !replaced;
        let override_behind = view.overridden.version < known.overridden.version;
        if behind || override_behind {
            self.lost(cx);
        }
        let known = &self.known;
        let contradicts = view.rank() == known.rank() && !says_as(&view.state, &known.state);
        let newer = view.rank() >= known.rank();
        if !behind && (vanished || replaced || contradicts || newer) && at >= self.at {
            let overridden = take(&mut self.known.overridden);
            self.known = View { overridden, ..view.clone() };
            self.at = at;
        }
        let override_newer = view.overridden.version > self.known.overridden.version;
        if override_newer || view.overridden.version == self.known.overridden.version {
            self.known.overridden = view.overridden.clone();
            self.override_at = at;
        }
        if override_newer {
            self.supersede(cx);
        }
    }

    /// The backend has lost what was known.
    fn lost(&mut self, cx: &mut Context<'_>) {
        if !self.is_synced() {
            // What this replica found out since matters too: see `attach`.
            return;
        }
        let again = self.outbox.restored.is_none_or(|at| cx.now.since(at) >= RESTORE_AGAIN);
        if again {
            self.outbox.restore = true;
            self.voted = false;
        }
    }

    /// Follows what was published, until an answer confirms it.
    pub(super) fn pushed(&mut self, view: &View, cx: &mut Context<'_>) {
        if !self.is_synced() {
            return;
        }
        let newer = view.rank() > self.followed.rank();
        let override_newer = view.overridden.version > self.followed.overridden.version;
        if !newer && !override_newer {
            return;
        }
        let mut target = if newer { view.clone() } else { self.followed.clone() };
        if override_newer {
            target.overridden = view.overridden.clone();
        } else {
            target.overridden = self.followed.overridden.clone();
        }
        self.hint = Some(Hint { view: target.clone(), at: cx.now });
        let at = if newer { cx.now } else { self.followed_at };
        let override_at = if override_newer { cx.now } else { self.followed_override_at };
        self.follow(target, (at, override_at), cx);
    }

    pub(super) fn follow_known(&mut self, cx: &mut Context<'_>) {
        let (view, times) = (self.known.clone(), (self.at, self.override_at));
        self.follow(view, times, cx);
    }

    /// When something is to be sent whose answer confirms what the circuit follows: later than the
    /// push, or it would not be known which of the two is newer.
    pub(super) fn confirms_at(&self) -> Option<Timestamp> {
        let hint = self.hint.as_ref().filter(|_| self.is_synced())?;
        Some(hint.at.after(CONFIRM_AFTER))
    }

    /// Makes the machine follow a view, as far as it differs from the one it followed before.
    ///
    /// The times of its state count from the first of `times`, those of its override from the
    /// second.
    fn follow(&mut self, view: View, times: (Timestamp, Timestamp), cx: &mut Context<'_>) {
        let old = std::mem::replace(&mut self.followed, view);
        (self.followed_at, self.followed_override_at) = times;
        let new = &self.followed;
        let both_closed =
            new.state == RecordState::Closed && old.state == RecordState::Closed;
        if both_closed && is_first(new) && new.rank() < old.rank() {
            // The record of a closed circuit has expired: nothing has changed.
            if self.opened_in == Some(old.generation) {
                self.opened_in = Some(self.followed.generation);
            }
            (self.voted, self.outbox.attention) = (false, None);
            self.follow_override(cx);
            return;
        }
        let next = new.generation != old.generation;
        let newer = new.rank() != old.rank() || !says_as(&new.state, &old.state);
        let same_kind = new.state.is_like(&old.state);
        // The first generation has no record: what was counted without one goes on in it.
        let evidence_goes_on = same_kind && is_first(&old) && is_first(new);
        if next && !evidence_goes_on {
            self.drop_evidence(cx.policy);
            self.forget_findings();
        }
        if self.follow_override(cx) || cx.machine.state().is_overridden() {
            return;
        }
        if next && !evidence_goes_on || newer && !same_kind {
            self.apply(None, cx);
        } else if newer {
            self.update(Timestamp::default(), cx.machine);
        }
    }

    /// Follows a change of the override. Returns whether there was one.
    fn follow_override(&mut self, cx: &mut Context<'_>) -> bool {
        let version = Some(self.followed.overridden.version);
        // What was changed here since is still to be sent, and holds until then.
        if self.override_followed == version || self.outbox.change.is_some() {
            return false;
        }
        self.override_followed = version;
        match self.followed.overridden.record.clone() {
            Some(mut record) => {
                if let Some(remaining) = &mut record.remaining {
                    *remaining = remaining.saturating_sub(cx.now.since(self.followed_override_at));
                }
                if cx.machine.overridden().is_some_and(|ours| ours.says_as(&record)) {
                    let ends = record.remaining.map(|remaining| cx.now.after(remaining));
                    cx.machine.set_ends(ends.unwrap_or(Timestamp::NEVER));
                } else {
                    let record = Arc::new(record);
                    let transition = cx.machine.force(record, Origin::Cluster, cx.policy, cx.now);
                    cx.effects.began(transition);
                }
                true
            }
            None if cx.machine.state().is_overridden() => {
                self.give_back(Reason::OverrideOver, cx);
                true
            }
            None => false,
        }
    }

    /// What this replica found out by itself is over.
    fn forget_findings(&mut self) {
        (self.trip, self.voted, self.near) = (None, false, false);
        self.outbox.proposal = None;
        self.outbox.attention = None;
        self.outbox.shares = false;
        self.read_again = None;
        (self.vain_rolls, self.next_roll) = (0, Timestamp::default());
        self.answered_roll = 0;
    }

    /// Moves the machine to the state of the view that is followed.
    fn apply(&mut self, reason: Option<Reason>, cx: &mut Context<'_>) {
        self.apply_until(None, reason, cx);
    }

    /// The same; if that is open, until another time than its own.
    fn apply_until(
        &mut self,
        until: Option<Timestamp>,
        reason: Option<Reason>,
        cx: &mut Context<'_>,
    ) {
        let shared = match (self.shared(), until) {
            (Shared::Open { reopenings, .. }, Some(until)) => Shared::Open { until, reopenings },
            (shared, _) => shared,
        };
        let view = &self.followed;
        let why = Why {
            reason: reason.or(view.reason).unwrap_or(Reason::Override),
            tally: view.tally,
            contributors: view.contributors.clone().into(),
        };
        let transition = cx.machine.apply(shared, view.generation, why, cx.now, cx.policy);
        cx.effects.began(transition);
    }

    fn update(&self, refused_until: Timestamp, machine: &mut Machine) {
        machine.update(self.shared(), refused_until);
    }

    /// The state of the view that is followed, in this process's time.
    fn shared(&self) -> Shared {
        match self.followed.state {
            RecordState::Closed => Shared::Closed,
            RecordState::Open { terms, remaining } => Shared::Open {
                until: self.followed_at.after(remaining.min(terms.interval)),
                reopenings: terms.reopenings,
            },
            RecordState::HalfOpen { terms, passed, .. } => {
                Shared::HalfOpen { reopenings: terms.reopenings, passed }
            }
        }
    }

    /// The override in force ends: the state beneath it is in force again.
    pub(crate) fn end_override(&mut self, reason: Reason, cx: &mut Context<'_>) {
        self.followed.overridden.record = None;
        self.known.overridden.record = None;
        self.give_back(reason, cx);
    }

    /// Puts the state beneath an override in force: that of the record, or what this replica opened
    /// by itself before.
    fn give_back(&mut self, reason: Reason, cx: &mut Context<'_>) {
        let own = self.followed.state == RecordState::Closed
            && cx.machine.covers_own_phase()
            // It may be over meanwhile, for example because another replica has closed the circuit.
            && self.opened_in == Some(self.followed.generation);
        if self.is_synced() && !own {
            self.apply(Some(reason), cx);
        } else {
            let transition = cx.machine.end_override(reason, cx.policy, cx.now);
            cx.effects.began(transition);
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.state == SyncState::Synced
    }
}

/// Detached, and back.
impl CircuitSync {
    /// From here on the circuit decides without the backend.
    pub(super) fn detach(&mut self, why: Detached, cx: &mut Context<'_>) {
        let was_synced = !matches!(self.state, SyncState::Detached { .. });
        let since = match self.state {
            SyncState::Detached { since, .. } => since,
            _ => cx.now,
        };
        self.state = SyncState::Detached { since, why };
        if !was_synced {
            return;
        }
        self.hint = None;
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
        if let SyncState::Detached { why: Detached::Refused { retry, .. }, .. } = &self.state
            && *retry > cx.now
        {
            return;
        }
        let first = self.state == SyncState::Unknown;
        cx.effects.is_first_view = first;
        self.state = SyncState::Synced;
        cx.machine.set_backing(Backing::Attached);
        self.voted = false;
        let ahead = self.known.rank() > self.followed.rank() || first;
        let lost = self.known.generation < self.followed.generation;
        let overridden = cx.machine.state().is_overridden();
        if lost && !is_absent_and_closed(&self.known, cx.machine) {
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
        let Some(Move::Open { terms, reason, tally }) = self.trip else { return };
        if let Some(interval) = remaining.filter(|remaining| !remaining.is_zero()) {
            let terms = OpenTerms { interval, ..terms };
            self.trip = Some(Move::Open { terms, reason, tally });
        } else {
            self.trip = None;
            // Nor is what had opened it reported.
            self.drop_evidence(cx.policy);
        }
    }
}

/// Leases.
impl CircuitSync {
    /// The backend granted a lease, some time after it was `asked` for. Returns it, if it is for
    /// the caller and not for the next one.
    pub(crate) fn granted(
        &mut self,
        lease: Lease,
        unclaimed: Unclaimed,
        asked: Timestamp,
        machine: &mut Machine,
    ) -> Option<LeaseId> {
        let id = LeaseId(lease.nonce);
        let current = self.followed.generation == lease.generation;
        let ours = lease.remaining.saturating_sub((lease.remaining / 10).min(LEASE_MARGIN));
        if !current || !machine.store_lease(id, asked.after(ours)) {
            // Of a round that is over, or of one in which an operator has acted: the slot is free
            // again when the lease expires.
            return None;
        }
        (unclaimed == Unclaimed::GiveBack && machine.claim_lease(id)).then_some(id)
    }

    /// The backend granted no lease. Returns whether its view says when to ask again.
    pub(crate) fn refused(&mut self, view: &View, machine: &mut Machine, now: Timestamp) -> bool {
        let other = view.generation != self.followed.generation;
        if other || !self.is_synced() || machine.state().is_overridden() {
            return false;
        }
        match view.state {
            RecordState::Open { .. } => {
                (self.followed.state, self.followed_at) = (view.state, now);
                self.update(Timestamp::default(), machine);
            }
            RecordState::HalfOpen { next_expiry, .. } => {
                let wait = next_expiry.unwrap_or_default();
                self.update(now.after(wait.mul_f64(1.0 + ASK_SPREAD * fastrand::f64())), machine);
            }
            RecordState::Closed => {}
        }
        true
    }
}

/// Commands that were answered, or were not.
impl CircuitSync {
    pub(super) fn done(
        &mut self,
        command: Command,
        result: Result<&View, &BackendError>,
        asked: Timestamp,
        cx: &mut Context<'_>,
    ) {
        self.outbox.busy = false;
        match result {
            Ok(view) => {
                match command {
                    Command::Override(_) => self.acknowledge(view, cx),
                    Command::Restore(_) => self.outbox.restored = Some(cx.now),
                    Command::Settle(_) | Command::Transition { .. } => {}
                }
                self.answered(view, asked, cx.now, cx);
            }
            Err(error) => {
                self.outbox.not_before = cx.now.after(SEND_AGAIN);
                self.put_back(command);
                self.supersede_returned(cx);
                if !error.is_unavailable() {
                    self.detach(Detached::refused(error.clone(), cx.now, fastrand::f64()), cx);
                }
            }
        }
    }

    /// What was not acknowledged waits to be sent again, unless it is superseded.
    fn put_back(&mut self, command: Command) {
        let generation = self.followed.generation;
        let Outbox { restore, settled, proposal, change, .. } = &mut self.outbox;
        match command {
            Command::Restore(_) => *restore = true,
            Command::Settle(one) => {
                if one.lease.generation == generation {
                    settled.insert(0, one);
                }
            }
            Command::Override(_) => {
                if let Some(change) = change {
                    change.sent = false;
                }
            }
            Command::Transition { from, to } => {
                // What this replica's own evidence proposes is not forgotten by being taken.
                if from == generation && self.trip != Some(to) {
                    *proposal = proposal.take().or(Some(to));
                }
            }
        }
    }

    /// Whether there are probes' results that the backend does not know.
    pub(crate) fn settled(&self) -> &[Settled] {
        &self.outbox.settled
    }
}

fn is_first(view: &View) -> bool {
    view.generation == View::FIRST
}

/// Whether there is no record.
fn is_absent(view: &View) -> bool {
    is_first(view) && view.revision == 0
}

fn is_absent_and_closed(view: &View, machine: &Machine) -> bool {
    is_absent(view) && machine.state() == State::Closed
}

/// Whether two views of one rank say the same, but for times that pass.
fn says_as(one: &RecordState, other: &RecordState) -> bool {
    one.is_like(other)
}
