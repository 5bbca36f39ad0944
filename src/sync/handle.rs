//! What the rest of the store holds of its replicator.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::circuit::Pace;
use super::directory::Directory;
use super::group::NodeId;
use super::node::{LeaseRequest, Node};
use crate::backend::{Backend, Sender, View};
use crate::clock;
use crate::event::BackendStatus;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// Observes the status of the backend.
pub(crate) type BackendObserver = Arc<dyn Fn(&BackendStatus) + Send + Sync>;

/// How a store uses its backend.
#[derive(Clone, Debug)]
pub(crate) struct SyncSettings {
    pub(crate) replica: String,
    pub(crate) deadline: Duration,
    pub(crate) report_interval: Duration,
    pub(crate) budget: u32,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            replica: super::host::replica_name(""),
            deadline: Duration::from_millis(50),
            report_interval: Duration::from_millis(100),
            budget: 50,
        }
    }
}

/// Between two reports of a circuit that is suspect and far from any threshold.
const FAR: Duration = Duration::from_millis(300);

/// So much longer for each live replica, since all of them report the same circuits; and the
/// longest.
const FAR_PER_REPLICA: Duration = Duration::from_millis(30);
const LONGEST_FAR: Duration = Duration::from_secs(10);

/// The longest time for which a roll call waits for replicas that do not answer.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);

/// With more replicas than a few, it waits so much longer for each: their budgets may be used up.
const SETTLING_PER_REPLICA: Duration = Duration::from_millis(10);
const FEW: u32 = 16;

impl SyncSettings {
    pub(super) fn pace(&self, live: u64) -> Pace {
        let near = self.report_interval;
        let replicas = u32::try_from(live.min(1_000)).unwrap_or(1_000);
        Pace {
            near,
            far: near.max((FAR + FAR_PER_REPLICA * replicas).min(LONGEST_FAR)),
            settling: (near * 2).max(self.deadline).min(LONGEST_SETTLING)
                + SETTLING_PER_REPLICA * replicas.saturating_sub(FEW),
            live,
        }
    }
}

/// Whether circuits are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// The store is gone. Circuits may still be in use.
    Orphaned,
    ShuttingDown,
}

/// What the replicator has not looked at yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) joined: Vec<(NodeId, Arc<dyn Node>)>,
    pub(super) woken: BTreeSet<NodeId>,
    pub(super) released: Vec<NodeId>,
    pub(super) leases: Vec<(NodeId, Box<dyn LeaseRequest>)>,
}

/// What observers are called with.
pub(super) enum Notification {
    Circuit(Arc<dyn Node>),
    Status(BackendStatus),
}

/// This process's part in a cluster.
pub(crate) struct Handle {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) settings: SyncSettings,
    pub(super) sender: Sender,
    pub(super) status: watch::Sender<BackendStatus>,
    pub(super) life: watch::Sender<Life>,
    pub(super) woken: Notify,
    inbox: Mutex<Inbox>,
    directory: Mutex<Directory>,
    ids: AtomicU64,
    unsent: AtomicBool,
    ended: watch::Sender<bool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Handle {
    pub(super) fn new(backend: Arc<dyn Backend>, settings: SyncSettings) -> Self {
        let id = format!("{}#{:016x}", settings.replica, fastrand::u64(..));
        Self {
            backend,
            sender: Sender { name: settings.replica.clone(), id },
            settings,
            status: watch::Sender::new(BackendStatus::Connecting),
            life: watch::Sender::new(Life::Running),
            woken: Notify::new(),
            inbox: Mutex::default(),
            directory: Mutex::new(Directory::new()),
            ids: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            task: Mutex::default(),
        }
    }

    /// The task that syncs.
    pub(super) fn runs_as(&self, task: AbortHandle) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Returns a number for a circuit that is to be synced, unless circuits are synced no more.
    pub(crate) fn next_id(&self) -> Option<NodeId> {
        let running = *self.life.borrow() == Life::Running && !*self.ended.borrow();
        running.then(|| self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// The view of a circuit that is about to be made, if it is known without asking the backend,
    /// and when it was true.
    pub(crate) fn find(&self, name: &CircuitName) -> Option<(View, Timestamp)> {
        let connected = matches!(
            &*self.status.borrow(),
            BackendStatus::Connected | BackendStatus::Impaired { .. }
        );
        connected.then(|| self.directory().find(name, clock::now())).flatten()
    }

    /// Starts to sync a circuit.
    pub(crate) fn join(&self, id: NodeId, node: Arc<dyn Node>) {
        if *self.ended.borrow() {
            node.leave();
            return node.known();
        }
        self.post(|inbox| inbox.joined.push((id, node)));
    }

    /// A circuit has something to send.
    pub(crate) fn wake(&self, id: NodeId) {
        self.post(|inbox| {
            inbox.woken.insert(id);
        });
    }

    /// The store has forgotten a circuit.
    pub(crate) fn release(&self, id: NodeId) {
        self.post(|inbox| inbox.released.push(id));
    }

    /// Asks for a lease.
    pub(crate) fn request_lease(&self, id: NodeId, request: Box<dyn LeaseRequest>) {
        self.post(|inbox| inbox.leases.push((id, request)));
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The name of this replica.
    #[cfg(feature = "admin")]
    pub(crate) fn replica(&self) -> &str {
        &self.sender.name
    }

    pub(crate) fn status(&self) -> BackendStatus {
        self.status.borrow().clone()
    }

    /// The store is gone.
    pub(crate) fn orphan(&self) {
        self.live(Life::Orphaned);
    }

    /// Sends what is still to be sent, and ends. Returns whether all was sent in time.
    pub(crate) async fn shut_down(&self, within: Duration) -> bool {
        self.live(Life::ShuttingDown);
        let mut ended = self.ended.subscribe();
        let in_time = timeout(within, ended.wait_for(|ended| *ended)).await.is_ok();
        if !in_time {
            if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
                task.abort();
            }
            self.status.send_replace(BackendStatus::Closed);
        }
        in_time && !self.unsent.load(Ordering::Relaxed)
    }

    pub(super) fn leave_unsent(&self) {
        self.unsent.store(true, Ordering::Relaxed);
    }

    /// The replicator has ended.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
        for (_, node) in self.take_inbox().joined {
            node.leave();
            node.known();
        }
    }

    pub(super) fn take_inbox(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, post: impl FnOnce(&mut Inbox)) {
        if *self.ended.borrow() {
            return;
        }
        post(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_one();
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
}
