//! What a hand has set, here or on another replica.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Told, Wish};
use crate::backend::{BackendError, Setting};
use crate::circuit::locked::Locked;
use crate::machine::{Event, Origin, Reason};
use crate::timestamp::Timestamp;

impl Locked {
    /// The time of the override in force is over.
    pub(in crate::circuit) fn end_override(&mut self, now: Timestamp) {
        if let Some(member) = &mut self.member {
            member.view.imposed.setting = None;
            member.view.reason = Some(Reason::OverrideOver);
            self.follow(None, now);
        } else {
            let closed = self.machine.reset(Reason::OverrideOver, &self.policy, now);
            self.happened(Some(Event::Transition(closed)));
        }
    }

    /// Takes on what a hand has set on another replica.
    pub(super) fn take_on(&mut self, setting: Setting, now: Timestamp) {
        let ours = self.setting.as_ref();
        let known = ours.is_some_and(|ours| {
            (ours.state, &ours.reason, &ours.actor)
                == (setting.state, &setting.reason, &setting.actor)
        });
        if !known {
            self.force(setting, Origin::Cluster, now);
        }
    }

    /// Sets a state by hand, here.
    pub(in crate::circuit) fn force(&mut self, setting: Setting, origin: Origin, now: Timestamp) {
        let ends = setting.remaining.map_or(Timestamp::NEVER, |lasting| now.after(lasting));
        let transition = self.machine.force(setting.state, origin, ends, &self.policy, now);
        self.happened(Some(Event::Transition(transition)));
        self.setting = Some(setting);
    }

    /// Remembers that a hand has set or ended a state here, and all are to know.
    pub(in crate::circuit) fn wish(
        &mut self,
        setting: Option<Setting>,
        now: Timestamp,
    ) -> Option<Told> {
        let member = self.member.as_mut()?;
        let (told, hears) = oneshot::channel();
        member.wish = Some(Wish { setting, at: now, told: Some(told) });
        (member.trip, member.proposal) = (None, None);
        member.hurry();
        Some(hears)
    }
}

impl Wish {
    /// What is to be set now; `None` if its time is over meanwhile.
    #[expect(clippy::option_option, reason = "the inner one is an end, as everywhere")]
    pub(crate) fn setting(&self, now: Timestamp) -> Option<Option<Setting>> {
        let Some(setting) = self.setting.clone() else { return Some(None) };
        let passed = now.since(self.at);
        let remaining = setting.remaining.map(|time| time.saturating_sub(passed));
        (remaining != Some(Duration::ZERO)).then_some(Some(Setting { remaining, ..setting }))
    }

    /// Says what has come of it, to who waits.
    pub(crate) fn tell(&mut self, result: Result<(), BackendError>) {
        if let Some(told) = self.told.take() {
            // Nobody has to wait for it.
            let _ = told.send(result);
        }
    }
}
