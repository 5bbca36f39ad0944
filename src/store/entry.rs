//! A circuit as its store has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::replica::Peer;
use crate::circuit::{Circuit, Peek};
use crate::machine::State;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

pub(super) type Circuits = DashMap<CircuitName, Entry>;

pub(super) struct Entry {
    pub(super) circuit: Circuit,
    pub(super) chosen: Chosen,
    /// Of a circuit of a key.
    pub(super) used: Option<Used>,
    /// Of a circuit that a backend shares.
    pub(super) peer: Option<Arc<Peer>>,
}

/// Who chose the policy in force. A later variant overrules an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chosen {
    ByDefault,
    InCode,
    AtRuntime,
}

/// When the circuit of a key was last asked for.
#[derive(Debug)]
pub(super) struct Used {
    last: AtomicU64,
    /// How many circuits of keys had been made by then: an order where times are equal.
    made: AtomicU64,
    /// Its store disables every circuit: that is no override of an operator's, and no reason to keep it.
    made_disabled: bool,
}

/// What decides whether the circuit of a key may be forgotten, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) asked: Timestamp,
    pub(super) made: u64,
    pub(super) in_use: bool,
    pub(super) peek: Peek,
}

/// How far the time of the last use may lag behind: threads are to write seldom what others read.
const LAG: Duration = Duration::from_millis(1);

/// When a circuit is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) now: Timestamp,
    /// How many circuits of keys have been made.
    pub(super) made: u64,
}

impl Used {
    pub(super) fn new(ask: Ask, made_disabled: bool) -> Self {
        let (last, made) = (AtomicU64::new(ask.now.as_nanos()), AtomicU64::new(ask.made));
        Self { last, made, made_disabled }
    }

    fn last(&self) -> Timestamp {
        Timestamp::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

impl Entry {
    /// Says that the circuit has been asked for.
    #[inline]
    pub(super) fn touch(&self, ask: Ask) {
        let Some(used) = &self.used else { return };
        if ask.now.since(used.last()) >= LAG {
            used.last.store(ask.now.as_nanos(), Ordering::Relaxed);
        }
        if used.made.load(Ordering::Relaxed) < ask.made {
            used.made.store(ask.made, Ordering::Relaxed);
        }
    }

    /// Reads without changing anything, and runs no user code.
    pub(super) fn look(&self) -> Look {
        let mut peek = self.circuit.peek();
        let made_disabled = self.used.as_ref().is_some_and(|used| used.made_disabled);
        peek.overridden &= !(made_disabled && self.circuit.state() == State::Disabled);
        let asked = self.used.as_ref().map_or(Timestamp::NEVER, Used::last);
        let made = self.used.as_ref().map_or(u64::MAX, |used| used.made.load(Ordering::Relaxed));
        Look { asked, made, in_use: !self.circuit.is_unused(), peek }
    }

    /// Ends a circuit that has been taken out of the map. Not under a lock: this may drop what users
    /// have put into observers.
    pub(super) fn release(self) {
        if let Some(peer) = &self.peer {
            peer.let_go();
        }
        self.circuit.release_engine();
    }
}

impl Look {
    pub(super) fn may_be_evicted(&self) -> bool {
        !self.in_use && !self.peek.overridden
    }

    pub(super) fn may_be_forgotten(&self, now: Timestamp, idle: Duration) -> bool {
        let idle = idle.saturating_add(LAG);
        self.may_be_evicted() && !self.peek.rejects && now.since(self.asked) > idle
    }

    /// Whether there is evidence against its upstream; or an operator has said what it is to do.
    pub(super) fn is_suspect(&self) -> bool {
        self.peek.suspects || self.peek.overridden
    }

    /// Which circuit a new key replaces first: the one with the least of this.
    pub(super) fn worth(&self) -> (bool, u64, Timestamp) {
        (self.is_suspect(), self.made, self.asked)
    }
}
