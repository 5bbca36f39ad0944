//! Overrides that were changed in this process.

use std::mem::take;

use tokio::sync::oneshot;

use super::circuit::{
    Acknowledgement, Change, CircuitSync, Confirmation, Context, Effects, SyncState,
};
use crate::backend::{BackendError, OverrideChange, OverrideRecord, RecordState, View};
use crate::machine::Reason;
use crate::timestamp::Timestamp;

impl CircuitSync {
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
        let waiter = Some(waiter);
        let mut change = Change { change, at: now, version, overtakes: None, waiter, sent: false };
        if let Some(mut before) = self.outbox.change.take() {
            change.overtakes =
                if before.sent { Some(before.change.clone()) } else { before.overtakes.take() };
            before.end(Err(superseded()), effects);
        }
        self.outbox.change = Some(change);
        self.trip = None;
        self.override_followed = None;
        self.outbox.proposal = None;
        answer
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
        let overtaken = change.overtakes.as_ref().is_some_and(|ours| has_made(ours, &self.known));
        if first || overtaken {
            // At first, whoever changed it could not know what had been set before. Later, what
            // was changed here before is older than this change, even if it is acknowledged late.
            change.version = version;
            return;
        }
        let same = has_made(&change.change, &self.known);
        let result = if same { Ok(()) } else { Err(superseded()) };
        let change = take(&mut self.outbox.change);
        if let Some(change) = change {
            change.end(result, cx.effects);
        }
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
                if let Some(change) = change {
                    change.end(Ok(()), cx.effects);
                }
            }
        }
    }
}

/// Whether a view is as a change leaves it.
fn has_made(change: &OverrideChange, view: &View) -> bool {
    match (change, &view.overridden.record) {
        (OverrideChange::Set(ours), Some(theirs)) => ours.says_as(theirs),
        (OverrideChange::Clear, None) => true,
        (OverrideChange::Reset, None) => {
            view.state == RecordState::Closed && view.reason == Some(Reason::Override)
        }
        _ => false,
    }
}

impl Change {
    /// What is to be changed now.
    pub(super) fn now(&self, now: Timestamp) -> OverrideChange {
        let mut change = self.change.clone();
        if let OverrideChange::Set(OverrideRecord { remaining: Some(remaining), .. }) = &mut change
        {
            *remaining = remaining.saturating_sub(now.since(self.at));
        }
        change
    }

    /// When it ends by itself.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        match &self.change {
            OverrideChange::Set(record) => record.remaining.map(|lasting| self.at.after(lasting)),
            OverrideChange::Clear | OverrideChange::Reset => None,
        }
    }

    pub(super) fn end(self, result: Result<(), BackendError>, effects: &mut Effects) {
        let confirmation = self.waiter.map(|waiter| Confirmation { waiter, result });
        effects.confirmations.extend(confirmation);
    }
}

fn superseded() -> BackendError {
    BackendError::refused("another override was set meanwhile, and holds")
}

pub(crate) fn left() -> BackendError {
    BackendError::refused(
        "the store was shut down before the backend stored the override, which applies in this \
         process only",
    )
}
