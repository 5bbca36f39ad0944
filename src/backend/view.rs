//! A circuit as the backend describes it.

use std::sync::Arc;
use std::time::Duration;

pub use crate::machine::OverrideRecord;
use crate::machine::{Origin, Reason, State, Tally, Transition};

/// A circuit as the backend describes it.
///
/// The default is that of a circuit without a record: closed, in the [first](Self::FIRST)
/// generation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View {
    /// The generation of the state.
    pub generation: u64,
    /// Orders the views of one generation. Zero if there is no record. Evidence does not change it.
    pub revision: u64,
    /// The state.
    pub state: RecordState,
    /// Why the circuit is in this state; `None` in the first generation.
    pub reason: Option<Reason>,
    /// While closed, what replicas have reported in the window of the report: its consecutive
    /// failures are those after the last success that any replica has reported. Otherwise what had
    /// been counted when the circuit opened.
    pub tally: Tally,
    /// While closed, and if the report asked for it: what each replica has contributed to that, in
    /// no order.
    pub shares: Vec<Tally>,
    /// How many replicas vote for opening.
    pub votes: u64,
    /// While closed, `Some` if the circuit is suspect: replicas report all their calls. `None`: it
    /// is quiet, and they report only those that failed or were slow.
    pub suspect: Option<Roll>,
    /// While not closed, the names of replicas that had reported failures in the window before it
    /// opened; at most [`MAX_CONTRIBUTORS`](Self::MAX_CONTRIBUTORS).
    pub contributors: Vec<String>,
    /// The override in force, if there is one.
    pub overridden: Overridden,
}

impl View {
    /// The generation of a circuit that has never opened.
    pub const FIRST: u64 = 1;

    /// The most names of contributors.
    pub const MAX_CONTRIBUTORS: usize = 8;

    /// Returns what has changed since an earlier view of the same circuit, as its
    /// [history](super::Backend::history) has it. `None` if neither the generation nor the override
    /// is another one.
    ///
    /// If only the override has changed, its version is the generation of the transition. A record
    /// that changes beneath an override has a transition of its own.
    #[must_use]
    pub fn transition_since(&self, earlier: &Self) -> Option<Transition> {
        let moved = self.generation > earlier.generation;
        let record = self.overridden.record.as_ref().or(earlier.overridden.record.as_ref());
        let record = record.filter(|_| self.overridden.version > earlier.overridden.version);
        let overridden = record.is_some();
        let (from, to) = if overridden {
            (earlier.shown_state(), self.shown_state())
        } else {
            (earlier.state.state(), self.state.state())
        };
        let transition = if moved {
            let reason = self.reason.unwrap_or(Reason::NoRecord);
            Transition::new(from, to, reason, self.generation)
        } else if overridden {
            Transition::new(from, to, Reason::Override, self.overridden.version)
        } else {
            return None;
        };
        let (open_for, trips) = match self.state {
            RecordState::Open { remaining, .. } if moved => {
                (Some(remaining), earlier.state == RecordState::Closed)
            }
            _ => (None, false),
        };
        Some(Transition {
            tally: if trips { self.tally } else { Tally::default() },
            contributors: if trips { self.contributors.clone().into() } else { Arc::default() },
            open_for,
            origin: Origin::Cluster,
            overridden: record.cloned().map(Arc::new),
            ..transition
        })
    }

    /// Returns the state that replicas show: that of the override, if one is in force.
    #[must_use]
    pub fn shown_state(&self) -> State {
        let record = self.overridden.record.as_ref();
        record.map_or(self.state.state(), |record| record.state.state())
    }

    /// Returns whether there is nothing to say of the circuit: it is closed, quiet and not
    /// overridden.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self { state, suspect, overridden, .. } = self;
        *state == RecordState::Closed && suspect.is_none() && overridden.record.is_none()
    }

    /// What orders views, apart from overrides.
    pub(crate) fn rank(&self) -> (u64, u64) {
        (self.generation, self.revision)
    }
}

impl Default for View {
    fn default() -> Self {
        Self {
            generation: Self::FIRST,
            revision: 0,
            state: RecordState::Closed,
            reason: None,
            tally: Tally::default(),
            shares: Vec::new(),
            votes: 0,
            suspect: None,
            contributors: Vec::new(),
            overridden: Overridden::default(),
        }
    }
}

/// A roll call on a suspect circuit: every replica reports what it has not reported yet.
///
/// When all live replicas have answered, the totals contain everything that happened up to the roll
/// call, and can be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Names the roll call: the backend's time when it was called, or more.
    pub id: u64,
    /// How long ago it was called.
    pub age: Duration,
    /// How many replicas have answered: they have sent a batch that has [seen](super::Batch::seen)
    /// it. Counted only for two seconds; after that it may be zero.
    pub answered: u64,
    /// The failures after the last success that any replica has reported, up to the moment when the
    /// first replica answered with a report on the circuit; until then, up to the roll call. What
    /// came later is not known of every replica.
    pub consecutive_failures: u64,
}

/// The state of a record. Remaining times are counted from the moment the backend answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordState {
    /// Calls pass.
    #[default]
    Closed,
    /// Calls are rejected.
    Open {
        /// The terms of this phase and of its probes.
        terms: OpenTerms,
        /// How long until the first probe.
        remaining: Duration,
    },
    /// Probes find out whether the upstream works again.
    HalfOpen {
        /// The terms of the probes.
        terms: OpenTerms,
        /// How many probes have succeeded.
        passed: u64,
        /// How many probes are out.
        out: u64,
        /// How long until the next lease expires, if one is out.
        next_expiry: Option<Duration>,
    },
}

impl RecordState {
    /// Returns the state without its details.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Returns whether both are the same state, whatever its details.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The terms of an open phase and of its probes.
///
/// The replica that opens the circuit writes the terms, so that replicas with different policies,
/// as in a rolling deployment, agree on the phase in force.
///
/// A backend reads 0 `probes` as 1, and a `lease` of zero as 10 s. Otherwise no replica could ever
/// probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenTerms {
    /// How long the circuit stays open, backoff and jitter included.
    pub interval: Duration,
    /// How many times in a row probes have opened the circuit again.
    pub reopenings: u32,
    /// How many probes may be out at once.
    pub probes: u64,
    /// How long a probe may take.
    pub lease: Duration,
    /// How many probes must succeed.
    pub successes_to_close: u64,
}

/// The override of a circuit, with a version of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overridden {
    /// Grows whenever an override is set or ended, as generations do. Zero: there was none.
    pub version: u64,
    /// The override in force. Its duration, if it has one, is what remains.
    pub record: Option<OverrideRecord>,
}
