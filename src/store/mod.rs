//! Where circuits live.

mod builder;
mod keyed;
mod replica;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;

use crate::circuit::{Circuit, Observer, Width};
use crate::machine::Policy;
use crate::name::Name;
use crate::observe::{self, BackendStatus};
pub use builder::StoreBuilder;
use builder::StoreObserver;
pub(crate) use keyed::KeyedCircuits;
use keyed::{Keys, Used};
use replica::Replica;

/// The circuits of this process, by name.
///
/// Make one when the program starts, and give a clone of it to every layer. Clones share all
/// circuits; nothing else creates any. A circuit stays until the last clone of its store is
/// dropped, and longer where a layer, a service or a [`Circuit`] still uses it. Do not name circuits
/// after what requests say: nothing bounds their number. For that there is
/// [`keyed_by`](crate::CircuitBreakerLayer::keyed_by), which does.
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
    inner: Arc<Inner>,
}

struct Inner {
    circuits: DashMap<Name, Entry>,
    default_policy: Policy,
    policies: HashMap<Name, Policy>,
    observers: Vec<StoreObserver>,
    disabled: bool,
    replica: Option<Arc<Replica>>,
    keys: Keys,
}

/// Whose a circuit is, where there is a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Cluster,
    Process,
}

struct Entry {
    circuit: Circuit,
    /// Somebody has asked for the policy that is in force.
    explicit: bool,
    /// Of a circuit that a request has named.
    used: Option<Used>,
}

impl Store {
    /// A store for this process alone, with the default policy.
    #[must_use]
    pub fn in_memory() -> Self {
        StoreBuilder::default().build()
    }

    /// Sets up a store with policies of its own.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

    #[track_caller]
    pub(crate) fn new(settings: StoreBuilder) -> Self {
        let StoreBuilder { default_policy, policies, observers, disabled, cluster, .. } = settings;
        let backend = settings.backend.filter(|_| !disabled);
        let told = settings.backend_observers;
        let replica = backend.map(|backend| Replica::start(backend, cluster, told));
        let circuits = DashMap::new();
        let keys = Keys::new(settings.keys);
        let inner =
            Inner { circuits, default_policy, policies, observers, disabled, replica, keys };
        Self { inner: Arc::new(inner) }
    }

    /// How the backend is.
    #[must_use]
    pub fn backend(&self) -> BackendStatus {
        self.inner.replica.as_ref().map_or(BackendStatus::None, |replica| replica.status())
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
        match &self.inner.replica {
            Some(replica) => replica.shut_down(within).await,
            None => true,
        }
    }

    /// The circuit of this name, which is made if there is none yet.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes. For names from outside use [`Name::new`].
    #[track_caller]
    pub fn circuit<N>(&self, name: N) -> Circuit
    where
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        self.resolve(Name::expect(name), None, Sharing::Cluster)
    }

    /// The circuit of this name, with a policy of its own.
    ///
    /// If it exists, and nobody has asked for a policy yet, this one is put in force: evidence starts
    /// anew; the state and the observers stay. Where somebody has, the first one holds; a different second one is told as a
    /// warning.
    ///
    /// # Panics
    ///
    /// As [`circuit`](Self::circuit).
    #[track_caller]
    pub fn circuit_with<N>(&self, name: N, policy: Policy) -> Circuit
    where
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        self.resolve(Name::expect(name), Some(policy), Sharing::Cluster)
    }

    /// All circuits, by name.
    #[must_use]
    pub fn circuits(&self) -> Vec<Circuit> {
        let entries = self.inner.circuits.iter();
        let mut circuits: Vec<_> = entries.map(|entry| entry.circuit.clone()).collect();
        circuits.sort_by(|a, b| a.name().cmp(b.name()));
        circuits
    }

    pub(crate) fn resolve(&self, name: Name, policy: Option<Policy>, sharing: Sharing) -> Circuit {
        let inner = &self.inner;
        let mut entry = inner.circuits.entry(name.clone()).or_insert_with(|| {
            let entry = inner.make(name.interned(), sharing, Width::Many);
            if inner.replica.is_some() && sharing == Sharing::Process {
                observe::unnamed(entry.circuit.name());
            }
            entry
        });
        let circuit = entry.circuit.clone();
        let first = !entry.explicit;
        entry.explicit |= policy.is_some();
        // What follows may call observers, who may use the store: not while the map is locked.
        drop(entry);
        match policy {
            Some(policy) if circuit.policy() == policy => {}
            Some(policy) if first => circuit.set_policy(policy),
            Some(_) => observe::second_policy(circuit.name()),
            None => {}
        }
        circuit
    }
}

impl Inner {
    fn make(&self, name: Name, sharing: Sharing, width: Width) -> Entry {
        let set_up = self.policies.get(&name);
        let policy = set_up.unwrap_or(&self.default_policy).clone();
        let observers = self.observers(&name);
        let circuit = if self.disabled {
            // Before there are observers: nothing changes for them, and the map is locked here.
            let circuit = Circuit::new(name, policy, Vec::new(), width);
            drop(circuit.disable("disabled in the settings of the store"));
            for observer in observers {
                circuit.on_change(move |event| observer(event));
            }
            circuit
        } else {
            Circuit::new(name, policy, observers, width)
        };
        if let (Some(replica), Sharing::Cluster) = (&self.replica, sharing) {
            replica.keep(circuit.clone());
        }
        Entry { circuit, explicit: set_up.is_some(), used: None }
    }

    /// The log, then those whom the builder was given.
    fn observers(&self, circuit: &Name) -> Vec<Observer> {
        let log: StoreObserver = Arc::new(observe::trace);
        let bind = |observer: StoreObserver| -> Observer {
            let circuit = circuit.clone();
            Arc::new(move |event| observer(&circuit, event))
        };
        std::iter::once(log).chain(self.observers.iter().cloned()).map(bind).collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(replica) = &self.replica {
            replica.orphan();
        }
        for entry in &self.circuits {
            entry.circuit.abandon();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("circuits", &self.circuits())
            .field("default_policy", &self.inner.default_policy)
            .finish_non_exhaustive()
    }
}
