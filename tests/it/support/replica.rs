//! One replica of a cluster: a store on the backend, and the circuit that it shares.

use std::sync::atomic::{AtomicU64, Ordering};

use tower_breaker::backend::Backend;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Store};

use super::outage::HasCircuit;
use super::store_on;

/// A replica, with its connection to the backend where the test breaks it.
pub(crate) struct Replica<L = ()> {
    pub(crate) line: L,
    pub(crate) store: Store,
    pub(crate) circuit: Circuit,
}

impl Replica {
    pub(crate) fn of(store: Store) -> Self {
        let circuit = store.circuit("test");
        Self { line: (), store, circuit }
    }
}

impl<L: Backend + Clone> Replica<L> {
    pub(crate) fn join(line: &L, policy: PolicyBuilder) -> Self {
        // All replicas of a test run on one host, whose name would make them one voter.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("replica {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let store = store_on(line.clone(), policy).replica(name).build();
        let Replica { store, circuit, .. } = Replica::of(store);
        Self { line: line.clone(), store, circuit }
    }
}

impl<L> HasCircuit for Replica<L> {
    fn circuit(&self) -> &Circuit {
        &self.circuit
    }
}
