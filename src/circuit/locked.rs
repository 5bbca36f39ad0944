//! What is behind an engine's lock: the machine, and what must be done after the lock is released.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::cause::Cause;
use super::counted::Counted;
use super::failure::LastFailure;
use super::grant::Grant;
use super::link::Link;
use super::past::Past;
use super::refusal::Rejection;
use super::running::Watch;
use super::snapshot::Reading;
use super::stripes::{Drained, MOST_CANCELLED};
use super::synced::Synced;
use super::tracer::Tracer;
use super::word::Word;
use crate::clock;
use crate::machine::{
    Admission, Backing, Begin, Effect, Ended, Event, Machine, Mark, OverrideRecord, Reason, State,
    Tally, Transition,
};
use crate::outcome::{FailureKind, Outcome};
use crate::policy::{Cancelled, Policy};
use crate::stats::Totals;
use crate::timestamp::{Timestamp, nanos};

/// How many events wait for an observer that does not return.
const MOST_QUEUED: usize = 1_000;

/// This many consecutive calls that were cancelled, and left no evidence, are worth a warning.
pub(crate) const WORTH_A_WARNING: u64 = 10;

/// A limit of this many ticks of the coarse clock or more is measured by it: an error of 1 %.
const COARSE_TICKS: u64 = 100;

