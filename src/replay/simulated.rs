//! One circuit under one policy, in the time of a trace.
//!
//! The rules are those of the [machine](crate::machine). In front of it an engine decides which
//! results only count, and when running calls are looked at; what is here does the same, for one
//! thread and with the time as an argument. `tests/it/replay` compares both.

use std::sync::Arc;

use super::calls::Ending;
use crate::circuit::{Running, WORTH_A_WARNING, Watch, most_cancelled, overdue};
use crate::machine::{Admission, Begin, Effect, Ended, Event, LeaseId, Machine, State, Transition};
use crate::outcome::Outcome;
use crate::policy::{Cancelled, Policy};
use crate::timestamp::Timestamp;

/// Jitter adds the mean of what it may add, so that a trace always gives the same.
const DRAW: u64 = u64::MAX / 2;

pub(super) struct Simulated {
    machine: Machine,
    policy: Arc<Policy>,
    /// Counts phases: what was granted in an earlier one is stale.
    phase: u32,
    /// Set if the policy watches running calls.
    watched: Option<Box<Watched>>,
    /// A success only counts, until the horizon.
    quiet: bool,
    horizon: Timestamp,
    /// There is a run of cancelled calls, which a completed one ends.
    pending: bool,
    /// So many cancelled calls in a row only count, and so many have.
    most_cancelled: u64,
    cancelled: u64,
    warned: bool,
}

struct Watched {
    watch: Watch,
    running: Running,
    /// When running calls are judged next.
    look: Timestamp,
}

/// What a call was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grant {
    Rejected,
    Call { phase: u32 },
    Probe { phase: u32, lease: LeaseId },
}

/// Gets the transitions, as they happen.
pub(super) trait Sink {
    fn happened(&mut self, transition: Transition);
}

impl Simulated {
    /// Returns a circuit that is made at `now`.
    pub(super) fn new(policy: &Arc<Policy>, now: Timestamp) -> Self {
        let watched = policy.watched_duration().map(|_| {
            let running = Running::new();
            Box::new(Watched { watch: Watch::OFF, running, look: now })
        });
        let mut circuit = Self {
            machine: Machine::new(policy, now),
            policy: policy.clone(),
            phase: 0,
            watched,
            quiet: false,
            horizon: Timestamp::NEVER,
            pending: false,
            most_cancelled: 0,
            cancelled: 0,
            warned: false,
        };
        circuit.began(now);
        circuit.publish();
        circuit
    }

    pub(super) fn state(&self) -> State {
        self.machine.state()
    }

    /// A call asks for a permit.
    pub(super) fn start(&mut self, now: Timestamp, sink: &mut impl Sink) -> Grant {
        if self.machine.state() == State::Closed
            && self.watched.as_ref().is_none_or(|watched| now < watched.look)
        {
            return self.grant(now);
        }
        if self.machine.rejects_until(&self.policy).is_some_and(|until| until > now) {
            return Grant::Rejected;
        }
        self.judge_running(now, sink);
        while let Some(transition) = self.machine.catch_up(now, &self.policy, DRAW) {
            self.happened(Some(Event::Transition(transition)), now, sink);
        }
        let grant = match self.machine.admit(Begin::Now, now, &self.policy) {
            Admission::Granted(None) => self.grant(now),
            Admission::Granted(Some(lease)) => Grant::Probe { phase: self.phase, lease },
            Admission::Rejected | Admission::Ask => Grant::Rejected,
        };
        self.publish();
        grant
    }

    /// A call that was admitted has ended.
    pub(super) fn end(
        &mut self,
        (phase, lease): (u32, Option<LeaseId>),
        started: Timestamp,
        now: Timestamp,
        ending: Ending,
        sink: &mut impl Sink,
    ) {
        if phase < self.phase {
            return;
        }
        if let (None, Some(watched)) = (lease, &self.watched) {
            watched.running.end(watched.watch, started);
        }
        if lease.is_some() || !self.counts(started, now, ending) {
            self.settle(lease, started, now, ending, sink);
            self.publish();
        }
    }

