//! What has happened to a circuit.

use std::time::Duration;

use tokio::time::timeout;

use super::Circuit;
use crate::machine::{HistoryEntry, Origin};

/// The longest time that [`Circuit::history`] waits.
const ANSWER: Duration = Duration::from_secs(1);

/// The last transitions of a circuit. [`Circuit::history`] returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct History {
    /// Who noted them: the cluster, whose record is the same on every replica, or this process.
    pub source: Origin,
    /// The transitions, the newest last.
    pub entries: Vec<HistoryEntry>,
}

/// # History
impl Circuit {
    /// Returns the last transitions of the circuit, the newest last: what changed, when, why, on
    /// what evidence, and who set or ended an override.
    ///
    /// With a backend that keeps them, these are the transitions of the whole cluster: the last 64
    /// of the last 24 hours, also those from before this process started. They are what the record
    /// went through. So they list neither what a replica did while it was detached, nor the end of
    /// an override whose time ended: the entry that set it has its
    /// [duration](crate::overrides::OverrideRecord::remaining). Each restored record is an entry
    /// too.
    ///
    /// Without a backend, and if the backend keeps none or does not answer within a second, it
    /// returns the [local history](Self::local_history). [`History::source`] says which one it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tower_breaker::overrides::Override;
    /// use tower_breaker::{State, Store};
    ///
    /// let payments = Store::in_memory().circuit("payments");
    /// payments.set_override(Override::force_open("their maintenance").actor("alice"));
    ///
    /// let history = payments.history().await;
    /// let last = &history.entries[0];
    /// assert_eq!(last.transition.to, State::ForcedOpen);
    /// let record = last.transition.overridden.as_ref().unwrap();
    /// assert_eq!(record.actor.as_deref(), Some("alice"));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// With a backend, panics when it is polled outside of a tokio runtime with its timers enabled.
    ///
    /// # Cost
    ///
    /// With a backend one command, which is not part of the
    /// [budget](crate::StoreBuilder::budget).
    pub async fn history(&self) -> History {
        if let Some(link) = self.engine.link() {
            let backend = link.backend();
            if let Ok(Ok(Some(entries))) = timeout(ANSWER, backend.history(self.name())).await {
                return History { source: Origin::Cluster, entries };
            }
        }
        History { source: Origin::Local, entries: self.local_history() }
    }

    /// Returns the last transitions of the circuit in this process, the newest last: those that
    /// observers received. It keeps the last 64, and of a circuit of a key the last 8.
    ///
    /// With a backend, use it to see what this replica did, for example while it was detached.
    #[must_use]
    pub fn local_history(&self) -> Vec<HistoryEntry> {
        // What has ended by now is noted first.
        self.engine.with(|locked, now| locked.past.entries(now))
    }

    /// Returns the last transition in this process.
    #[cfg(feature = "admin")]
    pub(crate) fn last_transition(&self) -> Option<HistoryEntry> {
        self.engine.with(|locked, now| locked.past.last(now))
    }
}
