//! What is answered, apart from batches, and what is pushed.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::{Answered, DEGRADED_AFTER, Done, HEARTBEAT, Job, RETURN_SPREAD, Replicator};
use crate::backend::{BackendError, Group, Notice, Roster, View};
use crate::clock;
use crate::name::CircuitName;
use crate::sync::circuit::{Detached, Input};
use crate::sync::measured::{Answer, Operation};
use crate::sync::node::Then;
use crate::sync::scheduler::{Class, spread};
use crate::timestamp::Timestamp;

/// The same while heartbeats are not answered.
const HEARTBEAT_AGAIN: Duration = Duration::from_millis(500);

/// An operation without an answer for so long is a sign of a slow backend.
const SLOW: Duration = Duration::from_millis(250);

impl Replicator {
    pub(super) fn done(&mut self, done: Done) {
        let (now, asked) = (clock::now(), done.asked);
        let (operation, answer) = match &done.answer {
            Answered::Heartbeat(answer) => (Operation::Heartbeat, Answer::of(answer)),
            Answered::Published(answer) => (Operation::Publish, Answer::of(answer)),
            Answered::Sync(_, answer) => (Operation::Sync, Answer::of(answer)),
            Answered::Command(_, command, answer) => (Operation::of(command), Answer::of(answer)),
            Answered::Lease(_, _, answer) => (Operation::Lease, Answer::of(answer)),
        };
        let (took, unanswered) = (now.since(asked), answer == Answer::Unavailable);
        self.handle.measured.took(operation, answer, took);
        // An error at once is no sign of a slow backend, nor is one lost answer among others.
        let lost = self.answered > asked;
        if !unanswered {
            self.answered = now;
        }
        if !unanswered {
            self.scheduler.answered(took, now);
        } else if took >= SLOW && !lost {
            self.scheduler.unanswered(now);
        } else {
            self.scheduler.answered(Duration::ZERO, now);
        }
        match done.answer {
            Answered::Heartbeat(answer) => self.heartbeat(answer, asked, now),
            // The next heartbeat says whether to go on.
            Answered::Published(_) => {}
            Answered::Sync(group, Ok(changes)) => self.synced(group, changes, asked, now),
            Answered::Sync(group, Err(error)) => self.not_synced(group, &error, asked, now),
            Answered::Command(id, command, answer) => {
                self.apply(id, Input::Done { command: &command, result: answer.as_ref(), asked });
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

    pub(super) fn heartbeat(
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
                self.handle.measured.heard(live, asked);
                self.sweeps = true;
                if self.missed.compare(roster.newest, self.seen()) {
                    self.poll_all(now);
                }
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

    pub(super) fn noticed(&mut self, notice: Result<Notice, RecvError>) {
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
            // Nothing will be published any more: polls go on.
            Err(RecvError::Closed) => self.listens = false,
        }
    }

    /// A connection is back: perhaps the backend answers again.
    pub(super) fn hurry_heartbeat(&mut self, now: Timestamp) {
        if self.failing_since.is_some() || self.heard.is_none() {
            self.scheduler.request(Job::Heartbeat, Some((Class::Heartbeat, now)));
        }
    }

    pub(super) fn pushed(
        &mut self,
        circuit: &CircuitName,
        view: &View,
        versions: (u64, u64),
        now: Timestamp,
    ) {
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
