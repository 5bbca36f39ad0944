//! The one task of a store that talks to the backend.
//!
//! It takes what circuits want to send ([`Agenda`]), has the [scheduler](super::scheduler) decide
//! what goes next, sends it, and hands the answers and the pushes to the circuits. A circuit costs
//! no task. No user code runs in it: observers run in a task of their own, so one that does not
//! return delays no sync.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::circuit::{Command, Detached, Input, Pace, Totals};
use super::group::{GroupSync, NodeId, Polls};
use super::handle::{Handle, Inbox, Life, Notification};
use super::node::{LeaseRequest, Node, Then};
use super::outbound::Agenda;
use super::report::Reported;
use super::scheduler::{Class, Next, Scheduler, spread};
use crate::backend::{
    Answer, BackendError, Batch, Changes, Group, Heartbeat, Impairment, Lease, Notice, Roster, View,
};
use crate::clock;
use crate::event::{BackendStatus, log};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// How long an operation may take that no call waits for.
const BACKGROUND: Duration = Duration::from_secs(1);

const HEARTBEAT: Duration = Duration::from_secs(1);

/// The same while heartbeats are not answered.
const HEARTBEAT_AGAIN: Duration = Duration::from_millis(500);

/// Heartbeats, or the batches of a group, without an answer for so long: the circuits detach.
const DEGRADED_AFTER: Duration = Duration::from_secs(2);

/// What all replicas send after a gap or an outage is spread over this.
const RETURN_SPREAD: Duration = Duration::from_millis(500);

/// An operation without an answer for so long is a sign of a slow backend.
const SLOW: Duration = Duration::from_millis(250);

/// The longest description of the circuits, in bytes.
const MOST_DESCRIBED: usize = 60 * 1024;

/// How many new circuits a batch asks for at most.
const MOST_ASKED: usize = 64;

/// Reports that are due within this share of the far interval go with those that are due.
const TOGETHER: u32 = 4;

/// What the scheduler decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Heartbeat,
    Sync(Group),
    Command(NodeId),
    Lease(NodeId),
    /// A description of the circuits, for those who watch the cluster.
    Publish,
}

/// An answer, and when the operation was sent.
struct Done {
    asked: Timestamp,
    answer: Answered,
}

#[expect(clippy::large_enum_variant, reason = "a few at a time")]
enum Answered {
    Heartbeat(Result<Roster, BackendError>),
    Published(Result<(), BackendError>),
    Sync(Group, Result<Changes, BackendError>),
    Command(NodeId, Command, Result<View, BackendError>),
    Lease(NodeId, Box<dyn LeaseRequest>, Result<(Option<Lease>, View), BackendError>),
}

/// A circuit of this replica.
struct Member {
    node: Arc<dyn Node>,
    group: Group,
    agenda: Agenda,
    /// Requests for leases, in the order of their calls. There is one at a time for each round.
    leases: Vec<Box<dyn LeaseRequest>>,
    /// The store has forgotten the circuit.
    released: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Replicator {
    handle: Arc<Handle>,
    notices: broadcast::Receiver<Notice>,
    notifications: UnboundedSender<Notification>,
    members: HashMap<NodeId, Member>,
    ids: HashMap<CircuitName, NodeId>,
    groups: Vec<GroupSync>,
    scheduler: Scheduler<Job>,
    tasks: JoinSet<Done>,
    ticks: BTreeSet<(Timestamp, NodeId)>,
    /// Circuits that are suspect or not closed.
    active: usize,
    polled: Polls,
    /// Changes are not pushed.
    unpushed: bool,
    /// Circuits that no user has any more are looked for.
    sweeps: bool,
    /// Why circuits are detached although the backend answers.
    refused: BTreeMap<NodeId, String>,
    live: u64,
    /// Two heartbeats in a row have brought this number. Otherwise replicas that have just started
    /// may be missing in it.
    live_is_sure: bool,
    /// When the last heartbeat was sent that was answered.
    heard: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    /// Why no heartbeat is answered, since that is so for too long.
    degraded: Option<String>,
    finishing: bool,
}

impl Replicator {
    pub(super) fn new(
        handle: Arc<Handle>,
        notices: broadcast::Receiver<Notice>,
        notifications: UnboundedSender<Notification>,
    ) -> Self {
        let now = clock::now();
        let mut scheduler = Scheduler::new(handle.settings.budget, now);
        scheduler.request(Job::Heartbeat, Some((Class::Heartbeat, now)));
        Self {
            notices,
            notifications,
            members: HashMap::new(),
            ids: HashMap::new(),
            groups: Group::all().map(|_| GroupSync::default()).collect(),
            scheduler,
            tasks: JoinSet::new(),
            ticks: BTreeSet::new(),
            active: 0,
            polled: Polls::Plain,
            unpushed: false,
            sweeps: false,
            refused: BTreeMap::new(),
            live: 1,
            live_is_sure: false,
            heard: None,
            failing_since: None,
            degraded: None,
            finishing: false,
            handle,
        }
    }

