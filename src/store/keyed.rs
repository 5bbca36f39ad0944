//! Circuits of keys: one for each key of one name.

use std::fmt;
use std::sync::Arc;

use super::entry::{Ask, Used};
use super::keys::Room;
use super::registry::{Made, Sharing};
use super::store::Store;
use crate::circuit::{Circuit, Width};
use crate::clock;
use crate::event::{StoreEvent, log};
use crate::name::{CircuitName, KeyedName};
use crate::policy::Policy;
use crate::stats::Totals;

/// A circuit for each key, without tower: for each host that a client calls, each tenant, each
/// shard.
///
/// [`Store::keyed`] returns it. In tower, use
/// [`CircuitBreakerLayer::keyed_by`](crate::CircuitBreakerLayer::keyed_by); a layer with the same
/// name in the same store shares these circuits.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_breaker::{Policy, Store};
///
/// # async fn fetch(_: &str) -> Result<String, std::io::Error> { Ok("reply".to_owned()) }
/// let store = Store::in_memory();
/// let hosts = store.keyed("outbound").policy(Policy::http_api());
///
/// let host = "api.example.com";
/// let reply = match hosts.circuit(host) {
///     Some(circuit) => circuit.execute(|| fetch(host)).await?,
///     // No room for one more circuit: the call is made, and no circuit counts it.
///     None => fetch(host).await?,
/// };
/// assert_eq!(reply, "reply");
///
/// // The same circuit, by its full name:
/// assert!(store.get("outbound:api.example.com").is_some());
/// # Ok(()) }
/// ```
///
/// # Bounds
///
/// The store keeps at most [`key_limit`](crate::StoreBuilder::key_limit) circuits of keys, and
/// forgets those that are [idle](crate::StoreBuilder::key_idle). So look the circuit up for each
/// call and do not keep it: a circuit that you hold is in use, and cannot make room for another.
///
/// Keys may come from outside. When the limit is reached, a new key evicts another circuit: first
/// one that has counted no failure and no slow call, then the least recently used of the others. A
/// client that chooses keys cannot keep a new key from getting a circuit, and cannot evict a
/// circuit that has counted failures and is used more often than the client's own keys. A circuit
/// that is in use, or under an override, is never evicted.
#[derive(Clone)]
pub struct KeyedCircuits {
    store: Store,
    /// The name of the layer.
    pub(crate) layer: CircuitName,
    /// The same, as the names of the circuits begin.
    prefix: Arc<str>,
    policy: Option<Policy>,
    sharing: Sharing,
}

impl Store {
    /// Returns the circuits of keys under this name. See [`KeyedCircuits`].
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 64 bytes, which would leave too little room for
    /// keys.
    #[track_caller]
    pub fn keyed<N>(&self, name: N) -> KeyedCircuits
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        let layer = CircuitName::expect(name);
        let bytes = KeyedCircuits::prefix(&layer, Sharing::Cluster).len();
        let most = KeyedName::MOST_PREFIX;
        assert!(
            bytes <= most,
            "the name of keyed circuits has at most {most} bytes, this one has {bytes}"
        );
        KeyedCircuits::new(self.clone(), layer, None, Sharing::Cluster)
    }
}

impl KeyedCircuits {
    pub(crate) fn new(
        store: Store,
        layer: CircuitName,
        policy: Option<Policy>,
        sharing: Sharing,
    ) -> Self {
        let prefix = Self::prefix(&layer, sharing).into();
        Self { store, layer, prefix, policy, sharing }
    }

    /// How the names of a layer's circuits begin. The name of a place in the code, which no replica
    /// shares, stays as it is.
    pub(crate) fn prefix(layer: &CircuitName, sharing: Sharing) -> String {
        match sharing {
            Sharing::Cluster => KeyedName::prefix(layer.as_str()),
            Sharing::Process => layer.as_str().to_owned(),
        }
    }

