//! A backend in this process, to test how replicas behave.
//!
//! The rules are in [`Records`], which is pure. Here are the lock, the clock and the channel.

mod circuits;
mod evidence;
mod histories;
mod index;
mod record;
mod records;
mod replicas;
mod ring;
mod starts;
mod stored;
mod streak;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::{
    Answer, Backend, BackendError, Batch, Changes, Group, Heartbeat, Lease, Move, Notice,
    OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};
use crate::clock;
use crate::machine::HistoryEntry;
use crate::name::CircuitName;
use circuits::Circuits;
use histories::Histories;
pub(crate) use records::Records;

/// A backend in this process, for tests: [`Store`](crate::Store)s that share one are replicas of
/// one cluster.
///
/// It reads tokio's clock, so that a test can pause it. Clones share the same records.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_breaker::backend::BackendError> {
/// use tower_breaker::backend::MemoryBackend;
/// use tower_breaker::{State, Store};
///
/// let backend = MemoryBackend::new();
/// let one = Store::builder().backend(backend.clone()).build().circuit("payments");
/// let other = Store::builder().backend(backend).build().circuit("payments");
///
/// one.force_open("an example").await?;
/// tokio::time::sleep(std::time::Duration::from_millis(1)).await;
/// assert_eq!(other.state(), State::ForcedOpen);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryBackend {
    contents: Arc<Mutex<Contents>>,
    notices: broadcast::Sender<Notice>,
}

#[derive(Default)]
struct Contents {
    records: Records,
    histories: Histories,
}

impl MemoryBackend {
    /// The most bytes that a replica may publish at once.
    const MAX_PUBLISHED: usize = 64 * 1024;

    /// Returns a backend without records.
    #[must_use]
    pub fn new() -> Self {
        Self { contents: Arc::default(), notices: broadcast::channel(1024).0 }
    }

    /// Deletes all records, overrides, histories and replicas, as if a server were emptied.
    pub fn forget(&self) {
        let mut contents = self.contents();
        contents.records.forget();
        contents.histories = Histories::default();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act`, and publishes the notices that it returns.
    fn act<'a, T, N>(&self, act: impl FnOnce(&mut Contents, u64) -> (T, N)) -> Answer<'a, T>
    where
        T: Send + 'a,
        N: IntoIterator<Item = Notice>,
    {
        let mut contents = self.contents();
        let (answer, notices) = act(&mut contents, now());
        // Under the lock, so that notices are sent in order.
        for notice in notices {
            // There may be no receiver.
            let _ = self.notices.send(notice);
        }
        Box::pin(ready(Ok(answer)))
    }

    /// The same for an operation on one circuit, which may change it.
    fn change<'a, T: Send + 'a>(
        &self,
        circuit: &CircuitName,
        change: impl FnOnce(&mut Circuits, u64) -> (T, Option<Notice>),
    ) -> Answer<'a, T> {
        self.act(|Contents { records, histories }, now| {
            let group = records.group_of(circuit, now);
            let before = group.view(circuit, now);
            let answer = change(group, now);
            histories.note(circuit, &before, &group.view(circuit, now), now);
            answer
        })
    }
}

impl Backend for MemoryBackend {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        self.act(|contents, now| contents.records.group(group, now).sync(batch, now))
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.change(circuit, |circuits, now| circuits.transition(circuit, from, to, now))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.change(circuit, |circuits, now| {
            circuits.acquire_probe(circuit, generation, nonce, now)
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.change(circuit, |circuits, now| circuits.settle_probe(circuit, lease, result, now))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        let answer =
            self.change(circuit, |circuits, now| match circuits.restore(circuit, view, now) {
                Ok((view, notice)) => (Ok(view), notice),
                Err(error) => (Err(error), None),
            });
        Box::pin(async { answer.await? })
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        self.change(circuit, |circuits, now| circuits.set_override(circuit, change, now))
    }

    fn history<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, Option<Vec<HistoryEntry>>> {
        self.act(|contents, now| (Some(contents.histories.of(circuit, now)), None))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.act(|contents, now| (contents.records.replicas.heartbeat(heartbeat, now), None))
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.act(|contents, now| (contents.records.replicas.list(now), None))
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.act(|contents, now| (contents.records.replicas.watch(now), None))
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        if circuits.len() > Self::MAX_PUBLISHED {
            let why = format!("{} bytes are too many to publish at once", circuits.len());
            return Box::pin(ready(Err(BackendError::refused(why))));
        }
        let (sender, circuits) = (sender.clone(), circuits.to_owned());
        self.act(|_, _| ((), Some(Notice::Circuits { sender, circuits })))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

/// In microseconds.
fn now() -> u64 {
    clock::now().as_nanos() / 1_000
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}
