//! The one to switch to with the second design: in `traffic.rs` this replaces `Shown` and the `impl
//! Backend`, and `Verb` also has `Watch`, for what an operator's page asks.

use tokio::sync::broadcast;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, Batch, Changes, Group, Heartbeat, Impairment, Lease, Move, Notice,
    OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};

use super::traffic::{Traffic, Verb};

/// An answer, which may have shares in it.
trait Shown {
    fn shares(&self) -> u64 {
        0
    }
}

impl Shown for View {
    fn shares(&self) -> u64 {
        self.shares.len() as u64
    }
}

impl Shown for Changes {
    fn shares(&self) -> u64 {
        self.views.iter().map(|(_, view)| view.shares()).sum()
    }
}

impl Shown for (Option<Lease>, View) {
    fn shares(&self) -> u64 {
        self.1.shares()
    }
}

impl Shown for Roster {}
impl Shown for Vec<ReplicaInfo> {}
impl Shown for () {}

impl Backend for Traffic {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        self.send(Verb::Sync, move |backend| backend.sync(group, batch))
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(Verb::Transition, move |backend| backend.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        let act = move |backend: &'a dyn Backend| backend.acquire_probe(circuit, generation, nonce);
        self.send(Verb::Acquire, act)
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.send(Verb::Settle, move |backend| backend.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(Verb::Restore, |backend| backend.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        self.send(Verb::Override, |backend| backend.set_override(circuit, change))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.send(Verb::Heartbeat, |backend| backend.heartbeat(heartbeat))
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.send(Verb::Watch, |backend| backend.replicas())
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.send(Verb::Watch, |backend| backend.watch())
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        self.send(Verb::Watch, |backend| backend.publish(sender, circuits))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        if self.line.pushes { self.backend.subscribe() } else { self.line.silence.subscribe() }
    }

    fn impairments(&self) -> Vec<Impairment> {
        self.backend.impairments()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.backend.close()
    }
}
