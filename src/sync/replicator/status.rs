//! How it ends, and how it is.

use super::{Member, NodeId, Replicator};
use crate::backend::{Group, Impairment};
use crate::clock;
use crate::event::{BackendStatus, log};
use crate::sync::group::GroupSync;
use crate::sync::handle::Notification;
use crate::sync::scheduler::Class;

impl Replicator {
    /// Sends what must be sent before the end. Returns whether there is nothing more, or no way to
    /// send it.
    pub(super) fn finish(&mut self) -> bool {
        let now = clock::now();
        let pace = self.pace();
        if !self.finishing {
            self.finishing = true;
            let ids: Vec<NodeId> = self.members.keys().copied().collect();
            for id in ids {
                if let Some(member) = self.members.get(&id) {
                    let agenda = member.node.agenda(pace);
                    self.set_agenda(id, agenda);
                }
            }
        }
        let waits = |member: &Member| {
            let failures = matches!(member.agenda.report, Some((Class::Failures, _)));
            member.agenda.command.is_some() || member.agenda.is_busy || failures
        };
        let waiting = self.members.values().any(waits);
        let unanswered = self.groups.iter().any(|sync| sync.in_flight || sync.unanswered.is_some());
        if !waiting && !unanswered {
            return true;
        }
        if self.degraded.is_some() || self.failing_since.is_some() {
            self.handle.leave_unsent();
            return true;
        }
        for group in Group::all() {
            let sync = &mut self.groups[usize::from(group.number())];
            let reports = sync.reports.values_mut();
            for (_, due) in reports.filter(|(class, _)| *class == Class::Failures) {
                *due = now.min(*due);
            }
            self.request_sync(group);
        }
        false
    }

    pub(super) fn publish_status(&mut self) {
        let impairments = self.handle.backend.impairments();
        let unpushed = |impairment: &Impairment| matches!(impairment, Impairment::NotPushed { .. });
        self.unpushed = impairments.iter().any(unpushed);
        let status = self.current_status(&impairments);
        if *self.handle.status.borrow() == status {
            return;
        }
        let before = self.handle.status.send_replace(status.clone());
        if before.is_like(&status) {
            return;
        }
        log::backend(&before, &status);
        self.notify(Notification::Status(status));
    }

    pub(super) fn current_status(&self, impairments: &[Impairment]) -> BackendStatus {
        if let Some(reason) = &self.degraded {
            return BackendStatus::Degraded { reason: reason.clone() };
        }
        if self.heard.is_none() {
            return BackendStatus::Connecting;
        }
        let mut what = impairments.to_vec();
        let unreachable =
            |sync: &&GroupSync| sync.failing.as_ref().is_some_and(|f| f.is_unreachable);
        let groups = self.groups.iter().filter(unreachable);
        let mut causes = groups.clone().filter_map(|sync| sync.failing.as_ref());
        if let Some(failing) = causes.next_back() {
            let cause = failing.cause.clone();
            what.push(Impairment::GroupsUnreachable { groups: groups.count(), cause });
        }
        if let Some(cause) = self.refused.values().next() {
            let circuits = self.refused.len();
            what.push(Impairment::CircuitsDetached { circuits, cause: cause.clone() });
        }
        if what.is_empty() { BackendStatus::Connected } else { BackendStatus::Impaired { what } }
    }
}