    /// Sets the policy of these circuits. Default: that of the store.
    ///
    /// A policy that the store has for the full name of a circuit (`name:key`) takes precedence, as
    /// [`Store::set_policy`] describes. Give all users of one name, layers included, the same
    /// policy: if two differ, the one that first asks for a circuit holds, without a warning.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Returns the circuit of a key, and makes it if there is none. Its name is `name:key`, with
    /// the key [escaped](crate::CircuitBreakerLayer::keyed_by).
    ///
    /// Returns `None` if the call should be made without a circuit: the limit is reached and every
    /// circuit examined is in use or under an override, or the key is empty. In both cases the
    /// store logs a warning, at most one a minute.
    #[must_use]
    pub fn circuit(&self, key: &str) -> Option<Circuit> {
        if key.is_empty() {
            self.no_key();
            return None;
        }
        let registry = &*self.store.registry;
        let name = KeyedName::new(&self.prefix, key);
        let ask = registry.ask();
        if registry.keys.is_time_to_look(ask.now) {
            for entry in registry.keys.forget_idle(&registry.circuits, ask.now) {
                entry.release();
            }
        }
        match registry.find(name.as_str(), self.policy.as_ref(), ask) {
            Some(found) => {
                if let (Some(policy), true) = (&self.policy, found.takes_policy()) {
                    self.put_in_force(&found.circuit, policy);
                }
                Some(found.circuit)
            }
            None => self.make(&name.to_name()),
        }
    }

    /// Returns the sums of the [totals](Totals) of all circuits of keys under this name: of those
    /// that the store has, and of those that it had and has evicted or forgotten.
    ///
    /// The sums are exact to the call, and never fall. Calls without a circuit, for want of a key
    /// or of room, are not in them. Nor is a circuit that was looked up by its full name before any
    /// call used its key: that is a named one.
    ///
    /// ```
    /// use tower_breaker::{Outcome, Store};
    ///
    /// let store = Store::builder().key_limit(1).build();
    /// let hosts = store.keyed("outbound");
    /// for host in ["a.example", "b.example"] {
    ///     let circuit = hosts.circuit(host).expect("room: the other one is evicted");
    ///     circuit.try_acquire()?.settle(Outcome::Success);
    /// }
    /// assert_eq!(store.circuits().len(), 1);
    /// assert_eq!(hosts.totals().succeeded, 2);
    /// # Ok::<(), tower_breaker::Rejected>(())
    /// ```
    ///
    /// # Cost
    ///
    /// It looks at every circuit of the store. Meanwhile no circuit of a key is evicted or
    /// forgotten.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let registry = &*self.store.registry;
        registry.keys.departed.of(&self.layer, &registry.circuits)
    }

    /// Logs that a request had no key.
    pub(crate) fn no_key(&self) {
        if let Some(calls) = self.store.registry.keys.no_key.is_to_be_logged(clock::coarse()) {
            log::no_key(self.layer.as_str(), calls);
        }
    }

    #[cold]
    fn make(&self, name: &CircuitName) -> Option<Circuit> {
        let registry = &*self.store.registry;
        let ask = Ask { made: registry.keys.count_made(), ..registry.ask() };
        match registry.keys.room(&registry.circuits) {
            Some(Room::Free) => {}
            Some(Room::Evicted(entry)) => entry.release(),
            None => {
                if let Some(calls) = registry.keys.no_room.is_to_be_logged(ask.now) {
                    let limit = registry.keys.settings.limit;
                    registry.feed.publish(|| {
                        let layer = self.layer.clone();
                        StoreEvent::KeyLimitReached { layer, limit, calls }
                    });
                    log::no_room(self.layer.as_str(), limit, calls);
                }
                return None;
            }
        }
        let mut entry = registry.entry(name.clone(), Some(&self.layer), Width::One);
        entry.used = Some(Used::new(ask, registry.disabled, self.layer.clone()));
        let made = registry.insert(entry, self.sharing, self.policy.as_ref());
        if let Made::New(_) = made {
            registry.keys.add(name.clone());
        } else {
            registry.keys.give_back_room();
        }
        let unshared = registry.replicator.is_some() && self.sharing == Sharing::Process;
        if unshared && registry.keys.is_unnamed_to_be_logged() {
            log::unnamed(&self.layer);
        }
        let found = made.found();
        if let (Some(policy), true) = (&self.policy, found.takes_policy()) {
            self.put_in_force(&found.circuit, policy);
        }
        Some(found.circuit)
    }

    #[cold]
    fn put_in_force(&self, circuit: &Circuit, policy: &Policy) {
        let registry = &*self.store.registry;
        let policy = registry.configured(circuit.name(), Some(&self.layer), policy.clone());
        registry.put_in_force(circuit, policy);
    }
}

impl fmt::Debug for KeyedCircuits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuits")
            .field("name", &self.layer)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