    pub(super) async fn run(mut self) {
        let handle = self.handle.clone();
        let mut life = handle.life.subscribe();
        loop {
            let inbox = handle.take_inbox();
            self.take(inbox);
            self.tick(clock::now());
            let wait = self.send_what_is_due();
            self.publish_status();
            self.change_polls();
            match *life.borrow_and_update() {
                Life::Running => {}
                Life::Orphaned => {
                    if std::mem::take(&mut self.sweeps) {
                        self.drop_unused();
                    }
                    if self.members.is_empty() {
                        return;
                    }
                }
                Life::ShuttingDown => {
                    if self.finish() {
                        break;
                    }
                }
            }
            tokio::select! {
                biased;
                () = handle.woken.notified() => {}
                notice = self.notices.recv() => self.noticed(notice),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // An operation of a user's own backend may have panicked.
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                _ = life.changed() => {}
                () = sleep(wait) => {}
            }
        }
        self.leave_all();
        let _ = timeout(BACKGROUND, handle.backend.close()).await;
        handle.status.send_replace(BackendStatus::Closed);
    }

    fn pace(&self) -> Pace {
        let pace = self.handle.settings.pace(self.live);
        // A roll call then counts as answered when the settling time is over.
        let live = if self.live_is_sure { self.live } else { u64::MAX };
        Pace { live, ..pace }
    }
}

/// Circuits come, go, and want to send.
impl Replicator {
    fn take(&mut self, inbox: Inbox) {
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

    fn join(&mut self, id: NodeId, node: Arc<dyn Node>) {
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
    fn apply(&mut self, id: NodeId, input: Input<'_>) {
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

    fn set_agenda(&mut self, id: NodeId, agenda: Agenda) {
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
        if !agenda.is_unknown {
            sync.unknown.remove(&id);
        }
        self.request_sync(group);
    }

    fn request_sync(&mut self, group: Group) {
        let (now, polls) = (clock::now(), self.polls());
        let wants = self.groups[usize::from(group.number())].wants(now, polls);
        let wants = wants.filter(|_| self.degraded.is_none());
        self.scheduler.request(Job::Sync(group), wants);
    }

    fn request_all(&mut self) {
        Group::all().for_each(|group| self.request_sync(group));
    }

    fn polls(&self) -> Polls {
        if self.unpushed {
            Polls::Unpushed
        } else if self.active > 0 {
            Polls::Active
        } else {
            Polls::Plain
        }
    }

    /// Polls faster, or more slowly, from here on.
    fn change_polls(&mut self) {
        let polls = self.polls();
        if std::mem::replace(&mut self.polled, polls) != polls {
            self.request_all();
        }
    }

    fn request_lease(&mut self, id: NodeId) {
        self.scheduler.request(Job::Lease(id), Some((Class::Probe, clock::now())));
    }

    fn tick(&mut self, now: Timestamp) {
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

    fn drop_unused(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.released = true;
            }
            self.drop_if_unused(id);
        }
    }

    /// Drops a circuit that no store and no user has, once its commands are sent.
    fn drop_if_unused(&mut self, id: NodeId) {
        let Some(member) = self.members.get(&id) else { return };
        let wants = member.agenda.command.is_some() && self.degraded.is_none();
        if member.released && !wants && member.node.is_last() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: NodeId) {
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

    fn leave_all(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    fn notify(&self, notification: Notification) {
        // The task that notifies ends after this one.
        let _ = self.notifications.send(notification);
    }
}

/// What is sent.
impl Replicator {
    /// Returns how long there is nothing to send.
    fn send_what_is_due(&mut self) -> Duration {
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

    fn send(&mut self, job: Job, class: Class, now: Timestamp) -> bool {
        match job {
            Job::Heartbeat => self.send_heartbeat(now),
            Job::Publish => self.send_description(now),
            Job::Sync(group) => return self.send_batch(group, class, now),
            Job::Command(id) => return self.send_command(id, now),
            Job::Lease(id) => return self.send_lease(id, now),
        }
        true
    }

    fn send_heartbeat(&mut self, asked: Timestamp) {
        let backend = self.handle.backend.clone();
        let heartbeat = Heartbeat {
            sender: self.handle.sender.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            impaired: match &*self.handle.status.borrow() {
                status @ BackendStatus::Impaired { .. } => status.to_string(),
                _ => String::new(),
            },
        };
        self.tasks.spawn(async move {
            let answer = within(backend.heartbeat(&heartbeat)).await;
            Done { asked, answer: Answered::Heartbeat(answer) }
        });
    }

    fn send_description(&mut self, asked: Timestamp) {
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
            let answer = within(backend.publish(&sender, &circuits)).await;
            Done { asked, answer: Answered::Published(answer) }
        });
    }

    fn send_batch(&mut self, group: Group, class: Class, now: Timestamp) -> bool {
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
            let answer = within(backend.sync(group, &batch)).await;
            Done { asked: now, answer: Answered::Sync(group, answer) }
        });
        true
    }

    /// The batch that was not answered, by now.
    fn unanswered(&mut self, group: Group, now: Timestamp) -> Option<Batch> {
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
    fn batch(&mut self, group: Group, class: Class, room: usize, now: Timestamp) -> Option<Batch> {
        let pace = self.pace();
        let sync = &mut self.groups[usize::from(group.number())];
        let due = sync.due.take_if(|(_, due)| *due <= now).is_some();
        let soon = now.after(pace.far / TOGETHER);
        let is_due = |(id, (class, due)): (&NodeId, &(Class, Timestamp))| {
            (*due <= soon).then_some((*class, *due, *id))
        };
        let mut wanted: Vec<_> = if due {
            // Complete: also what suspect circuits have counted outside of their locks.
            let suspect = |id: &NodeId| self.members.get(id).is_some_and(|m| !m.agenda.is_plain);
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
            sync.hurry(Class::Failures, now);
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

    fn send_command(&mut self, id: NodeId, asked: Timestamp) -> bool {
        let pace = self.pace();
        let Some(member) = self.members.get(&id) else { return false };
        let Some(command) = member.node.command() else { return false };
        let (backend, name) = (self.handle.backend.clone(), member.node.name().clone());
        let agenda = member.node.agenda(pace);
        self.set_agenda(id, agenda);
        self.tasks.spawn(async move {
            let answer = within(match &command {
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

    fn send_lease(&mut self, id: NodeId, asked: Timestamp) -> bool {
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
            let answer = within(backend.acquire_probe(request.circuit(), generation, nonce)).await;
            Done { asked, answer: Answered::Lease(id, request, answer) }
        });
        true
    }
}

/// What is answered and pushed.
impl Replicator {
    fn done(&mut self, done: Done) {
        let (now, asked) = (clock::now(), done.asked);
        let unanswered = match &done.answer {
            // There is one a second at most, whatever the rate.
            Answered::Heartbeat(_) => false,
            Answered::Published(answer) => is_unanswered(answer),
            Answered::Sync(_, answer) => is_unanswered(answer),
            Answered::Command(_, _, answer) => is_unanswered(answer),
            Answered::Lease(_, _, answer) => is_unanswered(answer),
        };
        let took = now.since(asked);
        // An error at once is no sign of a slow backend.
        if unanswered && took >= SLOW {
            self.scheduler.unanswered(now);
        } else {
            self.scheduler.answered(took, now);
        }
        match done.answer {
            Answered::Heartbeat(answer) => self.heartbeat(answer, asked, now),
            // The next heartbeat says whether to go on.
            Answered::Published(_) => {}
            Answered::Sync(group, Ok(changes)) => self.synced(group, changes, asked, now),
            Answered::Sync(group, Err(error)) => self.not_synced(group, &error, asked, now),
            Answered::Command(id, command, answer) => {
                self.apply(id, Input::Done { command, result: answer.as_ref(), asked });
                self.drop_if_unused(id);
            }
            Answered::Lease(id, request, answer) => {
                match request.answered(answer, asked) {
                    Then::Done => {}
                    Then::AskAgain(request) => {
                        if let Some(member) = self.members.get_mut(&id) {
                            member.leases.insert(0, request);
                            self.request_lease(id);
                        }
                    }
                    Then::Detach(error) => {
                        let why = Detached::refused(error, now, fastrand::f64());
                        self.apply(id, Input::Detach(why));
                    }
                }
                if let Some(member) = self.members.get(&id) {
                    let agenda = member.node.agenda(self.pace());
                    self.set_agenda(id, agenda);
                }
            }
        }
    }

    fn heartbeat(
        &mut self,
        answer: Result<Roster, BackendError>,
        asked: Timestamp,
        now: Timestamp,
    ) {
        let draw = fastrand::u64(..);
        let wait = match answer {
            Ok(roster) => {
                let live = roster.live.max(1);
                self.live_is_sure = self.heard.is_some() && self.live == live;
                self.live = live;
                self.heard = Some(asked);
                self.sweeps = true;
                let watched = roster.watched.then_some((Class::Poll, now));
                self.scheduler.request(Job::Publish, watched);
                self.failing_since = None;
                if self.degraded.take().is_some() {
                    self.recovered(now);
                }
                HEARTBEAT
            }
            Err(error) => {
                self.live_is_sure = false;
                let since = *self.failing_since.get_or_insert(asked);
                if self.degraded.is_some() || now.since(since) >= DEGRADED_AFTER {
                    let first = self.degraded.replace(error.to_string()).is_none();
                    if first {
                        self.degrade();
                    }
                }
                HEARTBEAT_AGAIN
            }
        };
        let due = spread(asked.max(now.after(wait / 2)).after(wait / 4), wait / 2, draw);
        let due = if self.failing_since.is_none() { asked.after(HEARTBEAT).max(now) } else { due };
        self.scheduler.request(Job::Heartbeat, Some((Class::Heartbeat, due)));
    }

    fn degrade(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            self.apply(id, Input::Detach(Detached::Unreachable));
        }
        self.request_all();
    }

    fn recovered(&mut self, now: Timestamp) {
        for group in Group::all() {
            let sync = &mut self.groups[usize::from(group.number())];
            sync.failing = None;
            let due = spread(now, RETURN_SPREAD, fastrand::u64(..));
            sync.restart(Class::Failures, due);
        }
        self.request_all();
    }

    fn synced(&mut self, group: Group, changes: Changes, asked: Timestamp, now: Timestamp) {
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

    fn read_to_the_end(
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
            let detached = |member: &Member| !member.agenda.is_synced && !member.agenda.is_unknown;
            if self.members.get(&id).is_some_and(detached) {
                self.apply(id, Input::Current);
            }
        }
    }

    fn not_synced(&mut self, group: Group, error: &BackendError, asked: Timestamp, now: Timestamp) {
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

    fn noticed(&mut self, notice: Result<Notice, RecvError>) {
        let now = clock::now();
        match notice {
            Ok(Notice::Changed { circuit, view, previous, version }) => {
                self.pushed(&circuit, &view, (previous, version), now);
            }
            Ok(Notice::Circuits { .. }) => {}
            Ok(Notice::Gap) | Err(RecvError::Lagged(_)) => {
                self.handle.directory().doubt();
                for sync in &mut self.groups {
                    let due = spread(now, RETURN_SPREAD, fastrand::u64(..));
                    sync.restart(Class::Failures, due);
                }
                self.request_all();
                self.hurry_heartbeat(now);
            }
            // The backend is closed, or will not publish again: polls go on.
            Err(RecvError::Closed) => self.notices = self.handle.backend.subscribe(),
        }
    }

    /// A connection is back: perhaps the backend answers again.
    fn hurry_heartbeat(&mut self, now: Timestamp) {
        if self.failing_since.is_some() || self.heard.is_none() {
            self.scheduler.request(Job::Heartbeat, Some((Class::Heartbeat, now)));
        }
    }

    fn pushed(&mut self, circuit: &CircuitName, view: &View, versions: (u64, u64), now: Timestamp) {
        let group = Group::of(circuit);
        self.handle.directory().changed(group, circuit);
        let pace = self.pace();
        let sync = &mut self.groups[usize::from(group.number())];
        if sync.push(versions, now) {
            sync.hurry(Class::Poll, spread(now, RETURN_SPREAD, fastrand::u64(..)));
        }
        if view.suspect.is_some_and(|roll| roll.age < pace.settling) {
            sync.hurry(Class::Failures, now);
        }
        if let Some(&id) = self.ids.get(circuit) {
            self.apply(id, Input::Push(view));
        }
        self.request_sync(group);
    }
}

/// How it ends, and how it is.
impl Replicator {
    /// Sends what must be sent before the end. Returns whether there is nothing more, or no way to
    /// send it.
    fn finish(&mut self) -> bool {
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
            let failures = sync.reports.values().any(|(class, _)| *class == Class::Failures);
            if failures && !sync.in_flight && sync.failing.is_none() {
                sync.hurry(Class::Failures, now);
                self.request_sync(group);
            }
        }
        false
    }

    fn publish_status(&mut self) {
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

    fn current_status(&self, impairments: &[Impairment]) -> BackendStatus {
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
        let causes = groups.clone().filter_map(|sync| sync.failing.as_ref());
        if let Some(failing) = causes.last() {
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

impl Drop for Replicator {
    fn drop(&mut self) {
        self.leave_all();
        self.handle.end();
    }
}

/// Waits for an answer that no call waits for.
async fn within<T>(answer: Answer<'_, T>) -> Result<T, BackendError> {
    timeout(BACKGROUND, answer).await.unwrap_or_else(|_| {
        Err(BackendError::unavailable(format!("no answer within {BACKGROUND:?}")))
    })
}

fn is_unanswered<T>(answer: &Result<T, BackendError>) -> bool {
    answer.as_ref().is_err_and(BackendError::is_unavailable)
}
