//! Keeps the circuits of a store in agreement with a backend.
//!
//! A [`Replica`] is this process's part in a cluster: one for each store that has a backend. Every
//! circuit has a [keeper](keeper), a task that tells the ledger what happens here, and the circuit what
//! the ledger says. Two more tasks serve all of them: one hears what the ledger tells unasked, one
//! pings it while it is lost.
//!
//! Laws:
//!
//! 1. Nothing that a call waits for takes longer than the deadline.
//! 2. At most one report is under way for each circuit, and one request for a lease.
//! 3. After [`FAILURES`] operations in a row without an answer, and a ping without one, the replica is
//!    *degraded*: it sends nothing but pings, and every circuit decides alone. One answered ping ends
//!    that, and every circuit is loaded again. Where pings are answered it is only a part that is
//!    lost, and the circuits concerned decide alone one by one.
//! 4. Nothing grows while the ledger is lost: results are kept as a window keeps them.

mod budget;
mod keeper;
mod peer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::settings::{BackendObserver, ClusterSettings};
use crate::backend::{Answer, Backend, BackendError, Notice};
use crate::circuit::Circuit;
use crate::clock;
use crate::event::{BackendStatus, log};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;
use crate::unwind::contain;
use budget::Budget;
use keeper::Keeper;
pub(super) use peer::Peer;

/// So many operations without an answer, one after the other, and for longer than the deadline, are no
/// accident.
const FAILURES: u32 = 5;

/// Operations without an answer, one after the other.
#[derive(Debug, Default)]
struct Failures {
    number: u32,
    since: Option<Timestamp>,
}

/// More than this, and they wait for each other; less than what a backend can have under way.
const AT_ONCE: usize = 64;

/// How often a lost ledger is asked whether it is back.
const PING_INTERVAL: Duration = Duration::from_millis(500);

/// How long a ping may take. Longer than an operation may: nobody waits for it.
const PING_PATIENCE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// The store is gone. Circuits may still be in use.
    Orphaned,
    ShuttingDown,
}

pub(super) struct Replica {
    backend: Arc<dyn Backend>,
    settings: ClusterSettings,
    /// Unique for each start: numbers of reports start anew with it.
    id: String,
    runtime: Handle,
    budget: Budget,
    peers: DashMap<CircuitName, Arc<Peer>>,
    /// The number of the next report. One for all circuits: one that was forgotten and is made again
    /// must not start anew, or the ledger takes its reports for old ones.
    seq: AtomicU64,
    failures: Mutex<Failures>,
    /// The ledger may be lost.
    suspect: Arc<Notify>,
    /// How many keepers may ask at once.
    turns: Semaphore,
    untold: AtomicBool,
    status: watch::Sender<BackendStatus>,
    life: watch::Sender<Life>,
    keepers: watch::Sender<usize>,
    observers: Vec<BackendObserver>,
    cautioned: Mutex<Option<String>>,
    tasks: Vec<AbortHandle>,
}

impl Replica {
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[track_caller]
    pub(super) fn start(
        backend: Arc<dyn Backend>,
        settings: ClusterSettings,
        observers: Vec<BackendObserver>,
    ) -> Arc<Self> {
        let runtime = Handle::current();
        let id = format!("{}#{:016x}", settings.replica, fastrand::u64(..));
        let replica = Arc::new_cyclic(|replica: &Weak<Self>| {
            let status = watch::Sender::new(BackendStatus::Connected);
            let notices = backend.subscribe();
            let suspect = Arc::new(Notify::new());
            let tasks = vec![
                runtime.spawn(listen(replica.clone(), notices)).abort_handle(),
                runtime.spawn(watch_over(replica.clone(), suspect.clone())).abort_handle(),
            ];
            Self {
                backend,
                budget: Budget::new(settings.budget),
                settings,
                id,
                runtime,
                peers: DashMap::new(),
                seq: AtomicU64::new(1),
                failures: Mutex::default(),
                suspect,
                turns: Semaphore::new(AT_ONCE),
                untold: AtomicBool::new(false),
                status,
                life: watch::Sender::new(Life::Running),
                keepers: watch::Sender::new(0),
                observers,
                cautioned: Mutex::default(),
                tasks,
            }
        });
        replica.pass_on_caution();
        replica
    }

    /// Makes a circuit the cluster's. Runs no user code, so that the map may be locked; the
    /// [keeper](Self::run_keeper) is to be started after that.
    pub(super) fn keep(self: &Arc<Self>, circuit: &Circuit) -> Option<Arc<Peer>> {
        if *self.life.borrow() != Life::Running {
            return None;
        }
        let peer = Peer::new(self.clone(), circuit.name().clone());
        self.peers.insert(circuit.name().clone(), peer.clone());
        circuit.join(peer.clone());
        Some(peer)
    }

    pub(super) fn run_keeper(&self, peer: Arc<Peer>, circuit: Circuit) {
        self.runtime.spawn(Keeper::new(peer, circuit).run());
    }

