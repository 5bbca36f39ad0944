//! The store: the circuits of this process, by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::entry::Chosen;
use super::registry::{Made, Registry, Sharing};
use super::settings::Settings;
use crate::circuit::{Circuit, Width};
use crate::event::{BackendStatus, Events, log};
#[cfg(feature = "admin")]
use crate::machine::State;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::stats::Totals;

/// The circuits of this process, by name.
///
/// Make one when the program starts, and give a clone of it to every layer. Clones share all
/// circuits, and only the store makes circuits. A circuit lives until the last clone of its store
/// is dropped, and longer while a layer, a service or a [`Circuit`] uses it.
///
/// Do not build names from requests: nothing bounds the number of named circuits. For a circuit per
/// host or tenant, use [`keyed_by`](crate::CircuitBreakerLayer::keyed_by) or
/// [`keyed`](Self::keyed), which bound it.
///
/// State changes are logged as `tracing` events with target `tower_breaker`. A circuit that opens
/// is a warning; a circuit that recovers is logged at level info. To observe them in code, use
/// [`StoreBuilder::on_change`](crate::StoreBuilder::on_change).
///
/// ```
/// use tower_breaker::{CircuitBreakerLayer, Store};
///
/// let store = Store::in_memory();
/// let layer = CircuitBreakerLayer::new(store.clone()).named("payments");
///
/// // The same circuit, to look at it or to override it:
/// let payments = store.circuit("payments");
/// # let _ = (layer, payments);
/// ```
#[derive(Clone)]
pub struct Store {
    pub(super) registry: Arc<Registry>,
}

impl Store {
    #[track_caller]
    pub(super) fn new(settings: Settings) -> Self {
        Self { registry: Arc::new(Registry::new(settings)) }
    }

    /// Returns whether the circuits are shared: the status of the backend.
    #[must_use]
    pub fn backend(&self) -> BackendStatus {
        self.registry
            .replicator
            .as_ref()
            .map_or(BackendStatus::None, |replicator| replicator.status())
    }

    /// Returns a receiver of everything that happens in the store from now on: events of all its
    /// circuits, changes of the backend's status, and a key limit that is reached.
    ///
    /// Use it for a page or a program that follows the store. Unlike an observer, it runs where it
    /// is awaited, and may be slow: then it misses events, and gets their number.
    ///
    /// Rejections are among them only [if asked for](Events::with_rejections): a circuit counts them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tower_breaker::Store;
    /// use tower_breaker::event::{Event, StoreEvent};
    ///
    /// let store = Store::in_memory();
    /// let mut events = store.events();
    /// store.circuit("payments").force_open("an example");
    ///
    /// let Some(StoreEvent::Circuit { name, event: Event::Transition(change) }) = events.recv().await
    /// else {
    ///     panic!("an override is a transition of its circuit");
    /// };
    /// assert_eq!(format!("{name}: {change}"), "payments: closed -> forced open: an operator acted");
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// Nothing for calls. The first receiver of a store allocates about 50 KiB. While there is a
    /// receiver, each event is allocated once.
    pub fn events(&self) -> Events {
        let registry = Arc::downgrade(&self.registry);
        let counter = move || {
            let Some(registry) = registry.upgrade() else { return Vec::new() };
            // No handles: a circuit of a key that is in use cannot make room for another.
            let entries = registry.circuits.iter();
            entries.map(|it| (it.circuit.name().clone(), it.circuit.rejections())).collect()
        };
        self.registry.feed.subscribe(Box::new(counter))
    }

    /// Sends the backend everything that waits to be sent, and disconnects from it. Call it when
    /// the program ends.
    ///
    /// Returns true if everything was sent within that time, or if there is no backend. Otherwise
    /// the rest is discarded, which is harmless: at most the results of one
    /// [`report_interval`](crate::StoreBuilder::report_interval).
    ///
    /// Afterwards every circuit of this store decides without the backend. Calling this is
    /// optional: if the store is dropped instead, its circuits stay shared as long as a service
    /// uses them.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the shutdown continues in the background.
    pub async fn shutdown(&self, within: Duration) -> bool {
        match &self.registry.replicator {
            Some(replicator) => replicator.shut_down(within).await,
            None => true,
        }
    }

