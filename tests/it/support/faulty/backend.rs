//! The operations of a backend, each as a message over the connection.
//!
//! The network may repeat a message, which every operation has to bear. It does not repeat one that
//! sets an override, as an override that is applied twice does harm.

use tokio::sync::broadcast;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, Lease, MemoryBackend, Move, Notice, Probed, Report, View,
};
use tower_breaker::overrides::OverrideRecord;

use super::Faulty;
use crate::support::checker::Checker;
use crate::support::network::{at_once, brief};

/// An answer of the backend, which may have a view in it.
pub(super) trait HasView {
    fn view(&self) -> Option<&View>;
}

impl HasView for View {
    fn view(&self) -> Option<&View> {
        Some(self)
    }
}

impl HasView for (Option<Lease>, View) {
    fn view(&self) -> Option<&View> {
        Some(&self.1)
    }
}

impl HasView for () {
    fn view(&self) -> Option<&View> {
        None
    }
}

/// As `Backend` demands, an operation whose future is dropped happens soon or not at all: within
/// the time that a message takes.
impl Backend for Faulty {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        let circuit = circuit.clone();
        self.send("load", true, move |line| {
            line.at_backend("load", |backend, _| ((), at_once(backend.load(&circuit)))).1
        })
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        let (circuit, report) = (circuit.clone(), report.clone());
        self.send("report", true, move |line| {
            line.network.trace(|| {
                let Report { seq, generation, delta, vote, .. } = &report;
                format!("r{} report {seq} of {generation}: {delta:?} {vote:?}", line.replica)
            });
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                let view = at_once(backend.report(&circuit, &report));
                checker.reported(&report, &view);
                ((), view)
            };
            line.at_backend("report", act).1
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        let (circuit, to) = (circuit.clone(), *to);
        self.send("transition", true, move |line| {
            line.network.trace(|| format!("r{} transition {from} to {to:?}", line.replica));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                checker.proposed(from, to);
                ((), at_once(backend.transition(&circuit, from, &to)))
            };
            line.at_backend("transition", act).1
        })
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        let circuit = circuit.clone();
        // Repeated at once: a request that is repeated after its probe was settled has a new nonce.
        let again = self.line.fate().again.is_some();
        self.send("acquire", false, move |line| {
            line.at_backend("acquire", |backend, checker| {
                if again {
                    at_once(backend.acquire_probe(&circuit, generation, nonce));
                }
                let (lease, view) = at_once(backend.acquire_probe(&circuit, generation, nonce));
                line.network.trace(|| format!("r{} in {generation}: {lease:?}", line.replica));
                checker.granted(line.start, lease);
                (lease, view)
            })
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        let (circuit, probed) = (circuit.clone(), *result);
        self.send("settle", true, move |line| {
            line.network.trace(|| format!("r{} settle {lease:?} {probed:?}", line.replica));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                let view = at_once(backend.settle_probe(&circuit, lease, &probed));
                checker.settled(line.start, lease, probed, &view);
                ((), view)
            };
            line.at_backend("settle", act).1
        })
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        let (circuit, view) = (circuit.clone(), view.clone());
        self.send("restore", true, move |line| {
            line.network.trace(|| format!("r{} restores {}", line.replica, brief(&view)));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                let restored = at_once(backend.restore(&circuit, &view));
                checker.stats.restored += u64::from(restored.generation == view.generation);
                ((), restored)
            };
            line.at_backend("restore", act).1
        })
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        record: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        let (circuit, record) = (circuit.clone(), record.cloned());
        self.send("override", false, move |line| {
            line.network.trace(|| format!("r{} overrides {record:?}", line.replica));
            let act = |backend: &MemoryBackend, _: &mut _| {
                ((), at_once(backend.set_override(&circuit, record.as_ref())))
            };
            line.at_backend("override", act).1
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.line.notices.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.send("ping", false, |_| ())
    }
}
