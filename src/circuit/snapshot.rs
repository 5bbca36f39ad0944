//! A circuit as plain data.

use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Origin, OverrideRecord, State, Tally};
use crate::name::CircuitName;
use crate::stats::Totals;

/// A circuit at one moment, as plain data. [`Circuit::snapshot`](crate::Circuit::snapshot) returns
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the circuit.
    pub name: CircuitName,
    /// The state.
    pub state: State,
    /// The generation of that state. It grows with each transition, not always by one: in Redis it
    /// is at least the server's time in milliseconds.
    pub generation: u64,
    /// How long the state has lasted.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", with = "crate::data::millis"))]
    pub since: Duration,
    /// What the circuit has counted in that state. It is zero in a circuit that has just opened:
    /// what opened it is in [`Rejected::evidence`](crate::Rejected::evidence) and in the
    /// [`Transition`](crate::event::Transition).
    pub tally: Tally,
    /// How many times in a row probes have opened the circuit again.
    pub reopenings: u32,
    /// How many probes are out.
    pub probes_out: usize,
    /// How many probes have succeeded in this half-open phase.
    pub probes_passed: u64,
    /// How long until an open circuit admits a probe. `None` in other states.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "retry_after_ms", with = "crate::data::millis_if_any", default)
    )]
    pub retry_after: Option<Duration>,
    /// How many results arrived after the end of the state in which their calls were admitted. They
    /// change nothing.
    pub stale_results: u64,
    /// What the circuit has counted since it was made, in all its states.
    pub totals: Totals,
    /// The last failure, as text. While the circuit is closed: the last one that this process has
    /// counted in this state, if there is one. Otherwise the one that
    /// [opened](crate::event::Transition::last_error) the circuit.
    #[cfg_attr(feature = "serde", serde(default))]
    pub last_error: Option<Arc<str>>,
    /// What decided the state: this process, or the cluster.
    pub origin: Origin,
    /// Whether the circuit is detached: it has a backend, but decides without it, because the
    /// backend does not answer for any circuit or for this one.
    pub detached: bool,
    /// Why the override in force was set, in the operator's words. `None` if there is no override.
    pub override_reason: Option<String>,
    /// The operator who set the override in force, if the override names one.
    pub override_actor: Option<String>,
    /// How long the override in force still lasts. `None` if it lasts until an operator ends it, or
    /// if there is none.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "override_remaining_ms", with = "crate::data::millis_if_any", default)
    )]
    pub override_remaining: Option<Duration>,
}

impl Snapshot {
    pub(super) fn new(name: CircuitName, reading: Reading) -> Self {
        let record = reading.overridden;
        Self {
            name,
            state: reading.state,
            generation: reading.generation,
            since: reading.since,
            tally: reading.tally,
            reopenings: reading.reopenings,
            probes_out: reading.probes_out,
            probes_passed: reading.probes_passed,
            retry_after: reading.retry_after,
            stale_results: reading.totals.stale,
            totals: reading.totals,
            last_error: reading.last_error,
            origin: reading.origin,
            detached: reading.detached,
            override_reason: record.as_ref().map(|record| record.reason.clone()),
            override_actor: record.as_ref().and_then(|record| record.actor.clone()),
            override_remaining: record.and_then(|record| record.remaining),
        }
    }
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
    pub(super) totals: Totals,
    pub(super) overridden: Option<OverrideRecord>,
    pub(super) last_error: Option<Arc<str>>,
    pub(super) origin: Origin,
    pub(super) detached: bool,
}
