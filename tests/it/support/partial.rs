//! A backend that serves a part of its operations: reads and no writes, or some groups of circuits
//! and not others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;
use tokio::time::sleep;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Batch, Changes, Group, Heartbeat, Lease, MemoryBackend, Move,
    Notice, OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};

use super::ms;

/// What the backend does not do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Writes are refused, as without permission.
    RefusesWrites,
    /// Writes fail for now, as on a read-only replica.
    CannotWrite,
    /// The server of the groups below this number hangs.
    Hangs(u8),
}

/// Clones are the same backend.
#[derive(Clone, Debug)]
pub(crate) struct PartialBackend {
    pub(crate) backend: MemoryBackend,
    fault: Arc<Mutex<Fault>>,
    acquires: Arc<AtomicU64>,
    hung: Arc<AtomicU64>,
}

impl PartialBackend {
    pub(crate) fn new() -> Self {
        let backend = MemoryBackend::new();
        Self { backend, fault: Arc::default(), acquires: Arc::default(), hung: Arc::default() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How many leases were requested since the last look.
    pub(crate) fn acquires(&self) -> u64 {
        self.acquires.swap(0, Ordering::Relaxed)
    }

    /// How many operations the hung server got since the last look.
    pub(crate) fn hung(&self) -> u64 {
        self.hung.swap(0, Ordering::Relaxed)
    }

    fn send<'a, T: Send + 'a>(
        &'a self,
        group: Group,
        writes: bool,
        serve: impl FnOnce() -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        let error = match *self.fault.lock().unwrap() {
            Fault::RefusesWrites if writes => BackendError::refused("no permission"),
            Fault::CannotWrite if writes => BackendError::unavailable("read only"),
            Fault::Hangs(groups) if group.number() < groups => {
                self.hung.fetch_add(1, Ordering::Relaxed);
                return Box::pin(async {
                    sleep(ms(20)).await;
                    Err(BackendError::unavailable("no answer"))
                });
            }
            _ => return serve(),
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Backend for PartialBackend {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        self.send(group, !batch.reports.is_empty(), || self.backend.sync(group, batch))
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(Group::of(circuit), true, || self.backend.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        self.send(Group::of(circuit), true, || {
            self.backend.acquire_probe(circuit, generation, nonce)
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.send(Group::of(circuit), true, || self.backend.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(Group::of(circuit), true, || self.backend.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        self.send(Group::of(circuit), true, || self.backend.set_override(circuit, change))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.backend.heartbeat(heartbeat)
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.backend.replicas()
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.backend.watch()
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        self.backend.publish(sender, circuits)
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.backend.subscribe()
    }
}
