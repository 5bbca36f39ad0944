//! Where circuits live.

mod builder;
mod entry;
mod keyed;
mod keys;
mod replica;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::mapref::entry::Entry as Slot;

use crate::circuit::{Circuit, Observer, Width};
use crate::clock;
use crate::machine::Policy;
use crate::name::Name;
use crate::observe::{self, BackendStatus};
pub use builder::StoreBuilder;
use builder::StoreObserver;
use entry::{Ask, Chosen, Circuits, Entry};
pub use keyed::KeyedCircuits;
use keys::Keys;
use replica::Replica;

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
    inner: Arc<Inner>,
}

struct Inner {
    circuits: Circuits,
    default_policy: Policy,
    policies: HashMap<Name, Policy>,
    /// Set while the store was in use.
    set_policies: Mutex<HashMap<Name, Policy>>,
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
        let inner = Inner {
            circuits: Circuits::new(),
            default_policy,
            policies,
            set_policies: Mutex::default(),
            observers,
            disabled,
            replica,
            keys: Keys::new(settings.keys),
        };
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

    /// Returns the circuit of this name, which is made if there is none yet.
    ///
    /// To look at a circuit, or to override it, use [`get`](Self::get), which makes none for a name that is
    /// misspelt.
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
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        self.resolve(Name::expect(name), Some(policy), Sharing::Cluster)
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
        self.inner.find(name, None, self.inner.ask()).map(|found| found.circuit)
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
        let entries = self.inner.circuits.iter();
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
    /// If the name is empty or longer than 128 bytes. For names from outside use [`Name::new`].
    #[track_caller]
    pub fn set_policy<N>(&self, name: N, policy: Policy)
    where
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        let name = Name::expect(name);
        self.inner.set_policies().insert(name.clone(), policy);
        if let Some(circuit) = self.get(name.as_str()) {
            self.inner.enforce_set_policy(&circuit);
        }
    }

    pub(crate) fn resolve(&self, name: Name, policy: Option<Policy>, sharing: Sharing) -> Circuit {
        let inner = &*self.inner;
        let found = inner.find(name.as_str(), policy.as_ref(), inner.ask());
        let found = found.unwrap_or_else(|| {
            let entry = inner.entry(name.interned(), Width::Many);
            let made = inner.insert(entry, sharing, policy.as_ref());
            if let (Made::New(found), Sharing::Process, Some(_)) = (&made, sharing, &inner.replica)
            {
                observe::unnamed(found.circuit.name());
            }
            made.found()
        });
        if let Some(policy) = policy {
            if found.takes_policy() {
                inner.put_in_force(&found.circuit, policy);
            } else if found.chosen == Chosen::InCode && found.circuit.policy() != policy {
                observe::second_policy(found.circuit.name());
            }
        }
        found.circuit
    }
}

/// A circuit, and who had chosen its policy before it was asked for.
struct Found {
    circuit: Circuit,
    chosen: Chosen,
}

impl Found {
    /// Whether the policy that it was asked for with is to be put in force.
    fn takes_policy(&self) -> bool {
        self.chosen == Chosen::ByDefault
    }
}

/// What came of an insertion.
enum Made {
    New(Found),
    /// Another thread was first.
    Found(Found),
}

impl Made {
    fn found(self) -> Found {
        let (Self::New(found) | Self::Found(found)) = self;
        found
    }
}

impl Inner {
    #[inline]
    fn ask(&self) -> Ask {
        Ask { now: clock::coarse(), made: self.keys.made() }
    }

    /// Looks up a circuit, which counts as use. A policy that it is asked for with is noted; the caller puts
    /// it in force, without a lock.
    #[inline]
    fn find(&self, name: &str, policy: Option<&Policy>, ask: Ask) -> Option<Found> {
        let entry = self.circuits.get(name)?;
        if policy.is_none() || entry.chosen > Chosen::ByDefault {
            entry.touch(ask);
            return Some(Found { circuit: entry.circuit.clone(), chosen: entry.chosen });
        }
        drop(entry);
        self.circuits.get_mut(name).map(|mut entry| entry.take_policy(policy, ask))
    }

