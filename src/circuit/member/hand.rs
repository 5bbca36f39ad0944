//! What a hand has set, here or on another replica.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Told, Wish};
use crate::backend::{BackendError, Move, OpenTerms, OverrideRecord, RecordState};
use crate::circuit::locked::{Later, Locked};
use crate::machine::{Event, Origin, Reason, State, Tally};
use crate::timestamp::Timestamp;

impl Locked {
    /// The time of the override in force is over.
    pub(in crate::circuit) fn end_override(&mut self, now: Timestamp) {
        if let Some(member) = &mut self.member {
            member.view.overridden.record = None;
            member.view.reason = Some(Reason::OverrideOver);
            self.follow(None, now);
        } else {
            let closed = self.machine.reset(Reason::OverrideOver, &self.policy, now);
            self.happened(Some(Event::Transition(closed)));
        }
    }

    /// Takes on what a hand has set on another replica.
    pub(super) fn take_on(&mut self, setting: OverrideRecord, now: Timestamp) {
        let ours = self.setting.as_ref();
        let known = ours.is_some_and(|ours| ours.says_as(&setting));
        if known {
            self.machine.set_ends(ends(&setting, now));
            self.setting = Some(setting);
        } else {
            self.force(setting, Origin::Cluster, now);
        }
    }

    /// Sets a state by hand, here.
    pub(in crate::circuit) fn force(
        &mut self,
        setting: OverrideRecord,
        origin: Origin,
        now: Timestamp,
    ) {
        let ends = ends(&setting, now);
        let transition = self.machine.force(setting.state, origin, ends, &self.policy, now);
        self.happened(Some(Event::Transition(transition)));
        self.setting = Some(setting);
    }

    /// Remembers that a hand has set or ended a state here, and all are to know.
    pub(in crate::circuit) fn wish(
        &mut self,
        setting: Option<OverrideRecord>,
        now: Timestamp,
    ) -> Option<Told> {
        let member = self.member.as_mut()?;
        let (told, hears) = oneshot::channel();
        let version = member.view.overridden.version;
        let wish = Wish { setting, at: now, version, told: Some(told) };
        // Who waits for the one before is woken by its end.
        let before = member.wish.replace(wish);
        self.later.extend(before.map(|wish| -> Later { Box::new(|| drop(wish)) }));
        (member.trip, member.proposal) = (None, None);
        member.hurry();
        Some(hears)
    }
}

impl Locked {
    /// Proposes to all that the open interval of the cluster's ends. False if there is none.
    pub(in crate::circuit) fn propose_to_probe(&mut self) -> bool {
        let open = self.machine.state() == State::Open;
        let Some(member) = self.member.as_mut().filter(|_| open) else { return false };
        let RecordState::Open { terms, .. } = member.view.state else { return false };
        // As short as an interval can be. The one after a failed probe is drawn from the policy.
        let terms = OpenTerms { interval: Duration::from_millis(1), ..terms };
        let (reason, tally) = (Reason::Override, Tally::default());
        member.proposal = Some(Move::Open { terms, reason, tally });
        member.hurry();
        true
    }
}

fn ends(setting: &OverrideRecord, now: Timestamp) -> Timestamp {
    setting.remaining.map_or(Timestamp::NEVER, |lasting| now.after(lasting))
}

impl Wish {
    /// What is to be set now, if it is not an end.
    pub(crate) fn setting(&self, now: Timestamp) -> Option<OverrideRecord> {
        let mut setting = self.setting.clone()?;
        if let Some(remaining) = &mut setting.remaining {
            *remaining = remaining.saturating_sub(now.since(self.at));
        }
        Some(setting)
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.setting(now).is_some_and(|setting| setting.remaining == Some(Duration::ZERO))
    }

    /// The ledger has a newer setting than the one that was known when this was wished. It holds,
    /// unless it is this one. Who waits is told later, without the lock.
    pub(super) fn outrun(mut self, by: Option<&OverrideRecord>) -> Later {
        let same = match (by, &self.setting) {
            (None, None) => true,
            (Some(by), Some(own)) => by.says_as(own),
            _ => false,
        };
        let result = if same {
            Ok(())
        } else {
            Err(BackendError::refused("another override was set meanwhile, and holds"))
        };
        Box::new(move || self.tell(result))
    }

    /// Says what has come of it, to who waits.
    pub(crate) fn tell(&mut self, result: Result<(), BackendError>) {
        if let Some(told) = self.told.take() {
            // Nobody has to wait for it.
            let _ = told.send(result);
        }
    }
}
