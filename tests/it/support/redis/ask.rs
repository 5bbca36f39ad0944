//! What a test asks a backend, as no replica does.

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Batch, Changes, Cursor, Group, Heartbeat, RedisBackend, Report,
    Sender, View,
};

/// Reads circuits, and reports as one of many replicas.
pub(crate) trait Ask: Backend {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        Box::pin(async move {
            // A batch without a number adds nothing.
            let batch = Batch { circuits: vec![circuit.clone()], ..batch("", 0) };
            one(self.sync(Group::of(circuit), &batch).await?, circuit)
        })
    }

    /// Sends the batch `seq` of a replica, with one report.
    fn report<'a>(&'a self, replica: &'a str, seq: u64, report: &'a Report) -> Answer<'a, View> {
        Box::pin(async move {
            let batch = Batch { reports: vec![report.clone()], ..batch(replica, seq) };
            one(self.sync(Group::of(&report.circuit), &batch).await?, &report.circuit)
        })
    }

    /// Sends a heartbeat.
    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let (sender, version) = (sender("test"), "1.2.3".to_owned());
            let heartbeat = Heartbeat { sender, version, impaired: String::new(), seen: 0 };
            self.heartbeat(&heartbeat).await.map(drop)
        })
    }
}

impl Ask for RedisBackend {}

fn one(changes: Changes, circuit: &CircuitName) -> Result<View, BackendError> {
    if let Some((_, error)) = changes.refused.into_iter().find(|(name, _)| name == circuit) {
        return Err(error);
    }
    let view = changes.views.into_iter().find(|(name, _)| name == circuit);
    Ok(view.expect("a view of the circuit").1)
}

fn batch(replica: &str, seq: u64) -> Batch {
    Batch {
        sender: sender(replica),
        seq,
        since: Cursor::default(),
        seen: 0,
        reports: Vec::new(),
        circuits: Vec::new(),
    }
}

fn sender(replica: &str) -> Sender {
    Sender { name: replica.to_owned(), id: replica.to_owned() }
}