    /// Returns the circuit with this name, and makes it if there is none.
    ///
    /// To inspect or override a circuit, use [`get`](Self::get) instead, which makes none for a
    /// misspelt name.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes. For names from outside, use
    /// [`CircuitName::new`].
    #[track_caller]
    pub fn circuit<N>(&self, name: N) -> Circuit
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.resolve(CircuitName::expect(name), None, Sharing::Cluster)
    }

    /// Returns the circuit with this name, and gives it a policy of its own.
    ///
    /// If the circuit exists and has a default policy, the new policy is put in force; state and
    /// observers stay. If the circuit was given a different policy before, that one holds, and the
    /// store logs a warning. [`set_policy`](Self::set_policy) describes the precedence.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes.
    #[track_caller]
    pub fn circuit_with<N>(&self, name: N, policy: Policy) -> Circuit
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.resolve(CircuitName::expect(name), Some(policy), Sharing::Cluster)
    }

    /// Returns the circuit with this name, or `None` if there is none. It never makes one.
    ///
    /// The circuit of a key has the name `name:key`. Looking it up counts as use, so that it is not
    /// [idle](crate::StoreBuilder::key_idle).
    ///
    /// ```
    /// use tower_breaker::Store;
    ///
    /// let store = Store::in_memory();
    /// store.circuit("payments");
    /// assert!(store.get("payments").is_some());
    /// assert!(store.get("paymets").is_none());
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Circuit> {
        self.registry.find(name, None, self.registry.ask()).map(|found| found.circuit)
    }

    /// Returns all circuits in the order of their names: the named ones, and those of keys that the
    /// store has now. [`Circuit::is_keyed`] distinguishes them.
    ///
    /// ```
    /// use tower_breaker::Store;
    ///
    /// let store = Store::in_memory();
    /// store.circuit("payments");
    /// let _ = store.keyed("outbound").circuit("api.example.com");
    /// let named: Vec<_> = store.circuits().into_iter().filter(|c| !c.is_keyed()).collect();
    /// assert_eq!(named.len(), 1);
    /// ```
    #[must_use]
    pub fn circuits(&self) -> Vec<Circuit> {
        let entries = self.registry.circuits.iter();
        let mut circuits: Vec<_> = entries.map(|entry| entry.circuit.clone()).collect();
        circuits.sort_by(|a, b| a.name().cmp(b.name()));
        circuits
    }

    /// Returns the [totals](crate::store::KeyedCircuits::totals) of circuits of keys, for each name
    /// that has or had such circuits, in the order of the names. A layer without a name is there
    /// under its place in the code.
    ///
    /// There is one entry for each name, however many keys there are.
    #[must_use]
    pub fn keyed_totals(&self) -> Vec<(CircuitName, Totals)> {
        let registry = &*self.registry;
        let mut all: Vec<_> = registry.keys.departed.all(&registry.circuits).into_iter().collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Returns the circuits that pages list, in no order, and how many there are in all: circuits of
    /// keys are listed only if they are not closed.
    #[cfg(feature = "admin")]
    pub(crate) fn listed(&self) -> (Vec<Circuit>, usize) {
        let (mut listed, mut total) = (Vec::new(), 0);
        for entry in &self.registry.circuits {
            total += 1;
            if !entry.circuit.is_keyed() || entry.circuit.state() != State::Closed {
                listed.push(entry.circuit.clone());
            }
        }
        (listed, total)
    }

    /// Returns the name of this replica, if there is a backend.
    #[cfg(feature = "admin")]
    pub(crate) fn replica(&self) -> Option<&str> {
        self.registry.replicator.as_ref().map(|replicator| replicator.replica())
    }

    /// Returns whether the store cannot do its work without this circuit.
    pub(crate) fn is_critical(&self, name: &CircuitName) -> bool {
        self.registry.critical.contains(name)
    }

    /// Changes the policy of a circuit while it runs.
    ///
    /// The circuit keeps its state and its observers. It keeps its evidence if the window stays the
    /// same. If there is no circuit with this name yet, one that is made later gets the policy. For
    /// the circuit of a key, pass its full name, `name:key`. The store remembers the policy for as
    /// long as it lives, even if it forgets the circuit of a key in between.
    ///
    /// The change applies to this process and ends with it. To change a policy for good, change it
    /// in every replica and in the configuration.
    ///
    /// # Which policy is in force
    ///
    /// The first of these that exists:
    ///
    /// 1. the last one set with this method;
    /// 2. the one that [`StoreBuilder::policy`](crate::StoreBuilder::policy) has for the name;
    /// 3. the first one that came with a layer, [`circuit_with`](Self::circuit_with) or
    ///    [`KeyedCircuits`](crate::store::KeyedCircuits);
    /// 4. the store's [default policy](crate::StoreBuilder::default_policy).
    ///
    /// The settings that a [configuration](crate::config#precedence) has for the circuit change the
    /// policies of 2 to 4, and its settings for all circuits that of 4. A policy that is set with
    /// this method is in force as it is.
    ///
    /// A layer that comes later with another policy does not replace one set here, and the store
    /// logs no warning for it.
    ///
    /// ```
    /// use tower_breaker::{Policy, Store};
    ///
    /// let store = Store::in_memory();
    /// let payments = store.circuit_with("payments", Policy::default());
    /// store.set_policy("payments", Policy::http_api());
    /// assert_eq!(payments.policy(), Policy::http_api());
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes. For names from outside, use
    /// [`CircuitName::new`].
    #[track_caller]
    pub fn set_policy<N>(&self, name: N, policy: Policy)
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        let name = CircuitName::expect(name);
        self.registry.set_policies().insert(name.clone(), policy);
        if let Some(circuit) = self.get(name.as_str()) {
            self.registry.enforce_set_policy(&circuit);
        }
    }

    pub(crate) fn resolve(
        &self,
        name: CircuitName,
        policy: Option<Policy>,
        sharing: Sharing,
    ) -> Circuit {
        let registry = &*self.registry;
        let policy = policy.map(|policy| registry.configured(&name, None, policy));
        let found = registry.find(name.as_str(), policy.as_ref(), registry.ask());
        let found = found.unwrap_or_else(|| {
            let entry = registry.entry(name.interned(), None, Width::Many);
            let made = registry.insert(entry, sharing, policy.as_ref());
            if let (Made::New(found), Sharing::Process, Some(_)) =
                (&made, sharing, &registry.replicator)
            {
                log::unnamed(found.circuit.name());
            }
            made.found()
        });
        if let Some(policy) = policy {
            if found.takes_policy() {
                registry.put_in_force(&found.circuit, policy);
            } else if found.chosen == Chosen::InCode && found.circuit.policy() != policy {
                log::second_policy(found.circuit.name());
            }
        }
        found.circuit
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("circuits", &self.circuits())
            .field("default_policy", &self.registry.default_policy)
            .finish_non_exhaustive()
    }
}
