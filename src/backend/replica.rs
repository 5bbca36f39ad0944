//! The replicas that use a backend.

use std::time::Duration;

use super::report::Sender;

/// What a replica sends once a second, to show that it runs and that it reaches the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The replica that sends it.
    pub sender: Sender,
    /// The version of this crate.
    pub version: String,
    /// What is impaired for this replica. Empty if nothing is.
    pub impaired: String,
    /// The version of the newest change that this replica has seen, in any group.
    pub seen: u64,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// How many replicas have sent a heartbeat within [`LIVE`](Self::LIVE), this one included.
    pub live: u64,
    /// Whether a program [watches](super::Backend::watch) the cluster: if so, replicas publish
    /// their circuits.
    pub watched: bool,
    /// The newest version that any replica [has seen](Heartbeat::seen). A replica that has seen
    /// older changes only reads all groups: what is pushed may not reach it.
    ///
    /// Versions that lie more than a second ahead of the backend's clock do not count: they are
    /// forged, or the clock went back.
    pub newest: u64,
}

impl Roster {
    /// A replica that has been silent for longer is not live.
    pub const LIVE: Duration = Duration::from_secs(3);

    /// A replica that has been silent for longer is forgotten.
    pub const FORGET: Duration = Duration::from_secs(60);
}

/// A replica, as [`Store::replicas`](crate::Store::replicas) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ReplicaInfo {
    /// Its name, which it keeps over restarts.
    pub name: String,
    /// Unique for each start of a process.
    pub id: String,
    /// The version of this crate that it runs.
    pub version: String,
    /// How long ago its last heartbeat was.
    #[cfg_attr(feature = "serde", serde(rename = "silent_for_ms", with = "crate::data::millis"))]
    pub silent_for: Duration,
    /// What is impaired for it, in the words of its status. Empty if nothing is.
    pub impaired: String,
}

impl ReplicaInfo {
    /// Returns the replica of a heartbeat.
    #[must_use]
    pub fn new(heartbeat: Heartbeat, silent_for: Duration) -> Self {
        let Heartbeat { sender: Sender { name, id }, version, impaired, .. } = heartbeat;
        Self { name, id, version, silent_for, impaired }
    }

    /// Returns whether it has missed heartbeats: it is degraded, or has ended.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent_for > Roster::LIVE
    }
}