/// Observes what happens. Called without any lock, in the order in which things happened.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// What must be done after the lock is released.
pub(super) type Later = Box<dyn FnOnce() + Send>;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Locked {
    pub(super) machine: Machine,
    pub(super) policy: Policy,
    /// The epoch of the last cut.
    pub(super) epoch: u64,
    /// The epoch at which the phase began.
    pub(super) phase: u64,
    /// The time at which the phase began.
    pub(super) since: Timestamp,
    /// Set if a backend shares the circuit.
    pub(super) synced: Option<Synced>,
    /// A backend shared the circuit, and does no more.
    pub(super) has_left: bool,
    pub(super) observers: Vec<Observer>,
    /// Set while the circuit is recorded.
    pub(super) tracer: Option<Tracer>,
    /// Events that observers have not been called with yet, oldest first.
    pub(super) outbox: VecDeque<Event>,
    pub(super) last_failure: LastFailure,
    /// The failure that opened the circuit, until it closes.
    opened_by: Option<Arc<str>>,
    /// The last transitions that observers see.
    pub(super) past: Past,
    /// A thread is calling observers.
    pub(super) notifying: bool,
    /// What would run user code, for after the lock is released.
    pub(super) later: Vec<Later>,
    /// Why calls are rejected, or were last.
    pub(super) cause: Cause,
    /// Which running calls are counted.
    pub(super) watch: Watch,
    /// The epoch from which on they are.
    watch_from: u64,
    /// When they must be judged.
    pub(super) look: Timestamp,
    /// The log has a warning about cancelled calls.
    warned: bool,
    /// The phase or the policy is new, and what depends on it alone must be published.
    pub(super) renewed: bool,
    /// The flags of the word that depend on it.
    pub(super) phase_flags: u64,
    pub(super) counted: Counted,
    /// Some calls are measured: how long they take.
    pub(super) sampled: bool,
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
            synced: None,
            has_left: false,
            observers,
            tracer: None,
            outbox: VecDeque::new(),
            last_failure: LastFailure::new(),
            opened_by: None,
            past: Past::default(),
            notifying: false,
            later: Vec::new(),
            cause: Cause::new(Reason::Override, Tally::default(), now),
            watch: Watch::OFF,
            watch_from: epoch,
            look: now,
            warned: false,
            renewed: true,
            phase_flags: 0,
            counted: Counted::new(now),
            sampled: false,
        }
    }

    /// Returns what an engine without a circuit has: as little as possible.
    pub(super) fn vacant(epoch: u64) -> Self {
        let policy = Policy::builder().no_window().build();
        Self::new(policy.unwrap_or_default(), Vec::new(), epoch)
    }

    /// Queues an event; observers run after the lock is released.
    pub(super) fn happened(&mut self, events: impl IntoIterator<Item = Event>) {
        for mut event in events {
            if let Event::Transition(transition) = &mut event {
                self.last_failure.attach(transition);
                self.past.note(transition, clock::now());
                self.entered(transition);
            }
            self.counted.happened(&event);
            self.outbox.push_back(event);
            if self.outbox.len() > MOST_QUEUED {
                self.outbox.pop_front();
            }
        }
    }

    /// The machine has entered another phase.
    pub(super) fn entered(&mut self, transition: &Transition) {
        let now = clock::now();
        self.begin_phase(now);
        self.cause = self.cause.after(transition, now);
        match transition.to {
            State::Open if transition.last_error.is_some() => {
                self.opened_by.clone_from(&transition.last_error);
            }
            State::Closed => self.opened_by = None,
            _ => {}
        }
        self.transitioned(transition);
    }

    /// Adds what was counted outside the lock.
    #[inline]
    pub(super) fn count(&mut self, drained: Drained) {
        // If every call takes the lock, there is nothing.
        if drained != Drained::default() {
            self.add(drained);
        }
    }

    fn add(&mut self, Drained { successes, done, run }: Drained) {
        self.counted.totals.succeeded += successes;
        if let (Some(synced), State::Closed) = (&mut self.synced, self.machine.state())
            && successes > 0
        {
            // They were counted before the bucket ended.
            let end = self.machine.bucket_end().unwrap_or(Timestamp::NEVER);
            synced.successes(successes, clock::now().min(end));
        }
        self.machine.successes(successes);
        if done {
            self.machine.completed();
        }
        if run > 0 {
            self.cancelled(run, clock::now());
        }
    }

    /// Adds cancelled calls that leave no other evidence.
    fn cancelled(&mut self, calls: u64, now: Timestamp) {
        let events = self.machine.cancelled(calls, now, &self.policy, fastrand::u64(..));
        let (calls, _) = self.machine.run();
        let warns = !self.warned && events.is_empty() && calls >= WORTH_A_WARNING;
        if !events.is_empty() {
            self.last_failure.failed(FailureKind::Cancelled, now);
        }
        // Their event says as much.
        self.warned |= warns || !events.is_empty();
        self.happened(events);
        self.happened(warns.then_some(Event::CallsCancelled { calls }));
    }

    /// Decides whether a call may be made.
    pub(super) fn admit(&mut self, begin: Begin, now: Timestamp) -> Admission {
        while let Some(transition) = self.machine.catch_up(now, &self.policy, fastrand::u64(..)) {
            self.happened(Some(Event::Transition(transition)));
        }
        self.machine.admit(begin, now, &self.policy)
    }

    /// Ends an open interval, here or through the backend. Returns false if there is none.
    pub(super) fn probe_now(&mut self, now: Timestamp) -> bool {
        let transition = self.machine.probe_now(now);
        let here = transition.is_some();
        self.happened(transition.map(Event::Transition));
        here || self.propose_to_probe()
    }

    /// Judges the evidence as it is.
    pub(super) fn judge(&mut self, now: Timestamp) {
        let events = self.machine.judge(now, &self.policy, fastrand::u64(..));
        self.happened(events);
    }

    /// Puts another policy in force.
    pub(super) fn set_policy(&mut self, policy: Policy, now: Timestamp) {
        self.machine.reshape(&self.policy, &policy, now);
        if let Some(synced) = &mut self.synced {
            synced.sync.set_policy(&policy);
        }
        if self.policy.watched_duration() != policy.watched_duration() {
            self.watch_from = self.epoch;
        }
        self.policy = policy;
        self.last_failure.judge_anew();
        self.renewed = true;
    }

    /// Returns the watch over running calls that the phase and the policy need.
    pub(super) fn wanted_watch(&self) -> Watch {
        let from = self.watch_from.max(self.phase);
        let limit = self.policy.watched_duration().filter(|_| self.times());
        limit.map_or(Watch::OFF, |limit| Watch::new(from, limit))
    }

    /// Ends an override whose time is over.
    pub(super) fn run_out(&mut self) {
        if self.machine.ends() < Timestamp::NEVER {
            let now = clock::now();
            if self.machine.ends() <= now {
                self.end_override(Reason::OverrideOver, now);
            }
        }
    }

    /// Ends the override in force, if there is one: the state beneath it is in force again.
    pub(super) fn end_override(&mut self, reason: Reason, now: Timestamp) {
        if !self.machine.state().is_overridden() {
            return;
        }
        if self.synced.is_some() {
            self.end_shared_override(reason, now);
        } else {
            let transition = self.machine.end_override(reason, &self.policy, now);
            self.began(transition, now);
        }
    }

    /// A phase of the machine began. Observers see the transition, if there is one.
    pub(super) fn began(&mut self, transition: Option<Transition>, now: Timestamp) {
        self.begin_phase(now);
        self.happened(transition.map(Event::Transition));
    }

    /// Records how a call of this generation ended.
    pub(super) fn record(&mut self, ended: Ended, now: Timestamp) {
        if ended.cancelled && ended.outcome == Outcome::Ignored && ended.lease.is_none() {
            return self.cancelled(1, now);
        }
        let mark = match ended.outcome {
            Outcome::Ignored => None,
            outcome => Some(Mark { failed: outcome != Outcome::Success, slow: ended.slow }),
        };
        let closed = self.machine.state() == State::Closed;
        if let (Some(synced), Some(mark), true) = (&mut self.synced, mark, closed) {
            synced.record(mark, now);
        }
        match self.machine.record(ended, now, &self.policy, fastrand::u64(..)) {
            Some(Effect::Notify(events)) => self.happened(events),
            Some(Effect::Settle(lease, verdict)) => self.settle(lease, verdict),
            None if mark.is_some_and(|mark| mark.failed) => {
                let Self { machine, policy, last_failure, .. } = self;
                // In other states no failure opens it.
                let opens = machine.state() == State::Closed;
                let to_trip = || policy.failures_to_trip(machine.tally());
                last_failure.look(|| if opens { to_trip() } else { u64::MAX }, now);
            }
            None => {}
        }
        if let (Some(synced), Some(_), State::Closed) =
            (&mut self.synced, mark, self.machine.state())
        {
            let tally = self.machine.tally();
            synced.set_alarmed(self.policy.is_alarming(tally), tally.consecutive_failures);
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.synced.as_ref().is_some_and(|synced| synced.sync.is_unknown())
    }

    /// The link to the cluster, if its state is not known yet.
    pub(super) fn unknown(&self) -> Option<Arc<dyn Link>> {
        self.link().filter(|_| self.is_unknown())
    }

    /// The link to the cluster, if the circuit belongs to one.
    pub(super) fn link(&self) -> Option<Arc<dyn Link>> {
        self.synced.as_ref().map(|synced| synced.link().clone())
    }

    /// What was granted before is stale from here on.
    pub(super) fn begin_phase(&mut self, now: Timestamp) {
        self.phase = self.epoch;
        self.renewed = true;
        self.since = now;
        self.counted.enter(self.machine.state(), now);
        self.last_failure.begin(self.machine.state());
    }

    pub(super) fn is_stale(&self, grant: Grant) -> bool {
        grant.epoch() < self.phase
    }

    /// Returns whether calls are timed.
    pub(super) fn times(&self) -> bool {
        let state = self.machine.state();
        self.policy.slow_call_duration().is_some() && state.passes_all() && state != State::Disabled
    }

    /// Returns whether a call that starts now takes the time with it.
    pub(super) fn notes_starts(&self) -> bool {
        self.times() || self.tracer.is_some() && self.machine.state().passes_all()
    }

    /// Returns whether some calls are measured.
    pub(super) fn samples(&self) -> bool {
        self.sampled && self.machine.state() != State::Disabled
    }

    /// Returns how many cancelled calls each of 2^`stripes` stripes may count in a row without the
    /// lock. The last one that a run needs takes it, so that on one thread no run is longer than it
    /// should be.
    pub(super) fn most_cancelled(&self, stripes: u32) -> u64 {
        most_cancelled(&self.policy, self.machine.run().0, self.warned, stripes)
    }

    /// Returns the flags that change with the phase and the policy alone.
    pub(super) fn flags_of_phase(&self) -> u64 {
        let Self { machine, policy, .. } = self;
        let mut flags = 0;
        if self.tracer.is_some() {
            flags |= Word::TRACED;
            if machine.state().passes_all() {
                flags |= Word::TIMED;
            }
        } else if self.times() {
            flags |= Word::TIMED;
            let step = clock::step().saturating_mul(COARSE_TICKS);
            if policy.slow_call_duration().is_some_and(|limit| nanos(limit) >= step) {
                flags |= Word::COARSE;
            }
        }
        if self.samples() {
            flags |= Word::SAMPLED;
        }
        if machine.state() == State::Disabled || policy.ignores_cancelled() {
            flags |= Word::FORGET;
        }
        // In a cluster a success is evidence without a window too: it ends a streak of others.
        if machine.counts() || self.synced.is_some() && machine.state() == State::Closed {
            flags |= Word::COUNT;
        }
        if machine.counts() {
            // Not without a window: then quiet successes are no evidence, and set no run back.
            if policy.cancelled() == Cancelled::FailureIfSlow {
                flags |= Word::RUN;
            }
        }
        flags
    }

    /// Returns what may be done without the lock, and until when.
    pub(super) fn word(&self) -> (Word, Timestamp) {
        let Self { machine, policy, .. } = self;
        debug_assert_eq!(self.phase_flags, self.flags_of_phase());
        let mut flags = self.phase_flags;
        let mut horizon = Timestamp::NEVER;
        if let Some(until) = machine.rejects_until(policy) {
            flags |= Word::REJECT;
            horizon = until;
        }
        if machine.passes_for_a_time() || self.covers_shared_phase() {
            flags |= Word::LOOK;
        }
        if self.last_failure.is_wanted() {
            flags |= Word::DESCRIBE;
        }
        let (unanswered, failed) = machine.run();
        if unanswered > failed {
            flags |= Word::PENDING;
        }
        if !machine.success_matters(policy) && self.tracer.is_none() {
            flags |= Word::QUIET;
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

    /// Returns whether calls pass only until an override ends, because the record is not closed.
    fn covers_shared_phase(&self) -> bool {
        let timed = self.machine.state().is_overridden() && self.machine.ends() < Timestamp::NEVER;
        timed
            && self.machine.state().passes_all()
            && self.synced.as_ref().is_some_and(|synced| !synced.sync.follows_closed())
    }

    /// Returns which calls are rejected, and until when. If this changes, calls may be admitted
    /// that were not.
    pub(super) fn closed_off(&self) -> (u64, Option<Timestamp>, bool) {
        (self.phase, self.machine.rejects_until(&self.policy), self.is_asking())
    }

    /// Returns until when rejections are certain, unless something changes.
    pub(super) fn rejected_until(&self) -> Timestamp {
        let until = self.machine.rejects_until(&self.policy).filter(|_| !self.is_asking());
        until.unwrap_or(Timestamp::NEVER)
    }

    pub(super) fn read(&mut self, totals: Totals, now: Timestamp) -> Reading {
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
            totals,
            latency: None,
            overridden: self.machine.overridden().map(|record| {
                let remaining = record.remaining.map(|_| self.machine.ends().since(now));
                OverrideRecord { remaining, ..OverrideRecord::clone(record) }
            }),
            origin: self.machine.origin(),
            last_error: match self.machine.state() {
                State::Closed => self.last_failure.text(),
                _ => self.opened_by.clone(),
            },
            detached: self.machine.backing() == Backing::Detached,
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

/// The same, of a circuit with this run.
pub(crate) fn most_cancelled(policy: &Policy, run: u64, warned: bool, stripes: u32) -> u64 {
    let whole = policy.minimum_calls();
    let next = if warned { whole } else { whole.min(WORTH_A_WARNING) };
    match next.saturating_sub(run) {
        0 | 1 => 0,
        left => ((left - 1) >> stripes).clamp(1, MOST_CANCELLED),
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
