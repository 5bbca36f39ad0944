//! An override as it is stored, and as it is in force.

use std::sync::Arc;
use std::time::Duration;

use super::phase::{Origin, OverrideState};
use crate::timestamp::Timestamp;

/// An override as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OverrideRecord {
    /// The state that it sets.
    pub state: OverrideState,
    /// Why, in the operator's words.
    pub reason: String,
    /// The operator who set it.
    pub actor: Option<String>,
    /// How long it still lasts. `None`: until an operator ends it.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "remaining_ms", with = "crate::data::millis_if_any", default)
    )]
    pub remaining: Option<Duration>,
}

impl OverrideRecord {
    /// Returns whether both say the same, apart from their duration.
    pub(crate) fn says_as(&self, other: &Self) -> bool {
        (self.state, &self.reason, &self.actor) == (other.state, &other.reason, &other.actor)
    }

    /// Returns when an override ends that is set now.
    pub(super) fn ends(&self, now: Timestamp) -> Timestamp {
        self.remaining.map_or(Timestamp::NEVER, |remaining| now.after(remaining))
    }
}

/// The override in force.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) record: Arc<OverrideRecord>,
    pub(super) ends: Timestamp,
    /// `None`: the circuit was closed.
    pub(super) beneath: Option<Beneath>,
}

/// An open phase beneath an override.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beneath {
    pub(super) until: Timestamp,
    pub(super) reopenings: u32,
    pub(super) origin: Origin,
}
