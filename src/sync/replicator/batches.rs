//! Batches: what a group of circuits reports and reads.

use super::{Answered, Done, NodeId, Replicator, within};
use crate::backend::{Batch, Group};
use crate::name::CircuitName;
use crate::sync::handle::Notification;
use crate::sync::report::Reported;
use crate::sync::scheduler::Class;
use crate::timestamp::Timestamp;

/// How many new circuits a batch asks for at most.
const MOST_ASKED: usize = 64;

/// Reports that are due within this share of the far interval go with those that are due.
const TOGETHER: u32 = 4;

impl Replicator {
    pub(super) fn send_batch(&mut self, group: Group, class: Class, now: Timestamp) -> bool {
        let room = self.scheduler.room(class);
        self.groups[usize::from(group.number())].in_flight = true;
        let batch = match self.unanswered(group, now) {
            Some(batch) => Some(batch),
            None => self.batch(group, class, room, now),
        };
        let sync = &mut self.groups[usize::from(group.number())];
        let Some(batch) = batch else {
            sync.in_flight = false;
            self.request_sync(group);
            return false;
        };
        sync.unanswered = Some((batch.clone(), now));
        self.scheduler.charge(batch.reports.len());
        let backend = self.handle.backend.clone();
        self.tasks.spawn(async move {
            let answer = within(|| backend.sync(group, &batch)).await;
            Done { asked: now, answer: Answered::Sync(group, answer) }
        });
        true
    }

    /// The batch that was not answered, by now.
    pub(super) fn unanswered(&mut self, group: Group, now: Timestamp) -> Option<Batch> {
        let sync = &mut self.groups[usize::from(group.number())];
        let (mut batch, made) = sync.unanswered.take()?;
        for report in &mut batch.reports {
            report.grow_older(now.since(made));
        }
        // What it completed then, it does not complete now.
        batch.seen = 0;
        batch.since = sync.begin();
        Some(batch)
    }

    /// Returns a batch, unless there is nothing to report and nothing to read.
    pub(super) fn batch(
        &mut self,
        group: Group,
        class: Class,
        room: usize,
        now: Timestamp,
    ) -> Option<Batch> {
        let pace = self.pace();
        let sync = &mut self.groups[usize::from(group.number())];
        let due = sync.due.take_if(|(_, due)| *due <= now).is_some();
        let soon = now.after(pace.far / TOGETHER);
        let is_due = |(id, (class, due)): (&NodeId, &(Class, Timestamp))| {
            (*due <= soon).then_some((*class, *due, *id))
        };
        let mut wanted: Vec<_> = if due {
            // Complete: also what suspect circuits have counted outside of their locks.
            let suspect = |id: &NodeId| self.members.get(id).is_some_and(|m| m.agenda.is_suspect);
            let of = |id| sync.reports.get(&id).copied().unwrap_or((Class::Poll, now));
            let all = sync.nodes.iter().copied();
            let all = all.filter(|id| sync.reports.contains_key(id) || suspect(id));
            all.map(|id| (of(id).0, of(id).1, id)).collect()
        } else {
            sync.reports.iter().filter_map(is_due).collect()
        };
        wanted.sort_unstable();
        let fits = wanted.len() <= room;
        wanted.truncate(room);
        let (since, seen) = (sync.begin(), if due && fits { sync.seen } else { 0 });
        let mut reports = Vec::with_capacity(wanted.len());
        let mut circuits: Vec<CircuitName> = Vec::new();
        for (_, _, id) in wanted {
            let Some(member) = self.members.get(&id) else { continue };
            let (reported, notify) = member.node.report();
            if notify {
                self.notify(Notification::Circuit(member.node.clone()));
            }
            match reported {
                Reported::Report(report) => reports.push(report),
                Reported::View => circuits.push(member.node.name().clone()),
                Reported::Nothing => {}
            }
            let agenda = member.node.agenda(pace);
            self.set_agenda(id, agenda);
        }
        let sync = &mut self.groups[usize::from(group.number())];
        if !fits {
            // The rest goes with the next; not at once, or a debt would never end.
            sync.hurry(Class::Failures, now.after(pace.near));
        }
        let unknown = sync.unknown.iter().filter_map(|id| self.members.get(id));
        circuits.extend(unknown.map(|member| member.node.name().clone()).take(MOST_ASKED));
        if class == Class::Poll {
            // An operator may have edited a record, which then is no change of the group.
            let active = |id: &NodeId| self.members.get(id).filter(|m| !m.agenda.is_plain);
            let active = sync.nodes.iter().filter_map(active).map(|m| m.node.name().clone());
            circuits.extend(active.filter(|name| reports.iter().all(|r| r.circuit != *name)));
            circuits.truncate(MOST_ASKED);
        }
        let reads = due || sync.failing.is_some() || matches!(class, Class::Probe | Class::Poll);
        if reports.is_empty() && circuits.is_empty() && !reads {
            return None;
        }
        sync.seq += 1;
        let sender = self.handle.sender.clone();
        Some(Batch { sender, seq: sync.seq, since, seen, reports, circuits })
    }
}
