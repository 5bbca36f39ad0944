//! A backend that serves a part of its operations: reads and no writes, or some circuits and not
//! others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;
use tokio::time::sleep;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Lease, MemoryBackend, Move, Notice, Probed, Report, View,
};
use tower_breaker::overrides::OverrideRecord;

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
    /// The server of the circuits whose names begin like this hangs.
    Hangs(&'static str),
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
        circuit: &CircuitName,
        writes: bool,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        let error = match *self.fault.lock().unwrap() {
            Fault::RefusesWrites if writes => BackendError::refused("no permission"),
            Fault::CannotWrite if writes => BackendError::unavailable("read only"),
            Fault::Hangs(start) if circuit.as_str().starts_with(start) => {
                self.hung.fetch_add(1, Ordering::Relaxed);
                return Box::pin(async {
                    sleep(ms(20)).await;
                    Err(BackendError::unavailable("no answer"))
                });
            }
            _ => return answer,
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Backend for PartialBackend {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        self.send(circuit, false, self.backend.load(circuit))
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        self.send(circuit, report.seq > 0, self.backend.report(circuit, report))
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.backend.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        self.send(circuit, true, self.backend.acquire_probe(circuit, generation, nonce))
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.backend.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(circuit, true, self.backend.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        record: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.backend.set_override(circuit, record))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.backend.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.backend.ping()
    }
}
