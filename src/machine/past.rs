//! What has happened to a circuit.

use std::time::Duration;

use super::transition::Transition;

/// A transition of the past. [`Circuit::history`](crate::Circuit::history) returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HistoryEntry {
    /// How long ago it was.
    #[cfg_attr(feature = "serde", serde(rename = "ago_ms", with = "crate::data::millis"))]
    pub ago: Duration,
    /// What changed, why, on what evidence, and who set or ended an override. Durations in it are
    /// those of that moment.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub transition: Transition,
}

impl HistoryEntry {
    /// The most entries that are kept of a circuit.
    pub const MOST: usize = 64;

    /// The most entries that are kept of a circuit [of a key](crate::CircuitName::is_of_a_key).
    pub const MOST_OF_A_KEY: usize = 8;

    /// For how long a backend keeps an entry.
    pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

    /// Returns an entry for a transition that was so long ago.
    #[must_use]
    pub const fn new(ago: Duration, transition: Transition) -> Self {
        Self { ago, transition }
    }
}
