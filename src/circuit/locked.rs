//! What is behind an engine's lock: the machine, and what is to be told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Rejection;
use super::grant::Grant;
use super::word::Word;
use crate::clock;
use crate::machine::{Event, Machine, Policy, State, Tally};
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
    /// Why the override in force was set, in its setter's words.
    pub(super) override_reason: Option<String>,
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
    pub(super) override_reason: Option<String>,
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
            override_reason: None,
            observers,
            outbox: VecDeque::new(),
            telling: false,
        }
    }

    /// Puts down what has happened, to be told once the lock is given back.
    pub(super) fn happened(&mut self, event: Option<Event>) {
        if let Some(Event::Transition(_)) = event {
            self.phase = self.epoch;
            self.since = clock::now();
            self.override_reason = None;
        }
        self.outbox.extend(event);
        if self.outbox.len() > MOST_UNTOLD {
            self.outbox.pop_front();
        }
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
            if machine.counts() {
                flags |= Word::COUNT;
            }
            if let Some(end) = machine.bucket_end() {
                flags |= Word::CLOCK;
                horizon = end;
            }
        }
        (Word::new(self.epoch, machine.state(), flags), horizon)
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
            override_reason: self.override_reason.clone(),
        }
    }

    pub(super) fn rejection(&self, now: Timestamp) -> Rejection {
        let state = self.machine.state();
        let until = self.machine.rejects_until(&self.policy);
        Rejection {
            state,
            generation: self.machine.generation(),
            retry_after: until.filter(|_| state == State::Open).map(|until| until.since(now)),
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
