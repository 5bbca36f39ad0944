//! A circuit as plain data.

use std::time::Duration;

use super::locked::Reading;
use crate::machine::State;
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
    /// Calls in the window. Zero under a policy without a window, and in states without evidence.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
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
            calls: reading.tally.calls,
            failures: reading.tally.failures,
            slow_calls: reading.tally.slow,
            consecutive_failures: reading.streak,
            reopenings: reading.reopenings,
            probes_out: reading.probes_out,
            probes_passed: reading.probes_passed,
            retry_after: reading.retry_after,
            stale_results: reading.stale,
            override_reason: reading.override_reason,
        }
    }

    /// Failures per hundred calls in the window, rounded down; `None` while there are no calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<u8> {
        percent(self.failures, self.calls)
    }

    /// Slow calls per hundred calls in the window, rounded down; `None` while there are no calls.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<u8> {
        percent(self.slow_calls, self.calls)
    }
}

fn percent(part: u64, whole: u64) -> Option<u8> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u8::try_from(percent).ok()
}
