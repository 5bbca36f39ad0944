//! Everything that happens in a store, as a stream.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast::{self, error::RecvError};

use super::BackendStatus;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::unwind::contain;

/// What happens in a store. [`Events`] yields it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StoreEvent {
    /// Something happened to a circuit. An override is a transition, which has its reason, its
    /// operator and its duration.
    Circuit {
        /// The name of the circuit.
        name: CircuitName,
        /// What happened.
        #[cfg_attr(feature = "serde", serde(flatten))]
        event: Event,
    },
    /// The status of the backend has changed.
    Backend(BackendStatus),
    /// The [key limit](crate::StoreBuilder::key_limit) is reached, and calls with new keys passed
    /// through uncounted. Sent at most once a minute.
    KeyLimitReached {
        /// The layer whose calls passed.
        layer: CircuitName,
        /// The limit.
        limit: usize,
        /// How many calls passed since the last event of this kind.
        calls: u64,
    },
    /// This receiver was too slow: the oldest events were dropped. To know the state of the
    /// circuits again, read their snapshots.
    Missed {
        /// How many events were dropped.
        events: u64,
    },
}

/// Receives what happens in a store; what happens to one circuit in order.
/// [`Store::events`](crate::Store::events) returns it.
///
/// A receiver holds up to 1024 events that it has not returned yet, and shares them with the other
/// receivers of the store. If more arrive, the oldest are dropped, and the receiver gets
/// [`StoreEvent::Missed`] in their place. So a slow receiver delays no call.
#[must_use = "it receives nothing unless `recv` is called"]
pub struct Events(broadcast::Receiver<Arc<StoreEvent>>);

impl Events {
    /// Returns the next event. Waits if there is none.
    ///
    /// Returns `None` once the store and its circuits are gone. If a circuit outlives its store,
    /// that may be noticed only when later circuits are made.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops no event: the next call returns it.
    pub async fn recv(&mut self) -> Option<StoreEvent> {
        match self.0.recv().await {
            Ok(event) => Some(Arc::unwrap_or_clone(event)),
            Err(RecvError::Lagged(events)) => Some(StoreEvent::Missed { events }),
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Where a store publishes. It is empty until the first subscription.
#[derive(Debug, Default)]
pub(crate) struct Feed(OnceLock<broadcast::Sender<Arc<StoreEvent>>>);

impl Feed {
    /// How many events wait for the slowest receiver.
    const MOST: usize = 1024;

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.get_or_init(|| broadcast::Sender::new(Self::MOST)).subscribe())
    }

    /// Publishes an event if there is a receiver. It wakes receivers, whose wakers are user code:
    /// never call it under a lock.
    pub(crate) fn publish(&self, event: impl FnOnce() -> StoreEvent) {
        if let Some(sender) = self.0.get().filter(|sender| sender.receiver_count() > 0) {
            // The last receiver may be gone by now.
            contain(|| drop(sender.send(Arc::new(event()))));
        }
    }
}
