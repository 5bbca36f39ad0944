//! Circuits join, want to send, and go.

use std::sync::Arc;

use super::{Job, Member, NodeId, Replicator};
use crate::backend::Group;
use crate::clock;
use crate::event::log;
use crate::sync::circuit::{Detached, Input, Totals};
use crate::sync::handle::{Inbox, Notification};
use crate::sync::node::Node;
use crate::sync::outbound::Agenda;
use crate::sync::scheduler::Class;
use crate::timestamp::Timestamp;

impl Replicator {
    pub(super) fn take(&mut self, inbox: Inbox) {
        for (id, node) in inbox.joined {
            self.join(id, node);
        }
        for (id, request) in inbox.leases {
            if let Some(member) = self.members.get_mut(&id) {
                member.leases.push(request);
                self.request_lease(id);
            }
        }
        let pace = self.pace();
        for id in inbox.woken {
            let Some(member) = self.members.get(&id) else { continue };
            let agenda = member.node.agenda(pace);
            self.set_agenda(id, agenda);
        }
        for id in inbox.released {
            if let Some(member) = self.members.get_mut(&id) {
                member.released = true;
                self.drop_if_unused(id);
            }
        }
    }

    pub(super) fn join(&mut self, id: NodeId, node: Arc<dyn Node>) {
        let (name, now) = (node.name().clone(), clock::now());
        let group = Group::of(&name);
        let member =
            Member { node, group, agenda: Agenda::default(), leases: Vec::new(), released: false };
        self.members.insert(id, member);
        self.ids.insert(name.clone(), id);
        self.groups[usize::from(group.number())].nodes.insert(id);
        let known = self.handle.directory().find(&name, now);
        let failing = &self.groups[usize::from(group.number())].failing;
        let unreachable = self.degraded.is_some()
            || failing.as_ref().is_some_and(|failing| failing.is_unreachable);
        match known {
            _ if unreachable => {
                self.apply(id, Input::Detach(Detached::Unreachable));
            }
            Some((view, at)) => {
                let totals = Totals::Absent;
                self.apply(id, Input::Answer { view: &view, asked: at, at, totals });
            }
            None => {
                let sync = &mut self.groups[usize::from(group.number())];
                sync.unknown.insert(id);
                sync.hurry(Class::Probe, now);
                self.ticks.insert((now.after(self.handle.settings.deadline), id));
                self.apply(id, Input::Tick);
            }
        }
    }

    /// Hands a circuit an input, and takes its new agenda.
    pub(super) fn apply(&mut self, id: NodeId, input: Input<'_>) {
        let pace = self.pace();
        let Some(member) = self.members.get(&id) else { return };
        let (agenda, notify) = member.node.apply(input, pace);
        if notify {
            self.notify(Notification::Circuit(member.node.clone()));
        }
        if !agenda.is_unknown {
            member.node.known();
        }
        self.set_agenda(id, agenda);
    }

    pub(super) fn set_agenda(&mut self, id: NodeId, agenda: Agenda) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let group = member.group;
        let old = std::mem::replace(&mut member.agenda, agenda.clone());
        self.active += usize::from(!agenda.is_plain);
        self.active -= usize::from(!old.is_plain);
        if agenda.tick != old.tick {
            if let Some(tick) = old.tick {
                self.ticks.remove(&(tick, id));
            }
            self.ticks.extend(agenda.tick.map(|tick| (tick, id)));
        }
        if agenda.command != old.command || agenda.command.is_some() {
            self.scheduler.request(Job::Command(id), agenda.command);
        }
        match agenda.refused {
            Some(cause) => {
                if !self.refused.contains_key(&id) {
                    log::refused(self.members[&id].node.name(), &cause);
                }
                self.refused.insert(id, cause);
            }
            None => {
                self.refused.remove(&id);
            }
        }
        let sync = &mut self.groups[usize::from(group.number())];
        match agenda.report {
            Some(wanted) => sync.reports.insert(id, wanted),
            None => sync.reports.remove(&id),
        };
        if agenda.has_view {
            sync.unknown.remove(&id);
        }
        self.request_sync(group);
    }

    pub(super) fn request_lease(&mut self, id: NodeId) {
        self.scheduler.request(Job::Lease(id), Some((Class::Probe, clock::now())));
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        while let Some(&(due, id)) = self.ticks.first() {
            if due > now {
                break;
            }
            self.ticks.pop_first();
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.agenda.tick == Some(due) {
                member.agenda.tick = None;
            }
            if member.agenda.is_unknown {
                self.apply(id, Input::Detach(Detached::Unreachable));
            } else {
                self.apply(id, Input::Tick);
            }
        }
    }

    pub(super) fn drop_unused(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.released = true;
            }
            self.drop_if_unused(id);
        }
    }

    /// Drops a circuit that no store and no user has, once its commands are sent.
    pub(super) fn drop_if_unused(&mut self, id: NodeId) {
        let Some(member) = self.members.get(&id) else { return };
        let wants = member.agenda.command.is_some() && self.degraded.is_none();
        if member.released && !wants && member.node.is_last() {
            self.remove(id);
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.set_agenda(id, Agenda::default());
        self.scheduler.request(Job::Lease(id), None);
        self.scheduler.request(Job::Command(id), None);
        let Some(member) = self.members.remove(&id) else { return };
        if self.ids.get(member.node.name()) == Some(&id) {
            self.ids.remove(member.node.name());
        }
        let sync = &mut self.groups[usize::from(member.group.number())];
        sync.nodes.remove(&id);
        sync.unknown.remove(&id);
        member.node.leave();
        member.node.known();
    }

    pub(super) fn leave_all(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    pub(super) fn notify(&self, notification: Notification) {
        // The task that notifies ends after this one.
        let _ = self.notifications.send(notification);
    }
}
