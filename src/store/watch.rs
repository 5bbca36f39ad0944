//! The replicas of a cluster, and their circuits, for pages and programs that show them all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{sleep, timeout};

use super::store::Store;
use super::summary::CircuitSummary;
use crate::backend::{BackendError, Notice, ReplicaInfo, Sender};
use crate::clock;
use crate::sync::Handle;
use crate::timestamp::Timestamp;

/// The longest time that [`Store::replicas`] waits.
const ANSWER: Duration = Duration::from_secs(1);

/// How often the backend is asked again to have replicas publish. It forgets that after 15 seconds.
const RENEW: Duration = Duration::from_secs(5);

impl Store {
    /// Returns the replicas that use the same backend, and have sent a heartbeat within the last
    /// minute. Without a backend it returns none.
    ///
    /// # Errors
    ///
    /// Returns an error if the backend does not answer within one second.
    pub async fn replicas(&self) -> Result<Vec<ReplicaInfo>, BackendError> {
        let Some(replicator) = &self.registry.replicator else { return Ok(Vec::new()) };
        let answer = timeout(ANSWER, replicator.backend().replicas()).await;
        answer.unwrap_or_else(|_| {
            Err(BackendError::unavailable(format!("no answer within {ANSWER:?}")))
        })
    }

    /// Watches the circuits of all replicas that use the same backend. Returns `None` if the store
    /// has no backend.
    ///
    /// Replicas send nothing about healthy circuits, so a page that shows the whole cluster must
    /// ask for them. While [`ClusterWatch::next`] is called again and again, each replica publishes
    /// its circuits about once a second.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let store = tower_breaker::Store::in_memory();
    /// if let Some(mut watch) = store.watch() {
    ///     while let Some(replica) = watch.next().await {
    ///         for circuit in replica.circuits {
    ///             println!("{}: {} is {}", replica.name, circuit.name, circuit.state);
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// One command a second for each replica, with up to 60 KiB, within the
    /// [budget](crate::StoreBuilder::budget) of its store. It ends 15 seconds after the last call
    /// of [`ClusterWatch::next`].
    #[must_use]
    pub fn watch(&self) -> Option<ClusterWatch> {
        let handle = self.registry.replicator.clone()?;
        let notices = handle.backend().subscribe();
        Some(ClusterWatch { handle, notices, renew_at: Timestamp::default() })
    }
}

/// Yields the circuits of all replicas, one replica at a time. [`Store::watch`] returns it.
#[must_use]
pub struct ClusterWatch {
    handle: Arc<Handle>,
    notices: broadcast::Receiver<Notice>,
    renew_at: Timestamp,
}

impl ClusterWatch {
    /// Returns the circuits of the next replica that publishes them, or `None` once the backend is
    /// closed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops no description: the next call returns it.
    ///
    /// # Panics
    ///
    /// Panics when it is polled outside of a tokio runtime with its timers enabled.
    pub async fn next(&mut self) -> Option<ReplicaCircuits> {
        loop {
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Ok(Notice::Circuits { sender, circuits }) => {
                        return Some(ReplicaCircuits::new(sender, &circuits));
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = sleep(self.renew_at.since(clock::now())) => {
                    // A backend that does not answer is asked again.
                    let _ = timeout(ANSWER, self.handle.backend().watch()).await;
                    self.renew_at = clock::now().after(RENEW);
                }
            }
        }
    }
}

impl fmt::Debug for ClusterWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterWatch").finish_non_exhaustive()
    }
}

/// The circuits of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ReplicaCircuits {
    /// The name of the replica, which it keeps over restarts.
    pub name: String,
    /// Unique for each start of a process.
    pub id: String,
    /// Its circuits. If they do not fit into 60 KiB, some closed ones are missing.
    pub circuits: Vec<CircuitSummary>,
}

impl ReplicaCircuits {
    /// Reads what a replica has published, as a [notice](Notice::Circuits) contains it. Lines of
    /// another version are skipped.
    ///
    /// For programs that use a [`Backend`](crate::backend::Backend) without a store.
    #[must_use]
    pub fn new(sender: Sender, circuits: &str) -> Self {
        let circuits = CircuitSummary::read_all(circuits);
        Self { name: sender.name, id: sender.id, circuits }
    }
}
