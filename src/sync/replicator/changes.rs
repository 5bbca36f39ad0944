//! The answers to batches.

use std::collections::HashSet;

use super::{DEGRADED_AFTER, Member, Replicator};
use crate::backend::{BackendError, Changes, Group, View};
use crate::name::CircuitName;
use crate::sync::circuit::{Detached, Input, Totals};
use crate::sync::scheduler::Class;
use crate::timestamp::Timestamp;

impl Replicator {
    pub(super) fn synced(
        &mut self,
        group: Group,
        changes: Changes,
        asked: Timestamp,
        now: Timestamp,
    ) {
        let at = usize::from(group.number());
        let sync = &mut self.groups[at];
        sync.in_flight = false;
        sync.answered = Some(now);
        sync.draw = fastrand::u64(..);
        if sync.failing.take().is_some_and(|failing| failing.is_unreachable) {
            sync.restart(Class::Failures, now);
        }
        let batch = sync.unanswered.take().map(|(batch, _)| batch);
        sync.acknowledged = batch.as_ref().map_or(0, |batch| batch.seen).max(sync.acknowledged);
        let reported: HashSet<CircuitName> =
            batch.into_iter().flat_map(|batch| batch.reports).map(|r| r.circuit).collect();
        sync.advance(&changes, asked);
        let mut rolled = false;
        for (name, view) in &changes.views {
            let sync = &mut self.groups[at];
            if let Some(listing) = &mut sync.listing {
                listing.insert(name.clone());
            }
            self.handle.directory().learn(group, name, view, now);
            if let Some(&id) = self.ids.get(name) {
                let totals = if reported.contains(name) { Totals::Present } else { Totals::Absent };
                self.apply(id, Input::Answer { view, asked, at: now, totals });
            }
            rolled |= view.suspect.is_some_and(|roll| roll.age < self.pace().settling);
        }
        if rolled && self.groups[at].acknowledged < self.groups[at].seen {
            self.groups[at].hurry(Class::Failures, now);
        }
        for (name, error) in changes.refused {
            if let Some(&id) = self.ids.get(&name) {
                let why = Detached::refused(error, now, fastrand::f64());
                self.apply(id, Input::Detach(why));
            }
        }
        let sync = &mut self.groups[at];
        if changes.more {
            sync.hurry(Class::Failures, now);
        } else if !sync.restarts {
            let listed = sync.listing.take();
            self.read_to_the_end(group, listed.as_ref(), asked, now);
        }
        self.request_sync(group);
    }

    pub(super) fn read_to_the_end(
        &mut self,
        group: Group,
        listed: Option<&HashSet<CircuitName>>,
        asked: Timestamp,
        now: Timestamp,
    ) {
        if let Some(listed) = listed {
            self.handle.directory().retain(group, listed);
        }
        self.handle.directory().complete(group, asked);
        let nodes = self.groups[usize::from(group.number())].nodes.clone();
        let plain = View::default();
        for id in nodes {
            let Some(member) = self.members.get(&id) else { continue };
            let unlisted = listed.is_some_and(|listed| !listed.contains(member.node.name()));
            if unlisted {
                let totals = Totals::Absent;
                self.apply(id, Input::Answer { view: &plain, asked, at: now, totals });
            }
            // While degraded, nothing attaches, even to an answer that was asked for before: calls
            // would wait for leases that do not come.
            let detached = |member: &&Member| {
                self.degraded.is_none() && !member.agenda.is_synced && !member.agenda.is_unknown
            };
            let Some(member) = self.members.get(&id).filter(detached) else { continue };
            if member.agenda.has_view {
                self.apply(id, Input::Current);
            } else if member.agenda.refused.is_none() {
                // It missed its first view, which may be older than this answer.
                let sync = &mut self.groups[usize::from(group.number())];
                sync.unknown.insert(id);
                sync.hurry(Class::Probe, now);
            }
        }
    }

    pub(super) fn not_synced(
        &mut self,
        group: Group,
        error: &BackendError,
        asked: Timestamp,
        now: Timestamp,
    ) {
        let sync = &mut self.groups[usize::from(group.number())];
        sync.in_flight = false;
        if !error.is_unavailable() {
            // What it refuses now, it would refuse again.
            sync.unanswered = None;
        }
        sync.failed(error.to_string(), asked, now, fastrand::u64(..));
        let heard = self.heard;
        if let Some(failing) = &mut sync.failing
            && !failing.is_unreachable
            // It is this group, and not the whole backend.
            && (now.since(failing.since) >= DEGRADED_AFTER && heard > Some(failing.since)
                || !error.is_unavailable())
        {
            failing.is_unreachable = true;
            for id in sync.nodes.clone() {
                self.apply(id, Input::Detach(Detached::Unreachable));
            }
        }
        self.request_sync(group);
    }
}
