//! How a store is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::settings::Settings;
use super::store::Store;
use crate::backend::Backend;
use crate::event::BackendStatus;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::policy::Policy;

/// Sets up a [`Store`].
///
/// ```
/// use tower_breaker::{Policy, Store};
///
/// let store = Store::builder()
///     .default_policy(Policy::http_api())
///     .policy("sessions", Policy::cache())
///     .build();
/// assert_eq!(store.circuit("sessions").policy(), Policy::cache());
/// assert_eq!(store.circuit("anything else").policy(), Policy::http_api());
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StoreBuilder {
    settings: Settings,
}

impl StoreBuilder {
    /// The policy of circuits that nobody gave one of their own. Default: [`Policy::default`].
    pub fn default_policy(mut self, policy: Policy) -> Self {
        self.settings.default_policy = policy;
        self
    }

    /// The policy of the circuit `name`. A later one for the same name replaces it. See
    /// [`Store::set_policy`] for the order of policies.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes.
    #[track_caller]
    pub fn policy<N>(mut self, name: N, policy: Policy) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.settings.policies.insert(CircuitName::expect(name), policy);
        self
    }

    /// Calls `observer` with all that happens to every circuit of the store. As
    /// [`Circuit::on_change`](crate::Circuit::on_change), for circuits that are still to be made
    /// too.
    ///
    /// ```
    /// use tower_breaker::Store;
    ///
    /// let store = Store::builder()
    ///     .on_change(|circuit, event| println!("{circuit}: {event:?}"))
    ///     .build();
    /// # let _ = store;
    /// ```
    pub fn on_change(
        mut self,
        observer: impl Fn(&CircuitName, &Event) + Send + Sync + 'static,
    ) -> Self {
        self.settings.observers.push(Arc::new(observer));
        self
    }

    /// Whether circuits do anything. Default: true. If not, each is [disabled](crate::Circuit::disable)
    /// in this process when it is made, and no backend is asked: to try whether a circuit breaker is
    /// what is wrong.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.settings.disabled = !enabled;
        self
    }

    /// Sets how many circuits of [keys](crate::CircuitBreakerLayer::keyed_by) there may be at once, those
    /// of all layers and of all [`keyed`](Store::keyed) together. Default: 10 000. Zero: none, and every such
    /// call passes through uncounted.
    ///
    /// Where the limit is reached, a new key evicts a circuit. First choice: one that has counted no failure
    /// and no slow call, the least recently asked of those that are looked at. Second choice: the least
    /// recently asked of the others, even one that is open. Never one in use, or under an override that is in
    /// force: if all that are looked at are so, the new key's calls pass through uncounted, and the store
    /// logs a warning, at most one a minute.
    ///
    /// # Guarantees
    ///
    /// Keys may come from outside. A client that picks them
    ///
    /// - cannot keep a circuit from a new key, unless its calls under way hold the circuits;
    /// - cannot, but by a small chance, evict a circuit that has counted failures, slow calls or cancelled
    ///   calls and is asked for more often than its own keys are: one that is asked for once while half as
    ///   many new keys come as the limit is stays, at limits of some hundreds or more;
    /// - with calls that fail, does evict circuits that have counted none of these. Such a circuit is made
    ///   anew by its next call, and loses its count of successes;
    /// - with calls that succeed, can evict only circuits that have counted no failure, and, for each of its
    ///   calls that are under way at once, one more.
    ///
    /// So make the limit twice the number of keys that are in use in earnest, or more.
    pub fn key_limit(mut self, limit: usize) -> Self {
        self.settings.keys.limit = limit;
        self
    }

    /// Sets how long a circuit of a [key](crate::CircuitBreakerLayer::keyed_by) is kept after it was last
    /// asked for. Default: 10 min; at least 1 s, and a shorter time is taken as that.
    /// [`Duration::MAX`]: as long as there is room.
    ///
    /// To ask for it by its name counts too. The store forgets only a circuit that would reject nothing: one
    /// that is closed, open with its interval over, or half-open with a free probe slot; and not one that is
    /// in use (a handle or a permit of it is out), or under an override that is in force. Calls with keys
    /// look for idle circuits little by little; no timer runs for it.
    pub fn key_idle(mut self, idle: Duration) -> Self {
        self.settings.keys.idle = idle.max(Duration::from_secs(1));
        self
    }

    /// Shares the circuits with all stores that use the same ledger. Default: none.
    ///
    /// Closed circuits still decide in this process, and cost what they cost without it. What is
    /// counted is told to the ledger in the background, and what the ledger says is taken on; a call
    /// waits for it only where it would be a probe, or where the circuit is new, and then no longer
    /// than the [deadline](Self::deadline). A ledger that is slow or gone is done without.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.settings.backend = Some(Arc::new(backend));
        self
    }

    /// What this process is called in the ledger. Default: its process id. Need not be unique: each
    /// start is told apart.
    pub fn replica(mut self, name: impl Into<String>) -> Self {
        self.settings.cluster.replica = name.into();
        self
    }

    /// How long a call may wait for the backend, at most. Default: 50 ms; from 1 ms to 10 s, and
    /// what is outside is taken as the nearest.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        let longest = Duration::from_secs(10);
        self.settings.cluster.deadline = deadline.clamp(Duration::from_millis(1), longest);
        self
    }

    /// How often a circuit reports what it has counted, at most, unless there is reason to hurry:
    /// three failures in a row are told at once. Default: 100 ms; from 10 ms to 10 s, and what is
    /// outside is taken as the nearest.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        let longest = Duration::from_secs(10);
        self.settings.cluster.report_interval = interval.clamp(Duration::from_millis(10), longest);
        self
    }

    /// How many commands a second the store sends that can wait: reports of successes, and polls.
    /// Circuits take turns. Failures, probes and overrides are not held back. Default: 50; from 1 to
    /// 100 000, and what is outside is taken as the nearest.
    pub fn budget(mut self, commands_per_second: u32) -> Self {
        self.settings.cluster.budget = commands_per_second.clamp(1, 100_000);
        self
    }

    /// Calls `observer` when the backend is lost, and when it is back. Let it be quick: others wait
    /// for it.
    pub fn on_backend(mut self, observer: impl Fn(&BackendStatus) + Send + Sync + 'static) -> Self {
        self.settings.backend_observers.push(Arc::new(observer));
        self
    }

    /// The store.
    ///
    /// With a backend it has tasks in the tokio runtime in which it is built. That must go on running
    /// for as long as circuits are used, wherever they are: a multi-threaded one does by itself, a
    /// current-thread one only inside `block_on`. If it is dropped, circuits decide alone; but if it
    /// is kept and not driven, a call that waits for the cluster waits until it is.
    ///
    /// # Panics
    ///
    /// With a backend, outside of a tokio runtime.
    #[must_use]
    #[track_caller]
    pub fn build(self) -> Store {
        Store::new(self.settings)
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("default_policy", &self.settings.default_policy)
            .field("policies", &self.settings.policies)
            .field("backend", &self.settings.backend)
            .field("cluster", &self.settings.cluster)
            .field("keys", &self.settings.keys)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Returns a store for this process alone, with the default policy.
    #[must_use]
    pub fn in_memory() -> Self {
        StoreBuilder::default().build()
    }

    /// Returns a builder of a store: with policies of its own, a backend, observers.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }
}
