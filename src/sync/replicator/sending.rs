//! What is sent: heartbeats, commands of one circuit, requests for leases.

use std::time::Duration;

use super::{Answered, Done, HEARTBEAT, Job, NodeId, Replicator, within};
use crate::backend::{Group, Heartbeat, Move};
use crate::clock;
use crate::event::BackendStatus;
use crate::sync::circuit::Command;
use crate::sync::handle::Notification;
use crate::sync::scheduler::{Class, Next};
use crate::timestamp::Timestamp;

/// The longest description of the circuits, in bytes.
const MOST_DESCRIBED: usize = 60 * 1024;

impl Replicator {
    /// Returns how long there is nothing to send.
    pub(super) fn send_what_is_due(&mut self) -> Duration {
        loop {
            let now = clock::now();
            let next = match self.scheduler.next(now) {
                Next::Run(job, class) => {
                    if !self.send(job, class, now) {
                        // Nothing was sent after all.
                        self.scheduler.answered(Duration::ZERO, now);
                    }
                    continue;
                }
                Next::Wait(at) => at,
                Next::Idle => now.after(HEARTBEAT),
            };
            let tick = self.ticks.first().map_or(Timestamp::NEVER, |(due, _)| *due);
            return next.min(tick).since(now).min(HEARTBEAT);
        }
    }

    pub(super) fn send(&mut self, job: Job, class: Class, now: Timestamp) -> bool {
        match job {
            Job::Heartbeat => self.send_heartbeat(now),
            Job::Publish => self.send_description(now),
            Job::Sync(group) => return self.send_batch(group, class, now),
            Job::Command(id) => return self.send_command(id, now),
            Job::Lease(id) => return self.send_lease(id, now),
        }
        true
    }

    pub(super) fn send_heartbeat(&mut self, asked: Timestamp) {
        let backend = self.handle.backend.clone();
        let heartbeat = Heartbeat {
            sender: self.handle.sender.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            impaired: match &*self.handle.status.borrow() {
                status @ BackendStatus::Impaired { .. } => status.to_string(),
                _ => String::new(),
            },
            seen: self.seen(),
        };
        self.tasks.spawn(async move {
            let answer = within(|| backend.heartbeat(&heartbeat)).await;
            Done { asked, answer: Answered::Heartbeat(answer) }
        });
    }

    pub(super) fn send_description(&mut self, asked: Timestamp) {
        let (backend, sender) = (self.handle.backend.clone(), self.handle.sender.clone());
        let mut lines: Vec<(bool, String)> = Vec::with_capacity(self.members.len());
        for member in self.members.values() {
            let (is_closed, line, notify) = member.node.describe();
            if notify {
                self.notify(Notification::Circuit(member.node.clone()));
            }
            lines.push((is_closed, line));
        }
        // What is not closed first, as far as there is room.
        lines.sort_unstable();
        let mut circuits = String::new();
        for (_, line) in lines {
            if circuits.len() + line.len() <= MOST_DESCRIBED {
                circuits.push_str(&line);
            }
        }
        self.tasks.spawn(async move {
            let answer = within(|| backend.publish(&sender, &circuits)).await;
            Done { asked, answer: Answered::Published(answer) }
        });
    }

    pub(super) fn send_command(&mut self, id: NodeId, asked: Timestamp) -> bool {
        let pace = self.pace();
        let Some(member) = self.members.get(&id) else { return false };
        let Some(command) = member.node.command() else { return false };
        if let Command::Transition { to: Move::Open { .. }, .. } = command {
            // The evidence first, so that the record knows who contributed to the trip.
            self.report_with(member.group, id, asked);
        }
        let Some(member) = self.members.get(&id) else { return false };
        let (backend, name) = (self.handle.backend.clone(), member.node.name().clone());
        let agenda = member.node.agenda(pace);
        self.set_agenda(id, agenda);
        self.tasks.spawn(async move {
            let answer = within(|| match &command {
                Command::Restore(view) => backend.restore(&name, view),
                Command::Settle(settled) => {
                    backend.settle_probe(&name, settled.lease, &settled.probed)
                }
                Command::Override(change) => backend.set_override(&name, change),
                Command::Transition { from, to } => backend.transition(&name, *from, to),
            });
            let answer = answer.await;
            Done { asked, answer: Answered::Command(id, command, answer) }
        });
        true
    }

    fn report_with(&mut self, group: Group, id: NodeId, now: Timestamp) {
        let sync = &mut self.groups[usize::from(group.number())];
        if let Some((_, due)) = sync.reports.get_mut(&id)
            && !sync.in_flight
            && sync.failing.is_none()
        {
            *due = now;
            self.scheduler.request(Job::Sync(group), None);
            self.scheduler.begin();
            if !self.send_batch(group, Class::Failures, now) {
                self.scheduler.answered(Duration::ZERO, now);
            }
        }
    }

    pub(super) fn send_lease(&mut self, id: NodeId, asked: Timestamp) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.leases.retain(|request| request.is_wanted());
        if member.leases.is_empty() {
            return false;
        }
        let request = member.leases.remove(0);
        if !member.leases.is_empty() {
            self.request_lease(id);
        }
        let backend = self.handle.backend.clone();
        self.tasks.spawn(async move {
            let (generation, nonce) = (request.generation(), request.nonce());
            let answer =
                within(|| backend.acquire_probe(request.circuit(), generation, nonce)).await;
            Done { asked, answer: Answered::Lease(id, request, answer) }
        });
        true
    }
}
