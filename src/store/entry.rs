//! A circuit as its store keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::member::Member;
use crate::circuit::{Circuit, Peek};
use crate::machine::State;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

pub(super) type Circuits = DashMap<CircuitName, Entry>;

pub(super) struct Entry {
    pub(super) circuit: Circuit,
    pub(super) chosen: Chosen,
    /// Set if the circuit belongs to a key.
    pub(super) used: Option<Used>,
    /// Set if a backend shares the circuit.
    pub(super) member: Option<Arc<Member>>,
}

/// What chose the policy in force. A later variant overrules an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chosen {
    ByDefault,
    InCode,
    AtRuntime,
}

/// When the circuit of a key was last used.
#[derive(Debug)]
pub(super) struct Used {
    last: AtomicU64,
    /// How many circuits of keys had been made by then: an order where times are equal.
    made: AtomicU64,
    /// The store disables every circuit. That is no override of an operator, and no reason to keep
    /// the circuit.
    made_disabled: bool,
    layer: CircuitName,
}

/// What decides whether the circuit of a key may be forgotten, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) asked: Timestamp,
    pub(super) made: u64,
    pub(super) in_use: bool,
    pub(super) peek: Peek,
}

/// How far the time of the last use may lag behind, so that threads seldom write what others read.
const LAG: Duration = Duration::from_millis(1);

/// When a circuit is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) now: Timestamp,
    /// How many circuits of keys have been made.
    pub(super) made: u64,
}

impl Used {
    pub(super) fn new(ask: Ask, made_disabled: bool, layer: CircuitName) -> Self {
        let (last, made) = (AtomicU64::new(ask.now.as_nanos()), AtomicU64::new(ask.made));
        Self { last, made, made_disabled, layer }
    }

    fn last(&self) -> Timestamp {
        Timestamp::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

impl Entry {
    /// Records a use of the circuit.
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

    /// Returns the name of the layer, if the circuit belongs to a key.
    pub(super) fn layer(&self) -> Option<&CircuitName> {
        self.used.as_ref().map(|used| &used.layer)
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

    /// Ends a circuit that was taken out of the map. Never call it under a lock: it may drop what
    /// users have captured in observers.
    pub(super) fn release(self) {
        if let Some(member) = &self.member {
            member.release();
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

    /// Returns whether there is evidence against the upstream, or an override.
    pub(super) fn is_suspect(&self) -> bool {
        self.peek.suspects || self.peek.overridden
    }

    /// Orders circuits by their worth: a new key replaces the lowest first.
    pub(super) fn worth(&self) -> (bool, u64, Timestamp) {
        (self.is_suspect(), self.made, self.asked)
    }
}
