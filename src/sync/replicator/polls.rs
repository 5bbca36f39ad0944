//! When groups are synced, and what happens when the backend is gone and back.

use super::{Job, NodeId, RETURN_SPREAD, Replicator};
use crate::backend::Group;
use crate::clock;
use crate::sync::circuit::{Detached, Input};
use crate::sync::group::Polls;
use crate::sync::scheduler::{Class, spread};
use crate::timestamp::Timestamp;

impl Replicator {
    pub(super) fn request_sync(&mut self, group: Group) {
        let (now, polls) = (clock::now(), self.polls());
        let wants = self.groups[usize::from(group.number())].wants(now, polls);
        let wants = wants.filter(|_| self.degraded.is_none());
        self.scheduler.request(Job::Sync(group), wants);
    }

    pub(super) fn request_all(&mut self) {
        Group::all().for_each(|group| self.request_sync(group));
    }

    pub(super) fn polls(&self) -> Polls {
        if self.unpushed {
            Polls::Unpushed
        } else if self.active > 0 {
            Polls::Active
        } else {
            Polls::Plain
        }
    }

    /// Polls faster, or more slowly, from here on.
    pub(super) fn change_polls(&mut self) {
        let polls = self.polls();
        if std::mem::replace(&mut self.polled, polls) != polls {
            self.request_all();
        }
    }

    /// The newest change that was seen, in any group.
    pub(super) fn seen(&self) -> u64 {
        self.groups.iter().map(|sync| sync.seen).max().unwrap_or_default()
    }

    /// Reads what has changed in each group: changes were not pushed, and it is unknown where.
    pub(super) fn poll_all(&mut self, now: Timestamp) {
        for sync in &mut self.groups {
            sync.hurry(Class::Poll, spread(now, RETURN_SPREAD, fastrand::u64(..)));
        }
        self.request_all();
    }

    pub(super) fn degrade(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            self.apply(id, Input::Detach(Detached::Unreachable));
        }
        self.request_all();
    }

    pub(super) fn recovered(&mut self, now: Timestamp) {
        for group in Group::all() {
            let sync = &mut self.groups[usize::from(group.number())];
            sync.failing = None;
            let due = spread(now, RETURN_SPREAD, fastrand::u64(..));
            sync.restart(Class::Failures, due);
        }
        self.request_all();
    }
}
