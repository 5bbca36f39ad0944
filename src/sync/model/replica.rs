//! A replica: machine and reducer, as the engine and the replicator use them.

use std::mem::take;

use super::copy;
use crate::backend::{Batch, Changes, Cursor, OverrideChange, Sender};
use crate::machine::{
    Admission, Begin, Effect, Ended, Event, LeaseId, Machine, Mark, Reason, State, Transition,
};
use crate::name::CircuitName;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::sync::circuit::{CircuitSync, Confirmation, Context, Effects, Input, Pace, SyncState};
use crate::timestamp::Timestamp;

/// How often a request for a lease is sent.
pub(super) const TRIES: u32 = 2;

/// What the replicator knows of the group, which has one circuit here.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupState {
    pub(super) cursor: Cursor,
    pub(super) seen: u64,
    pub(super) pushed: Timestamp,
    pub(super) acknowledged: u64,
    pub(super) restarts: bool,
    pub(super) seq: u64,
    pub(super) in_flight: bool,
    pub(super) unanswered: Option<(Batch, Timestamp)>,
    /// A roll call, or a gap in what was pushed, wants a batch.
    pub(super) due: bool,
    /// It is being read from its beginning, and whether the circuit was in it.
    pub(super) listing: Option<bool>,
}

impl GroupState {
    pub(super) fn begin(&mut self) -> Cursor {
        if take(&mut self.restarts) {
            (self.cursor, self.seen, self.acknowledged) = (Cursor::default(), 0, 0);
            self.listing = None;
        }
        self.cursor
    }

    pub(super) fn advance(&mut self, changes: &Changes, asked: Timestamp) {
        if changes.restarted {
            (self.seen, self.acknowledged) = (0, 0);
            self.listing = Some(false);
        } else if asked > self.pushed && !changes.more {
            self.seen = 0;
        }
        self.cursor = changes.cursor;
        self.seen = self.seen.max(changes.cursor.version);
    }
}

/// A request for a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) generation: u64,
    pub(super) nonce: u64,
    pub(super) tries: u32,
    pub(super) since: Timestamp,
}

/// A probe's call that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) lease: LeaseId,
    /// The phase in which it was granted: in another one its result is stale.
    pub(super) phase: u64,
    /// The generation of the cluster's round; `None` if this replica probes by itself.
    pub(super) generation: Option<u64>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    Recorded,
    Probing,
    /// A lease is to be asked for.
    Asks,
    Rejected,
    /// It waits for the first view.
    Waits,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) number: usize,
    /// Which start of the process this is.
    pub(super) start: u32,
    pub(super) machine: Machine,
    pub(super) sync: CircuitSync,
    pub(super) group: GroupState,
    pub(super) asking: Option<Asking>,
    pub(super) probes: Vec<Running>,
    pub(super) phase: u64,
    pub(super) nonces: u64,
    /// Answers to those who await an override, in their order.
    pub(super) confirmed: Vec<Result<(), String>>,
}

impl Clone for Replica {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            start: self.start,
            machine: self.machine.clone(),
            sync: copy::reducer(&self.sync),
            group: self.group.clone(),
            asking: self.asking,
            probes: self.probes.clone(),
            phase: self.phase,
            nonces: self.nonces,
            confirmed: self.confirmed.clone(),
        }
    }
}

/// What a replica needs to know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) circuit: &'a CircuitName,
    pub(super) policy: &'a Policy,
    pub(super) pace: Pace,
    pub(super) now: Timestamp,
}

impl Replica {
    pub(super) fn new(number: usize, start: u32, at: &Around<'_>) -> Self {
        let mut machine = Machine::new(at.policy, at.now);
        machine.set_backing(crate::machine::Backing::Attached);
        Self {
            number,
            start,
            machine,
            sync: CircuitSync::new(at.policy),
            group: GroupState::default(),
            asking: None,
            probes: Vec::new(),
            phase: 0,
            nonces: 0,
            confirmed: Vec::new(),
        }
    }

    pub(super) fn sender(&self) -> Sender {
        let name = format!("r{}", self.number);
        Sender { id: format!("{name}#{}", self.start), name }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.sync.state == SyncState::Synced
    }
}

/// As the engine does it.
impl Replica {
    pub(super) fn input(&mut self, input: Input<'_>, at: &Around<'_>) {
        self.with_sync(at, |sync, cx| sync.on(input, cx));
    }

