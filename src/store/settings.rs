//! The settings of a store, as its builder collects them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::configured::Configured;
use crate::backend::Backend;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::sync::{BackendObserver, SyncSettings};

/// Observes every circuit of a store.
pub(super) type StoreObserver = Arc<dyn Fn(&CircuitName, &Event) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) latency: LatencySettings,
    pub(super) default_policy: Policy,
    pub(super) policies: HashMap<CircuitName, Policy>,
    pub(super) configured: Configured,
    pub(super) critical: HashSet<CircuitName>,
    pub(super) observers: Vec<StoreObserver>,
    pub(super) disabled: bool,
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) cluster: SyncSettings,
    pub(super) backend_observers: Vec<BackendObserver>,
    pub(super) keys: KeySettings,
}

/// How many calls are measured, one in so many; zero measures none.
#[derive(Clone, Copy, Debug)]
pub(super) struct LatencySettings {
    pub(super) named: u32,
    pub(super) of_keys: u32,
}

impl Default for LatencySettings {
    fn default() -> Self {
        Self { named: 64, of_keys: 0 }
    }
}

/// The bounds of circuits that requests name.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeySettings {
    pub(super) limit: usize,
    pub(super) idle: Duration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self { limit: 10_000, idle: Duration::from_secs(600) }
    }
}
