//! The operations of a backend, each as a message over the connection.
//!
//! The network may repeat a message, which every operation has to bear. It does not repeat one that
//! sets an override, as an override that is applied twice does harm.

use tokio::sync::broadcast;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, Batch, Changes, Group, Heartbeat, Lease, MemoryBackend, Move, Notice,
    OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};
use tower_breaker::event::HistoryEntry;

use super::Faulty;
use crate::support::checker::Checker;
use crate::support::network::{at_once, brief};
use crate::support::now;

/// An answer of the backend, which may have views in it.
pub(super) trait HasViews {
    fn views(&self) -> Vec<&View> {
        Vec::new()
    }
}

impl HasViews for View {
    fn views(&self) -> Vec<&View> {
        vec![self]
    }
}

impl HasViews for (Option<Lease>, View) {
    fn views(&self) -> Vec<&View> {
        vec![&self.1]
    }
}

impl HasViews for Changes {
    fn views(&self) -> Vec<&View> {
        self.views.iter().map(|(_, view)| view).collect()
    }
}

impl HasViews for Roster {}
impl HasViews for Vec<ReplicaInfo> {}
impl HasViews for Option<Vec<HistoryEntry>> {}
impl HasViews for () {}

/// As `Backend` demands, an operation whose future is dropped happens soon or not at all: within
/// the time that a message takes.
impl Backend for Faulty {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        let (batch, sent) = (batch.clone(), now());
        self.send("sync", true, move |line| {
            let mut batch = batch.clone();
            // What was on its way for so long is older, also when it arrives for the second time.
            batch.reports.iter_mut().for_each(|report| report.grow_older(sent.elapsed()));
            line.trace_batch(&batch);
            line.at_backend("sync", |backend, checker| {
                let changes = at_once(backend.sync(group, &batch));
                checker.reported(line.start, &batch, &changes);
                changes
            })
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        let (circuit, to) = (circuit.clone(), to.clone());
        self.send("transition", true, move |line| {
            line.network.trace(|| format!("r{} transition {from} to {to:?}", line.replica));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                checker.proposed(line.start, from, &to);
                at_once(backend.transition(&circuit, from, &to))
            };
            line.at_backend("transition", act)
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
        let (circuit, probed) = (circuit.clone(), result.clone());
        self.send("settle", true, move |line| {
            line.network.trace(|| format!("r{} settle {lease:?} {probed:?}", line.replica));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                let view = at_once(backend.settle_probe(&circuit, lease, &probed));
                checker.settled(line.start, lease, &probed, &view);
                view
            };
            line.at_backend("settle", act)
        })
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        let (circuit, view) = (circuit.clone(), view.clone());
        self.send("restore", true, move |line| {
            line.network.trace(|| format!("r{} restores {}", line.replica, brief(&view)));
            let act = |backend: &MemoryBackend, checker: &mut Checker| {
                let restored = at_once(backend.restore(&circuit, &view));
                checker.stats.restored += u64::from(restored.generation == view.generation);
                restored
            };
            line.at_backend("restore", act)
        })
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        let (circuit, change) = (circuit.clone(), change.clone());
        self.send("override", false, move |line| {
            line.network.trace(|| format!("r{} overrides {change:?}", line.replica));
            let act = |backend: &MemoryBackend, _: &mut _| {
                at_once(backend.set_override(&circuit, &change))
            };
            line.at_backend("override", act)
        })
    }

    fn history<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, Option<Vec<HistoryEntry>>> {
        let circuit = circuit.clone();
        self.send("history", false, move |line| at_once(line.network.backend.history(&circuit)))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        let heartbeat = heartbeat.clone();
        self.send("heartbeat", false, move |line| {
            at_once(line.network.backend.heartbeat(&heartbeat))
        })
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.send("replicas", false, |line| at_once(line.network.backend.replicas()))
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.send("watch", false, |line| at_once(line.network.backend.watch()))
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        let (sender, circuits) = (sender.clone(), circuits.to_owned());
        self.send("publish", false, move |line| {
            at_once(line.network.backend.publish(&sender, &circuits));
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.line.notices.subscribe()
    }
}
