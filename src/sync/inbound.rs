//! Views, on their way from the backend to the machine.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use super::circuit::{CircuitSync, Context, Hint, Presence, SyncState};
use crate::backend::{OverrideRecord, RecordState, View};
use crate::machine::{Machine, Origin, Reason, Shared, State, Why};
use crate::timestamp::Timestamp;

/// An override that lasts no longer than this may have ended here.
const ABOUT_TO_END: Duration = Duration::from_secs(1);

/// A push is confirmed so much later. Pushes of a group often come together.
const CONFIRM_AFTER: Duration = Duration::from_millis(1);

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
        self.confirm(asked, cx);
        if self.state == SyncState::Unknown {
            self.attach(cx);
        }
    }

    /// What is known replaces what was only pushed, as far as it was asked for after that, or is
    /// as new.
    fn confirm(&mut self, asked: Timestamp, cx: &mut Context<'_>) {
        if !self.is_synced() {
            return;
        }
        let Some(hint) = &self.hint else { return self.follow_known(cx) };
        let known = &self.known;
        let rest = asked > hint.at || known.rank() >= hint.view.rank();
        let version = hint.view.overridden.version;
        let overridden = asked > hint.override_at || known.overridden.version >= version;
        if !rest && !overridden {
            return;
        }
        let (mut view, mut times) = (hint.view.clone(), (hint.at, hint.override_at));
        if rest {
            view = View { overridden: take(&mut view.overridden), ..known.clone() };
            times.0 = self.at;
        }
        if overridden {
            view.overridden = known.overridden.clone();
            times.1 = self.override_at;
        }
        let hint = || Hint { view: view.clone(), at: times.0, override_at: times.1 };
        self.hint = (!rest || !overridden).then(hint);
        self.follow(view, times, cx);
    }

    /// Takes over what an answer says, as far as it is newer or contradicts what is known.
    fn learn(&mut self, view: &View, asked: Timestamp, at: Timestamp, cx: &mut Context<'_>) {
        let known = &self.known;
        // The record of a closed circuit expires, and the next report makes a new one.
        let anew = is_absent(view) || is_first(view) && asked >= self.at;
        let both_closed = view.state == RecordState::Closed && known.state == RecordState::Closed;
        let vanished = both_closed && anew && view.rank() < known.rank();
        // A detached circuit judges by itself what the loss of a record means: see `attach`.
        let replaced = !self.is_synced() && asked >= self.at;
        let behind = view.rank() < known.rank() && !vanished && !replaced;
        let override_behind = view.overridden.version < known.overridden.version;
        if behind || override_behind {
            self.lost();
        }
        if override_behind && !self.is_synced() {
            // Nothing that this replica finds out while it is detached ends an override.
            self.outbox.restore = true;
        }
        let known = &self.known;
        let contradicts = view.rank() == known.rank() && !view.state.is_like(&known.state);
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
    fn lost(&mut self) {
        if !self.is_synced() {
            // What this replica found out since matters too: see `attach`.
            return;
        }
        self.outbox.restore = true;
        self.voted = false;
    }

    /// Follows what was published, until an answer confirms it.
    pub(super) fn pushed(&mut self, view: &View, cx: &mut Context<'_>) {
        if !self.is_synced() {
            return;
        }
        let rolled = view.suspect.map(|roll| roll.id) > self.followed.suspect.map(|roll| roll.id);
        let same_rank = view.rank() == self.followed.rank();
        let newer = view.rank() > self.followed.rank() || same_rank && rolled;
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
        let at = if newer { cx.now } else { self.followed_at };
        let override_at = if override_newer { cx.now } else { self.followed_override_at };
        self.hint = Some(Hint { view: target.clone(), at, override_at });
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
        let known = &self.known;
        let rest = (known.rank() < hint.view.rank()).then_some(hint.at);
        let version = hint.view.overridden.version;
        let overridden = (known.overridden.version < version).then_some(hint.override_at);
        let first = rest.into_iter().chain(overridden).min().unwrap_or(hint.at);
        Some(first.after(CONFIRM_AFTER))
    }

    /// Makes the machine follow a view, as far as it differs from the one it followed before.
    ///
    /// The times of its state count from the first of `times`, those of its override from the
    /// second.
    fn follow(&mut self, view: View, times: (Timestamp, Timestamp), cx: &mut Context<'_>) {
        let old = std::mem::replace(&mut self.followed, view);
        (self.followed_at, self.followed_override_at) = times;
        let new = &self.followed;
        let both_closed = new.state == RecordState::Closed && old.state == RecordState::Closed;
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
        let newer = new.rank() != old.rank();
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
        if next && !evidence_goes_on || !same_kind {
            self.apply(None, cx);
        } else if newer {
            self.update(Timestamp::default(), cx.machine);
        }
    }

    /// Follows a change of the override. Returns whether there was one.
    fn follow_override(&mut self, cx: &mut Context<'_>) -> bool {
        let stored = self.followed.overridden.record.as_ref();
        // One that is about to end may have ended here already.
        let lasts =
            |record: &OverrideRecord| record.remaining.is_none_or(|left| left > ABOUT_TO_END);
        let presence = match stored.filter(|record| lasts(record)) {
            Some(_) => Presence::Present,
            None => Presence::Absent,
        };
        let followed = (self.followed.overridden.version, presence);
        // A backend that was emptied may give one version twice.
        let ours = cx.machine.overridden();
        let contradicts = stored.zip(ours).is_some_and(|(stored, ours)| !ours.says_as(stored));
        let known = self.override_followed.is_some_and(|(version, was)| {
            let appears = was == Presence::Absent && presence == Presence::Present;
            version == followed.0 && !appears && !contradicts
        });
        // What was changed here since is still to be sent, and holds until then.
        if known || self.outbox.change.is_some() {
            return false;
        }
        let changed_here = self.override_followed.is_none();
        self.override_followed = Some(followed);
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
            // A reset that was made here is superseded: the record is still open.
            None if changed_here
                && cx.machine.state() == State::Closed
                && self.followed.state != RecordState::Closed =>
            {
                self.apply(None, cx);
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
        (self.vain_rolls, self.vain_roll, self.next_roll) = (0, 0, Timestamp::default());
        self.answered_roll = 0;
    }

    /// Moves the machine to the state of the view that is followed.
    pub(super) fn apply(&mut self, reason: Option<Reason>, cx: &mut Context<'_>) {
        self.apply_until(None, reason, cx);
    }

    /// The same; if that is open, until another time than its own.
    pub(super) fn apply_until(
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
            reason: reason.or(view.reason).unwrap_or(Reason::NoRecord),
            tally: view.tally,
            contributors: view.contributors.clone().into(),
            last_error: view.last_error.clone(),
        };
        let transition = cx.machine.apply(shared, view.generation, why, cx.now, cx.policy);
        cx.effects.began(transition);
    }

    pub(super) fn update(&self, refused_until: Timestamp, machine: &mut Machine) {
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

fn is_first(view: &View) -> bool {
    view.generation == View::FIRST
}

/// Whether there is no record.
pub(super) fn is_absent(view: &View) -> bool {
    is_first(view) && view.revision == 0
}
