//! Batches: what a group of circuits reports and reads.

use super::{Answered, Done, NodeId, Replicator, within};
use crate::backend::{Batch, Group};
use crate::clock;
use crate::name::CircuitName;
use crate::sync::handle::Notification;
use crate::sync::report::Reported;
use crate::sync::scheduler::Class;
use crate::timestamp::Timestamp;

/// How many circuits a batch reads at most without a report of theirs.
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
        let Some(mut batch) = batch else {
            sync.in_flight = false;
            self.request_sync(group);
            return false;
        };
        sync.unanswered = Some((batch.clone(), now));
        self.scheduler.charge(batch.reports.len());
        let backend = self.handle.backend.clone();
        self.tasks.spawn(async move {
            // A busy runtime may begin late, and the order of calls is decided by their ages.
            batch.grow_older(clock::now().since(now));
            let answer = within(|| backend.sync(group, &batch)).await;
            Done { asked: now, answer: Answered::Sync(group, answer) }
        });
        true
    }

    /// The batch that was not answered, by now.
    pub(super) fn unanswered(&mut self, group: Group, now: Timestamp) -> Option<Batch> {
        let sync = &mut self.groups[usize::from(group.number())];
        let (mut batch, made) = sync.unanswered.take()?;
        batch.grow_older(now.since(made));
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
        let mut wanted: Vec<_> = sync.reports.iter().filter_map(is_due).collect();
        wanted.sort_unstable();
        // The rest goes with the next.
        let rest = wanted.split_off(room.min(wanted.len()));
        let answers = |id: &NodeId| self.members.get(id).is_some_and(|m| m.agenda.answers_roll);
        let complete = !rest.iter().any(|(_, _, id)| answers(id));
        let (since, seen) = (sync.begin(), if complete { sync.seen } else { 0 });
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
        let mut asked: Vec<NodeId> = sync.unknown.iter().copied().take(MOST_ASKED).collect();
        if class == Class::Poll {
            // An operator may have edited a record, which then is no change of the group.
            let is_active = |id: &&NodeId| self.members.get(id).is_some_and(|m| !m.agenda.is_plain);
            let (behind, ahead) =
                (sync.nodes.range(..=sync.polled), sync.nodes.range(sync.polled + 1..));
            let rest = MOST_ASKED - asked.len();
            asked.extend(ahead.chain(behind).filter(is_active).take(rest));
            sync.polled = asked.last().copied().unwrap_or_default();
        }
        let asked = asked.iter().filter_map(|id| self.members.get(id)).map(|m| m.node.name());
        circuits.extend(asked.filter(|name| reports.iter().all(|r| r.circuit != **name)).cloned());
        let reads = due || sync.failing.is_some() || matches!(class, Class::Probe | Class::Poll);
        if reports.is_empty() && circuits.is_empty() && !reads {
            return None;
        }
        sync.seq += 1;
        let sender = self.handle.sender.clone();
        Some(Batch { sender, seq: sync.seq, since, seen, reports, circuits })
    }
}
