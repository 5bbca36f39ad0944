//! The settings of a store, as its builder collects them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::event::BackendStatus;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::policy::Policy;

/// Observes every circuit of a store.
pub(super) type StoreObserver = Arc<dyn Fn(&CircuitName, &Event) + Send + Sync>;

/// Observes the status of the backend.
pub(super) type BackendObserver = Arc<dyn Fn(&BackendStatus) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) default_policy: Policy,
    pub(super) policies: HashMap<CircuitName, Policy>,
    pub(super) observers: Vec<StoreObserver>,
    pub(super) disabled: bool,
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) cluster: ClusterSettings,
    pub(super) backend_observers: Vec<BackendObserver>,
    pub(super) keys: KeySettings,
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

/// How a store uses its backend.
#[derive(Clone, Debug)]
pub(super) struct ClusterSettings {
    pub(super) replica: String,
    pub(super) deadline: Duration,
    pub(super) report_interval: Duration,
    pub(super) budget: u32,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            replica: format!("{}", std::process::id()),
            deadline: Duration::from_millis(50),
            report_interval: Duration::from_millis(100),
            budget: 50,
        }
    }
}
