//! A circuit as the ledger tells it.

use std::time::Duration;

use crate::machine::{OverrideState, Reason, Tally};

/// A circuit as the ledger tells it.
///
/// The default is what absent means: closed, in the [first](Self::FIRST) generation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View {
    /// The generation of the state.
    pub generation: u64,
    /// Orders what is told of one generation; zero of an absent record. Evidence does not change it.
    pub revision: u64,
    /// The state.
    pub state: RecordState,
    /// Why the circuit is in it; `None` in the first generation.
    pub reason: Option<Reason>,
    /// While closed, what all replicas have counted in the window that was asked for; else what
    /// they had counted when it opened.
    pub tally: Tally,
    /// While closed, and asked for: how much of that each replica has contributed. In no order.
    pub shares: Vec<Tally>,
    /// How many replicas vote for opening.
    pub votes: u64,
    /// What a hand has set.
    pub overridden: Overridden,
}

impl View {
    /// The generation of a circuit that nobody has ever tripped.
    pub const FIRST: u64 = 1;

    /// What orders views, apart from settings.
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
            overridden: Overridden::default(),
        }
    }
}

/// The state of a record. What remains is counted from the moment the ledger answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordState {
    /// Calls pass.
    #[default]
    Closed,
    /// Calls are rejected.
    Open {
        /// What this phase and its probes obey.
        terms: OpenTerms,
        /// How long until the first probe.
        remaining: Duration,
    },
    /// Probes find out.
    HalfOpen {
        /// What the probes obey.
        terms: OpenTerms,
        /// How many have succeeded.
        passed: u64,
        /// How many are out.
        out: u64,
        /// How long until the next lease runs out, if one is out.
        next_expiry: Option<Duration>,
    },
}

impl RecordState {
    /// Whether both are the same state, whatever its details.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What an open phase obeys, and the probes after it. Written by whoever opens the circuit, so that
/// replicas with different policies, as in a rolling deploy, agree on the phase in force.
///
/// A ledger takes 0 `probes` for 1, and a `lease` of no time for one of 10 s: otherwise nobody would
/// ever probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenTerms {
    /// How long the circuit stays open, backoff and jitter included.
    pub interval: Duration,
    /// How often in a row probes have opened it again.
    pub reopenings: u32,
    /// How many probes may be out at once.
    pub probes: u64,
    /// How long a probe may take.
    pub lease: Duration,
    /// How many probes must succeed.
    pub successes_to_close: u64,
}

/// What a hand has set, with a version of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overridden {
    /// Grows with every setting and every end of one, as generations do; zero: there was none.
    pub version: u64,
    /// The setting in force; its time, if it has one, is what remains.
    pub record: Option<OverrideRecord>,
}

impl OverrideRecord {
    /// Whether both say the same, for whatever time.
    pub(crate) fn says_as(&self, other: &Self) -> bool {
        (self.state, &self.reason, &self.actor) == (other.state, &other.reason, &other.actor)
    }
}

/// A state set by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRecord {
    /// The state.
    pub state: OverrideState,
    /// Why, in its setter's words.
    pub reason: String,
    /// Who.
    pub actor: Option<String>,
    /// For how long; `None`: until somebody ends it.
    pub remaining: Option<Duration>,
}
