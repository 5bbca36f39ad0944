//! A circuit as plain data.

use std::time::Duration;

use super::locked::Reading;
use crate::machine::{State, Tally};
use crate::name::Name;

/// A circuit at one moment, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The circuit's name.
    pub name: Name,
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
    /// Why the override in force was set, in its setter's words.
    pub override_reason: Option<String>,
}

impl Snapshot {
    pub(super) fn new(name: Name, reading: Reading) -> Self {
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
            override_reason: reading.override_reason,
        }
    }
}