    fn with_sync<R>(
        &mut self,
        at: &Around<'_>,
        f: impl FnOnce(&mut CircuitSync, &mut Context<'_>) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let Around { policy, pace, now, .. } = *at;
        let mut cx = Context {
            machine: &mut self.machine,
            policy,
            pace,
            now,
            last_error: None,
            effects: &mut effects,
        };
        let result = f(&mut self.sync, &mut cx);
        self.take_effects(effects, at);
        result
    }

    fn take_effects(&mut self, effects: Effects, at: &Around<'_>) {
        let Effects { new_phase, events, is_first_view: _, confirmations } = effects;
        self.phase += u64::from(new_phase);
        self.happened(events, at);
        for Confirmation { result, .. } in confirmations {
            self.confirmed.push(result.map_err(|error| error.to_string()));
        }
    }

    fn happened(&mut self, events: impl IntoIterator<Item = Event>, at: &Around<'_>) {
        for event in events {
            if let Event::Transition(transition) = event {
                self.transitioned(&transition, at);
            }
        }
    }

    fn transitioned(&mut self, transition: &Transition, at: &Around<'_>) {
        self.phase += 1;
        self.sync.transitioned(transition, at.policy, &self.machine);
    }

    /// Ends an override whose time is over.
    pub(super) fn run_out(&mut self, at: &Around<'_>) {
        if self.machine.ends() <= at.now {
            self.end_override(Reason::OverrideOver, at);
        }
    }

    fn end_override(&mut self, reason: Reason, at: &Around<'_>) {
        if self.machine.state().is_overridden() {
            self.with_sync(at, |sync, cx| sync.end_override(reason, cx));
        }
    }

    pub(super) fn change_override(&mut self, change: &OverrideChange, at: &Around<'_>) {
        match change {
            OverrideChange::Set(record) => {
                let record = std::sync::Arc::new(record.clone());
                let origin = crate::machine::Origin::Local;
                let began = self.machine.force(record, origin, at.policy, at.now);
                self.began(began, at);
            }
            OverrideChange::Clear => self.end_override(Reason::Override, at),
            OverrideChange::Reset => {
                let began = self.machine.reset(Reason::Override, at.policy, at.now);
                self.began(began, at);
            }
        }
        let mut effects = Effects::default();
        drop(self.sync.change_override(change.clone(), at.now, &mut effects));
        self.take_effects(effects, at);
    }

    fn began(&mut self, transition: Option<Transition>, at: &Around<'_>) {
        self.phase += 1;
        self.happened(transition.map(Event::Transition), at);
    }

    /// A call. If it is admitted and no probe, it ends at once.
    pub(super) fn call(&mut self, outcome: Outcome, at: &Around<'_>) -> Called {
        self.run_out(at);
        if self.sync.is_unknown() && self.machine.state() == State::Closed {
            return Called::Waits;
        }
        while let Some(transition) = self.machine.catch_up(at.now, at.policy, 0) {
            self.happened(Some(Event::Transition(transition)), at);
        }
        match self.machine.admit(Begin::Now, at.now, at.policy) {
            Admission::Granted(None) => {
                self.record(outcome, None, at);
                Called::Recorded
            }
            Admission::Granted(Some(lease)) => {
                self.run(lease);
                Called::Probing
            }
            Admission::Ask if self.sync.is_asking() => Called::Rejected,
            Admission::Ask => match self.sync.begin_asking(&self.machine) {
                Some(generation) => {
                    self.nonces += 1;
                    let nonce = (self.number as u64 + 1) * 10_000
                        + u64::from(self.start) * 100
                        + self.nonces;
                    let (tries, since) = (TRIES, at.now);
                    self.asking = Some(Asking { generation, nonce, tries, since });
                    Called::Asks
                }
                None => Called::Rejected,
            },
            Admission::Rejected => Called::Rejected,
        }
    }

    pub(super) fn run(&mut self, lease: LeaseId) {
        let shared = self.machine.asks_backend();
        let generation = shared.then(|| self.sync.generation());
        self.probes.push(Running { lease, phase: self.phase, generation });
    }

    pub(super) fn record(&mut self, outcome: Outcome, lease: Option<LeaseId>, at: &Around<'_>) {
        let failed = outcome != Outcome::Success;
        if self.machine.state() == State::Closed {
            self.sync.record(Mark { failed, slow: false }, at.now);
        }
        let ended = Ended { outcome, slow: false, cancelled: false, lease };
        match self.machine.record(ended, at.now, at.policy, 0) {
            Some(Effect::Notify(events)) => self.happened(events, at),
            Some(Effect::Settle(lease, verdict)) => {
                self.sync.settle(lease, verdict, None, at.policy, &self.machine);
            }
            None => {}
        }
        if self.machine.state() == State::Closed {
            let tally = self.machine.tally();
            let alarming = at.policy.is_alarming(tally);
            self.sync.set_alarmed(alarming, tally.consecutive_failures);
        }
    }

    /// A probe's call ends. Its result is dropped if it is stale.
    pub(super) fn probe_ends(&mut self, outcome: Outcome, at: &Around<'_>) {
        let running = self.probes.remove(0);
        if running.phase == self.phase {
            self.record(outcome, Some(running.lease), at);
        }
    }

    pub(super) fn tick(&mut self, at: &Around<'_>) {
        self.run_out(at);
        let due = self.sync.agenda(at.policy, &self.machine, at.pace).tick;
        if due.is_some_and(|due| due <= at.now) {
            self.input(Input::Tick, at);
        }
    }
}