    /// Makes a circuit. Not under a lock: what an earlier circuit's observers have captured may be dropped
    /// here.
    fn entry(&self, name: Name, width: Width) -> Entry {
        let set = self.set_policies().get(&name).cloned();
        let (policy, chosen) = match (set, self.policies.get(&name)) {
            (Some(policy), _) => (policy, Chosen::AtRuntime),
            (None, Some(policy)) => (policy.clone(), Chosen::InCode),
            (None, None) => (self.default_policy.clone(), Chosen::ByDefault),
        };
        let observers = self.observers(&name);
        let circuit = if self.disabled {
            // Before there are observers: nothing changes for them.
            let circuit = Circuit::new(name, policy, Vec::new(), width);
            drop(circuit.disable("disabled in the settings of the store"));
            for observer in observers {
                circuit.on_change(move |event| observer(event));
            }
            circuit
        } else {
            Circuit::new(name, policy, observers, width)
        };
        Entry { circuit, chosen, used: None, peer: None }
    }

    /// Puts a new circuit into the map, unless there is one of its name by now.
    fn insert(&self, entry: Entry, sharing: Sharing, policy: Option<&Policy>) -> Made {
        let ask = self.ask();
        let name = entry.circuit.name().clone();
        let mut new = Some(entry);
        // Under the lock: no user code. What is left in `new` is dropped after it.
        let (found, peer) = match self.circuits.entry(name) {
            Slot::Occupied(mut slot) => (slot.get_mut().take_policy(policy, ask), None),
            Slot::Vacant(slot) => {
                let Some(mut entry) = new.take() else { unreachable!("it was made above") };
                if let (Some(replica), Sharing::Cluster) = (&self.replica, sharing) {
                    // Before others can see it.
                    entry.peer = replica.keep(&entry.circuit);
                }
                let mut entry = slot.insert(entry);
                (entry.take_policy(policy, ask), entry.peer.clone())
            }
        };
        if let Some(unused) = new {
            unused.circuit.release_engine();
            return Made::Found(found);
        }
        if let (Some(replica), Some(peer)) = (&self.replica, peer) {
            replica.run_keeper(peer, found.circuit.clone());
        }
        // It may have been set since the policies were looked at.
        self.enforce_set_policy(&found.circuit);
        Made::New(found)
    }

    /// Puts a policy in force that code came with. Not under a lock: observers may be called.
    fn put_in_force(&self, circuit: &Circuit, policy: Policy) {
        if circuit.policy() != policy {
            circuit.set_policy(policy);
        }
        // One may have been set meanwhile, which goes first.
        self.enforce_set_policy(circuit);
    }

    /// Puts the policy in force that [`Store::set_policy`] has for the circuit, if there is one. Not under a
    /// lock: observers may be called.
    fn enforce_set_policy(&self, circuit: &Circuit) {
        let set = || self.set_policies().get(circuit.name()).cloned();
        if set().is_none() {
            return;
        }
        if let Some(mut entry) = self.circuits.get_mut(circuit.name().as_str()) {
            entry.chosen = Chosen::AtRuntime;
        }
        // Another thread may set another one meanwhile: until the two agree.
        while let Some(policy) = set().filter(|policy| circuit.policy() != *policy) {
            circuit.set_policy(policy);
        }
    }

    fn set_policies(&self) -> MutexGuard<'_, HashMap<Name, Policy>> {
        self.set_policies.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Entry {
    /// The circuit, for one who asks for it with this policy, or with none.
    fn take_policy(&mut self, policy: Option<&Policy>, ask: Ask) -> Found {
        self.touch(ask);
        let chosen = self.chosen;
        if policy.is_some() {
            self.chosen = chosen.max(Chosen::InCode);
        }
        Found { circuit: self.circuit.clone(), chosen }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(replica) = &self.replica {
            replica.orphan();
        }
        for (_, entry) in std::mem::take(&mut self.circuits) {
            entry.circuit.release_engine();
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
