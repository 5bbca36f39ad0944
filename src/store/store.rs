//! The store: the circuits of this process, by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::entry::Chosen;
use super::registry::{Made, Registry, Sharing};
use super::settings::Settings;
use crate::circuit::{Circuit, Width};
use crate::event::{BackendStatus, log};
use crate::name::CircuitName;
use crate::policy::Policy;

/// The circuits of this process, by name.
///
/// Make one when the program starts, and give a clone of it to every layer. Clones share all
/// circuits; nothing else creates any. A circuit stays until the last clone of its store is
/// dropped, and longer where a layer, a service or a [`Circuit`] still uses it. Do not name circuits
/// after what requests say: nothing bounds their number. Use
/// [`keyed_by`](crate::CircuitBreakerLayer::keyed_by) or [`keyed`](Self::keyed) for that: these bound it.
///
/// What happens to circuits is told to the log, as `tracing` events of the target `tower_breaker`: a
/// circuit that opens is a warning, everything else is for information. See
/// [`StoreBuilder::on_change`] for your own use of it.
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

    /// How the backend is.
    #[must_use]
    pub fn backend(&self) -> BackendStatus {
        self.registry.replica.as_ref().map_or(BackendStatus::None, |replica| replica.status())
    }

    /// Tells the backend what it does not know yet, and lets go of it; for the end of a program. True
    /// if all was told within that time; what was not is lost with this process, which harms nobody:
    /// at most `report_interval` of results.
    ///
    /// From then on every circuit of this store decides alone. Dropping the store instead is fine too:
    /// its circuits go on being shared as long as a service uses them.
    ///
    /// # Cancellation
    ///
    /// It goes on in the background.
    pub async fn shutdown(&self, within: Duration) -> bool {
        match &self.registry.replica {
            Some(replica) => replica.shut_down(within).await,
            None => true,
        }
    }

    /// Returns the circuit of this name, which is made if there is none yet.
    ///
    /// To look at a circuit, or to override it, use [`get`](Self::get), which makes none for a name that is
    /// misspelt.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes. For names from outside use [`CircuitName::new`].
    #[track_caller]
    pub fn circuit<N>(&self, name: N) -> Circuit
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.resolve(CircuitName::expect(name), None, Sharing::Cluster)
    }

    /// Returns the circuit of this name, with a policy of its own.
    ///
    /// If the circuit exists, and has its policy by default, this policy is put in force; the state and the
    /// observers stay. If it was given another policy before, that one holds, and the store logs a warning.
    /// See [`set_policy`](Self::set_policy) for the order of policies.
    ///
    /// # Panics
    ///
    /// As [`circuit`](Self::circuit).
    #[track_caller]
    pub fn circuit_with<N>(&self, name: N, policy: Policy) -> Circuit
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.resolve(CircuitName::expect(name), Some(policy), Sharing::Cluster)
    }

    /// Returns the circuit of this name, if there is one. Never makes one.
    ///
    /// The circuit of a key has the name `name:key`. To ask for it counts as use: it is not
    /// [idle](StoreBuilder::key_idle) then.
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

    /// Returns all circuits, ordered by name: the named ones, and those of keys that are in the store now.
    /// [`Circuit::is_keyed`] tells them apart.
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

    /// Changes the policy of a circuit while it runs; or, if there is no circuit of this name yet, of the one
    /// that is made later. The circuit keeps its state, its observers, and the evidence that it has counted
    /// where the window stays the same.
    ///
    /// For a circuit of a key give its full name, `name:key`. The store remembers the policy for as long as
    /// it lives, also while the circuit of a key is forgotten in between.
    ///
    /// # Which policy is in force
    ///
    /// The first of these that there is:
    ///
    /// 1. the last one that was set with this method;
    /// 2. the one that [`StoreBuilder::policy`] has for the name;
    /// 3. the first one that code came with: a layer's, [`circuit_with`](Self::circuit_with)'s, or that of
    ///    [`KeyedCircuits`];
    /// 4. the store's [default policy](StoreBuilder::default_policy).
    ///
    /// A layer that comes later with a policy of its own does not undo what was set here, and the store logs
    /// no warning then.
    ///
    /// It applies in this process only, and is gone when the process ends: set it in every replica, and
    /// in the settings.
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
    /// If the name is empty or longer than 128 bytes. For names from outside use [`CircuitName::new`].
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
        let found = registry.find(name.as_str(), policy.as_ref(), registry.ask());
        let found = found.unwrap_or_else(|| {
            let entry = registry.entry(name.interned(), Width::Many);
            let made = registry.insert(entry, sharing, policy.as_ref());
            if let (Made::New(found), Sharing::Process, Some(_)) =
                (&made, sharing, &registry.replica)
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
