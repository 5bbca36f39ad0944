//! Everything that happens in a store, as a stream.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::sleep;

use super::BackendStatus;
use crate::clock;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;
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
    /// A circuit rejected calls. Only a receiver
    /// [with rejections](Events::with_rejections) gets it, at most once a second for each circuit.
    Rejections {
        /// The name of the circuit.
        name: CircuitName,
        /// How many calls it rejected.
        calls: u64,
        /// Within how long.
        #[cfg_attr(feature = "serde", serde(rename = "within_ms", with = "crate::data::millis"))]
        within: Duration,
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
pub struct Events {
    receiver: broadcast::Receiver<Arc<StoreEvent>>,
    counter: Counter,
    sampling: Option<Sampling>,
}

/// Returns how many calls each circuit has rejected; nothing once the store is gone.
pub(crate) type Counter = Box<dyn Fn() -> Vec<(CircuitName, u64)> + Send + Sync>;

/// How often rejections are counted.
const SAMPLE: Duration = Duration::from_secs(1);

/// What was counted last, and what was found and not returned yet.
struct Sampling {
    at: Timestamp,
    counted: HashMap<CircuitName, u64>,
    found: VecDeque<StoreEvent>,
}

impl Events {
    /// Also yields [`StoreEvent::Rejections`], from now on.
    ///
    /// Rejections are no events of their own, because they must cost nothing: the receiver reads
    /// the counters of all circuits about once a second, while [`recv`](Self::recv) is awaited.
    /// Those of a circuit of a key that is evicted in between are missing, and the
    /// [totals](crate::store::KeyedCircuits::totals) of its layer have them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use tower_breaker::Store;
    /// use tower_breaker::event::StoreEvent;
    ///
    /// let store = Store::in_memory();
    /// let payments = store.circuit("payments");
    /// payments.force_open("an example");
    /// let mut events = store.events().with_rejections();
    /// for _ in 0..3 {
    ///     payments.try_acquire().unwrap_err();
    /// }
    /// let Some(StoreEvent::Rejections { name, calls, .. }) = events.recv().await else { panic!() };
    /// assert_eq!((name.as_str(), calls), ("payments", 3));
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// Nothing for calls. Once a second, the receiver reads one counter of each circuit and thread,
    /// without a lock. It remembers a number for each circuit of the store.
    pub fn with_rejections(mut self) -> Self {
        let counted = (self.counter)().into_iter().collect();
        self.sampling = Some(Sampling { at: clock::now(), counted, found: VecDeque::new() });
        self
    }

    /// Returns the next event. Waits if there is none.
    ///
    /// Returns `None` once the store and its circuits are gone. If a circuit outlives its store,
    /// that may be noticed only when later circuits are made.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops no event: the next call returns it.
    ///
    /// # Panics
    ///
    /// [With rejections](Self::with_rejections), panics when it is polled outside of a tokio runtime
    /// with its timers enabled.
    pub async fn recv(&mut self) -> Option<StoreEvent> {
        loop {
            let Some(sampling) = &mut self.sampling else {
                return received(self.receiver.recv().await);
            };
            sampling.sample(&self.counter, clock::now());
            if let Some(event) = sampling.found.pop_front() {
                return Some(event);
            }
            let rest = SAMPLE.saturating_sub(clock::now().since(sampling.at));
            tokio::select! {
                event = self.receiver.recv() => return received(event),
                () = sleep(rest) => {}
            }
        }
    }
}

fn received(event: Result<Arc<StoreEvent>, RecvError>) -> Option<StoreEvent> {
    match event {
        Ok(event) => Some(Arc::unwrap_or_clone(event)),
        Err(RecvError::Lagged(events)) => Some(StoreEvent::Missed { events }),
        Err(RecvError::Closed) => None,
    }
}

impl Sampling {
    /// Counts the rejections since the last time, if that is long enough ago.
    fn sample(&mut self, count: &Counter, now: Timestamp) {
        let within = now.since(self.at);
        if within < SAMPLE {
            return;
        }
        self.at = now;
        let before = std::mem::take(&mut self.counted);
        for (name, rejected) in count() {
            let known = before.get(&name).copied().unwrap_or_default();
            // Another circuit of the name counts from zero.
            let calls = rejected.checked_sub(known).unwrap_or(rejected);
            if calls > 0 {
                self.found.push_back(StoreEvent::Rejections { name: name.clone(), calls, within });
            }
            self.counted.insert(name, rejected);
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

    pub(crate) fn subscribe(&self, counter: Counter) -> Events {
        let receiver = self.0.get_or_init(|| broadcast::Sender::new(Self::MOST)).subscribe();
        Events { receiver, counter, sampling: None }
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
