//! A line to a ledger that answers in part: reads and not writes, or some circuits and not others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;
use tokio::time::sleep;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Lease, MemoryBackend, Move, Notice, OverrideRecord, Probed,
    Report, View,
};

use super::ms;

/// What the ledger does not do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Writes are refused, as without permission.
    RefusesWrites,
    /// Writes are not possible now, as on a replica.
    CannotWrite,
    /// The server of the circuits whose names begin so hangs.
    Hangs(&'static str),
}

/// Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct PartialBackend {
    pub(crate) ledger: MemoryBackend,
    fault: Arc<Mutex<Fault>>,
    acquires: Arc<AtomicU64>,
    hung: Arc<AtomicU64>,
}

impl PartialBackend {
    pub(crate) fn new() -> Self {
        let ledger = MemoryBackend::new();
        Self { ledger, fault: Arc::default(), acquires: Arc::default(), hung: Arc::default() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How often it was asked for a lease, since the last time.
    pub(crate) fn acquires(&self) -> u64 {
        self.acquires.swap(0, Ordering::Relaxed)
    }

    /// How often the server that hangs was asked, since the last time.
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
        self.send(circuit, false, self.ledger.load(circuit))
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        self.send(circuit, report.seq > 0, self.ledger.report(circuit, report))
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.ledger.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        self.send(circuit, true, self.ledger.acquire_probe(circuit, generation, nonce))
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.ledger.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(circuit, true, self.ledger.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        setting: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        self.send(circuit, true, self.ledger.set_override(circuit, setting))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.ledger.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.ledger.ping()
    }
}