    /// Records a result that only counts. Returns false, and records nothing, for others.
    fn counts(&mut self, started: Timestamp, now: Timestamp, ending: Ending) -> bool {
        let slow = self.policy.is_slow(now.since(started));
        match ending {
            Ending::Success if self.quiet && !slow && now < self.horizon => {
                self.machine.successes(1);
                self.cancelled = 0;
                true
            }
            Ending::Ignored if !self.pending => {
                self.machine.completed();
                self.cancelled = 0;
                true
            }
            Ending::Cancelled if self.policy.ignores_cancelled() => true,
            Ending::Cancelled if !slow && self.cancelled < self.most_cancelled => {
                self.cancelled += 1;
                // It does not complete a run, so it causes nothing.
                self.machine.cancelled(1, now, &self.policy, DRAW);
                true
            }
            _ => false,
        }
    }

    fn settle(
        &mut self,
        lease: Option<LeaseId>,
        started: Timestamp,
        now: Timestamp,
        ending: Ending,
        sink: &mut impl Sink,
    ) {
        if let Some(watched) = &self.watched
            && (self.machine.overdue() > 0 || watched.look <= now)
        {
            self.look_at_running(now);
        }
        let ran = match lease {
            Some(lease) => self.machine.ran(lease, now),
            None => now.since(started),
        };
        let outcome = match ending {
            Ending::Success => Outcome::Success,
            Ending::Failure => Outcome::failure(),
            Ending::Ignored => Outcome::Ignored,
            Ending::Cancelled => self.policy.cancelled_after(ran),
        };
        let cancelled = ending == Ending::Cancelled;
        let ended = Ended { outcome, slow: self.policy.is_slow(ran), cancelled, lease };
        match self.machine.record(ended, now, &self.policy, DRAW) {
            Some(Effect::Notify(events)) => self.happened(events, now, sink),
            Some(Effect::Settle(..)) | None => {}
        }
        self.warned |= self.machine.run().0 >= WORTH_A_WARNING;
    }

    fn grant(&self, now: Timestamp) -> Grant {
        if let Some(watched) = &self.watched {
            watched.running.start(watched.watch, now);
        }
        Grant::Call { phase: self.phase }
    }

    fn judge_running(&mut self, now: Timestamp, sink: &mut impl Sink) {
        if self.machine.state() != State::Closed {
            return;
        }
        self.look_at_running(now);
        if let Some(watched) = &mut self.watched {
            watched.look = watched.watch.next_look(now);
        }
        let events = self.machine.judge(now, &self.policy, DRAW);
        self.happened(events, now, sink);
    }

    fn look_at_running(&mut self, now: Timestamp) {
        if let (Some(watched), Some(limit)) = (&self.watched, self.policy.watched_duration())
            && self.machine.state() == State::Closed
        {
            let running = std::iter::once(&watched.running);
            self.machine.set_overdue(overdue(running, watched.watch, limit, now));
        }
    }

    fn happened(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        for event in events {
            if let Event::Transition(transition) = event {
                self.phase += 1;
                self.began(now);
                sink.happened(transition);
            }
        }
    }

    /// A phase began: calls of the earlier one are watched no more.
    fn began(&mut self, now: Timestamp) {
        if let (Some(watched), Some(limit)) = (&mut self.watched, self.policy.watched_duration())
            && self.machine.state() == State::Closed
        {
            // Published epochs are even.
            watched.watch = Watch::new(u64::from(self.phase) * 2, limit);
            watched.running.reset(watched.watch, now);
            watched.look = now;
        }
    }

    /// What engines publish when they release their lock.
    fn publish(&mut self) {
        self.quiet = !self.machine.success_matters(&self.policy);
        self.horizon = self.machine.bucket_end().unwrap_or(Timestamp::NEVER);
        let (unanswered, failed) = self.machine.run();
        self.pending = unanswered > failed;
        let counts = self.machine.counts() && self.policy.cancelled() == Cancelled::FailureIfSlow;
        self.most_cancelled =
            if counts { most_cancelled(&self.policy, unanswered, self.warned, 0) } else { 0 };
        self.cancelled = 0;
    }
}