    pub(super) fn status(&self) -> BackendStatus {
        self.status.borrow().clone()
    }

    /// The store is gone.
    pub(super) fn orphan(&self) {
        self.live(Life::Orphaned);
    }

    /// Tells the ledger what is still to be told, and ends. True if all was told in time.
    pub(super) async fn shut_down(&self, within: Duration) -> bool {
        self.live(Life::ShuttingDown);
        let mut keepers = self.keepers.subscribe();
        let ended = timeout(within, async {
            // The sender is in `self`.
            let _ = keepers.wait_for(|keepers| *keepers == 0).await;
            let _ = self.backend.close().await;
        });
        ended.await.is_ok() && !self.untold.load(Ordering::Relaxed)
    }

    /// A keeper has ended, and there was something that it could not tell.
    fn leave_untold(&self) {
        self.untold.store(true, Ordering::Relaxed);
    }

    fn live(&self, life: Life) {
        self.life.send_if_modified(|now| {
            let changes = *now != Life::ShuttingDown && *now != life;
            if changes {
                *now = life;
            }
            changes
        });
    }

    fn is_degraded(&self) -> bool {
        matches!(&*self.status.borrow(), BackendStatus::Degraded { .. })
    }

    /// Waits for its turn, and for an answer; `None` if its turn did not come. So many circuits, which
    /// all load when the ledger is back, are not taken for a ledger that does not answer.
    async fn ask_in_turn<T>(&self, answer: Answer<'_, T>) -> Option<Result<T, BackendError>> {
        let deadline = self.settings.deadline;
        let start = clock::now();
        let Ok(Ok(_turn)) = timeout(deadline / 2, self.turns.acquire()).await else { return None };
        let patience = deadline.saturating_sub(clock::now().since(start));
        Some(self.heed(answer, patience).await)
    }

    /// Waits for an answer, no longer than `patience`, and heeds whether there is one.
    async fn heed<T>(&self, answer: Answer<'_, T>, patience: Duration) -> Result<T, BackendError> {
        let answer = timeout(patience, answer).await.unwrap_or_else(|_| {
            Err(BackendError::unavailable(format!("no answer within {patience:?}")))
        });
        match &answer {
            Err(error) if error.is_unavailable() => self.failed(),
            _ => *self.failures() = Failures::default(),
        }
        answer
    }

    fn failed(&self) {
        let now = clock::now();
        let mut failures = self.failures();
        failures.number += 1;
        let since = *failures.since.get_or_insert(now);
        if failures.number >= FAILURES && now.since(since) >= self.settings.deadline {
            self.suspect.notify_one();
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_status(&self, status: &BackendStatus) {
        let changes = self.status.send_if_modified(|now| {
            let changes = now.is_degraded() != status.is_degraded();
            if changes {
                *now = status.clone();
            }
            changes
        });
        if changes {
            log::backend(status);
            for observer in &self.observers {
                // A keeper must not end for what an observer does.
                contain(|| observer(status));
            }
        }
    }

    /// Logs what an operator should mend, where that is new.
    fn pass_on_caution(&self) {
        let caution = self.backend.warning();
        let mut told = self.cautioned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = caution != std::mem::replace(&mut *told, caution.clone());
        drop(told);
        if let Some(caution) = caution.filter(|_| is_new) {
            log::backend_warning(&caution);
        }
    }

    /// Asks whether the ledger can be reached at all.
    async fn ping(&self, patience: Duration) {
        let ping = timeout(patience, self.backend.ping()).await;
        let ping = ping.unwrap_or_else(|_| {
            Err(BackendError::unavailable(format!("no answer within {patience:?}")))
        });
        match ping {
            Ok(()) => {
                *self.failures() = Failures::default();
                self.set_status(&BackendStatus::Connected);
            }
            Err(error) => self.set_status(&BackendStatus::Degraded { reason: error.to_string() }),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Hands on what the ledger tells unasked.
async fn listen(replica: Weak<Replica>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        let notice = notices.recv().await;
        let Some(replica) = replica.upgrade() else { return };
        match notice {
            Ok(Notice::View(circuit, view)) => {
                if let Some(peer) = replica.peers.get(&circuit) {
                    peer.hear(*view);
                }
            }
            Ok(Notice::Gap) | Err(RecvError::Lagged(_)) => {
                replica.pass_on_caution();
                for peer in &replica.peers {
                    peer.load_again();
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Asks a ledger that seems to be lost whether it is, and one that is whether it is back.
async fn watch_over(replica: Weak<Replica>, suspect: Arc<Notify>) {
    let mut degraded = false;
    loop {
        if degraded {
            // Not all replicas in step.
            sleep(PING_INTERVAL.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        } else {
            suspect.notified().await;
        }
        let Some(replica) = replica.upgrade() else { return };
        let patience = if degraded { PING_PATIENCE } else { replica.settings.deadline };
        replica.ping(patience).await;
        degraded = replica.is_degraded();
    }
}
