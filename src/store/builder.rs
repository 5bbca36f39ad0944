//! How a store is set up.

use std::collections::HashMap;
use std::fmt;

use super::Store;
use crate::machine::Policy;
use crate::name::Name;

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
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StoreBuilder {
    pub(super) default_policy: Policy,
    pub(super) policies: HashMap<Name, Policy>,
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

    /// The store.
    #[must_use]
    pub fn build(self) -> Store {
        Store::new(self)
    }
}
