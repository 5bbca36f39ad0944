//! What is behind an engine's lock: the machine, and what is to be told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Rejection;
use super::grant::Grant;
use super::member::Member;
use super::word::Word;
use crate::backend::Setting;
use crate::clock;
use crate::machine::{Effect, Ended, Event, Ledger, Machine, Mark, Origin, Policy, State, Tally};
use crate::outcome::Outcome;
use crate::timestamp::Timestamp;

/// How many events wait for an observer that takes its time.
const MOST_UNTOLD: usize = 1_000;

/// Who is told what happens. Called without any lock, in the order in which things happened.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

pub(super) struct Locked {
    pub(super) machine: Machine,
    pub(super) policy: Policy,
    /// The epoch of the last cut.
    pub(super) epoch: u64,
    /// The epoch at which the phase began.
    pub(super) phase: u64,
    /// The time at which the phase began.
    pub(super) since: Timestamp,
    /// The override in force.
    pub(super) setting: Option<Setting>,
    /// In a cluster.
    pub(super) member: Option<Member>,
    pub(super) observers: Vec<Observer>,
    /// What has happened and has not been told yet, oldest first.
    pub(super) outbox: VecDeque<Event>,
    /// Somebody is telling it.
    pub(super) telling: bool,
}

/// What the engine knows at one moment.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) since: Duration,
    pub(super) tally: Tally,
    pub(super) reopenings: u32,
    pub(super) probes_out: usize,
    pub(super) probes_passed: u64,
    pub(super) retry_after: Option<Duration>,
    pub(super) stale: u64,
    pub(super) setting: Option<Setting>,
    pub(super) origin: Origin,
    pub(super) alone: bool,
}

impl Locked {
    pub(super) fn new(policy: Policy, observers: Vec<Observer>, epoch: u64) -> Self {
        let now = clock::now();
        Self {
            machine: Machine::new(&policy, now),
            policy,
            epoch,
            phase: epoch,
            since: now,
            setting: None,
            member: None,
            observers,
            outbox: VecDeque::new(),
            telling: false,
        }
    }

    /// Puts down what has happened, to be told once the lock is given back.
    pub(super) fn happened(&mut self, event: Option<Event>) {
        if let Some(Event::Transition(transition)) = &event {
            let now = clock::now();
            self.begin_phase(now);
            self.note(transition, now);
        }
        self.outbox.extend(event);
        if self.outbox.len() > MOST_UNTOLD {
            self.outbox.pop_front();
        }
    }

    /// Adds successes that were counted outside the lock.
    pub(super) fn successes(&mut self, n: u64) {
        self.machine.successes(n);
        if let (Some(member), State::Closed) = (&mut self.member, self.machine.state()) {
            member.successes(n);
        }
    }

    /// Ends an override whose time is over.
    pub(super) fn run_out(&mut self) {
        if self.machine.ends() < Timestamp::NEVER {
            let now = clock::now();
            if self.machine.ends() <= now {
                self.end_override(now);
            }
        }
    }

    /// Records how a call of this generation ended.
    pub(super) fn record(&mut self, ended: Ended, now: Timestamp) {
        let mark = match ended.outcome {
            Outcome::Ignored => None,
            outcome => Some(Mark { failed: outcome != Outcome::Success, slow: ended.slow }),
        };
        if let (Some(member), Some(mark), State::Closed) =
            (&mut self.member, mark, self.machine.state())
        {
            member.record(mark, now);
        }
        match self.machine.record(ended, now, &self.policy, fastrand::u64(..)) {
            Some(Effect::Tell(event)) => self.happened(Some(event)),
            Some(Effect::Settle(lease, verdict)) => self.settle(lease, verdict),
            None => {}
        }
        if let (Some(member), Some(Mark { failed: true, .. }), State::Closed) =
            (&mut self.member, mark, self.machine.state())
            && self.policy.is_alarming(self.machine.tally())
        {
            member.alarm();
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.member.as_ref().is_some_and(|member| !member.is_known())
    }

    /// What was granted before is stale from here on.
    pub(super) fn begin_phase(&mut self, now: Timestamp) {
        self.phase = self.epoch;
        self.since = now;
        self.setting = None;
    }

    pub(super) fn is_stale(&self, grant: Grant) -> bool {
        grant.epoch() < self.phase
    }

    /// Whether calls are timed.
    pub(super) fn times(&self) -> bool {
        self.policy.slow_call_duration().is_some() && self.machine.state() != State::Disabled
    }

    /// What may be done without the lock, and until when.
    pub(super) fn word(&self) -> (Word, Timestamp) {
        let Self { machine, policy, .. } = self;
        let mut flags = 0;
        let mut horizon = Timestamp::NEVER;
        if let Some(until) = machine.rejects_until(policy) {
            flags |= Word::REJECT;
            horizon = until;
        }
        if self.times() {
            flags |= Word::TIMED;
        }
        if !machine.success_matters(policy) {
            flags |= Word::QUIET;
            // The cluster is to hear that calls succeed, even where this process need not count them.
            let shared = self.member.is_some() && machine.state() == State::Closed;
            if machine.counts() || shared {
                flags |= Word::COUNT;
            }
            let end = machine.bucket_end().unwrap_or(Timestamp::NEVER).min(machine.ends());
            if end < Timestamp::NEVER {
                flags |= Word::CLOCK;
                horizon = end;
            }
        }
        if self.is_unknown() && machine.state() == State::Closed {
            return (Word::unknown(self.epoch), Timestamp::NEVER);
        }
        (Word::new(self.epoch, machine.state(), flags), horizon)
    }

    /// Whom this turns away, and until when: if this changes, some may be admitted who were not.
    pub(super) fn closed_off(&self) -> (u64, Option<Timestamp>, bool) {
        (self.phase, self.machine.rejects_until(&self.policy), self.is_asking())
    }

    /// Until when rejections are certain, unless something changes.
    pub(super) fn rejected_until(&self) -> Timestamp {
        let until = self.machine.rejects_until(&self.policy).filter(|_| !self.is_asking());
        until.unwrap_or(Timestamp::NEVER)
    }

    pub(super) fn read(&mut self, stale: u64) -> Reading {
        let now = clock::now();
        self.machine.slide(now);
        let (probes_out, probes_passed) = self.machine.probes();
        Reading {
            state: self.machine.state(),
            generation: self.machine.generation(),
            since: now.since(self.since),
            tally: self.machine.tally(),
            reopenings: self.machine.reopenings(),
            probes_out,
            probes_passed,
            retry_after: self.rejection(now).retry_after,
            stale,
            setting: self.setting.clone().map(|setting| {
                let ends = self.machine.ends();
                let remaining = setting.remaining.map(|_| ends.since(now));
                Setting { remaining, ..setting }
            }),
            origin: self.machine.origin(),
            alone: self.machine.ledger() == Ledger::Lost,
        }
    }

    pub(super) fn rejection(&self, now: Timestamp) -> Rejection {
        let state = self.machine.state();
        let until = self.machine.rejects_until(&self.policy);
        let timed = |until: &Timestamp| state == State::Open && *until < Timestamp::NEVER;
        Rejection {
            state,
            generation: self.machine.generation(),
            retry_after: until.filter(timed).map(|until| until.since(now)),
        }
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked")
            .field("machine", &self.machine)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
