//! How a store is set up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Store;
use crate::machine::{Event, Policy};
use crate::name::Name;

/// Who is told what happens to every circuit.
pub(super) type StoreObserver = Arc<dyn Fn(&Name, &Event) + Send + Sync>;

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
    pub(super) default_policy: Policy,
    pub(super) policies: HashMap<Name, Policy>,
    pub(super) observers: Vec<StoreObserver>,
}

impl StoreBuilder {
    /// The policy of circuits that nobody gave one of their own. Default: [`Policy::default`].
    pub fn default_policy(mut self, policy: Policy) -> Self {
        self.default_policy = policy;
        self
    }

    /// The policy of the circuit `name`. A later one for the same name replaces it.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes.
    #[track_caller]
    pub fn policy<N>(mut self, name: N, policy: Policy) -> Self
    where
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        self.policies.insert(Name::expect(name), policy);
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
    pub fn on_change(mut self, observer: impl Fn(&Name, &Event) + Send + Sync + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> Store {
        Store::new(self)
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("default_policy", &self.default_policy)
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}
