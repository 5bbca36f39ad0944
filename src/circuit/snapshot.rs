//! A circuit as plain data.

use std::time::Duration;

use super::locked::Reading;
use crate::machine::{Origin, State, Tally};
use crate::name::CircuitName;

/// A circuit at one moment, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The circuit's name.
    pub name: CircuitName,
    /// Its state.
    pub state: State,
    /// The generation of that state.
    pub generation: u64,
    /// How long the state has lasted.
    pub since: Duration,
    /// What it has counted in that state.
    pub tally: Tally,
    /// How often in a row probes have opened the circuit again.
    pub reopenings: u32,
    /// Probes that are out.
    pub probes_out: usize,
    /// Probes that succeeded in this half-open phase.
    pub probes_passed: u64,
    /// How long until an open circuit probes.
    pub retry_after: Option<Duration>,
    /// Results that came after the state they belonged to had ended. They decide nothing.
    pub stale_results: u64,
    /// Who decided the state: this process, or the cluster.
    pub origin: Origin,
    /// Whether this process decides alone for now, although the circuit is a cluster's: the backend does
    /// not answer, or not for this circuit.
    pub detached: bool,
    /// Why the override in force was set, in its setter's words.
    pub override_reason: Option<String>,
    /// Who set it, if they said so.
    pub override_actor: Option<String>,
    /// How long it lasts; `None`: until somebody ends it.
    pub override_remaining: Option<Duration>,
}

impl Snapshot {
    pub(super) fn new(name: CircuitName, reading: Reading) -> Self {
        let setting = reading.setting;
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
            stale_results: reading.stale,
            origin: reading.origin,
            detached: reading.alone,
            override_reason: setting.as_ref().map(|setting| setting.reason.clone()),
            override_actor: setting.as_ref().and_then(|setting| setting.actor.clone()),
            override_remaining: setting.and_then(|setting| setting.remaining),
        }
    }
}
