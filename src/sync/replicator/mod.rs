//! The one task of a store that talks to the backend.
//!
//! It takes what circuits want to send ([`Agenda`]), has the [scheduler](super::scheduler) decide
//! what goes next, sends it, and hands the answers and the pushes to the circuits. A circuit costs
//! no task. No user code runs in it: observers run in a task of their own, so one that does not
//! return delays no sync.

mod answers;
mod batches;
mod changes;
mod members;
mod polls;
mod sending;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::backend::{Answer, BackendError, Changes, Group, Lease, Notice, Roster, View};
use crate::clock;
use crate::event::BackendStatus;
use crate::name::CircuitName;
use crate::sync::circuit::{Command, Pace};
use crate::sync::group::{GroupSync, Missed, NodeId, Polls};
use crate::sync::handle::{Handle, Life, Notification};
use crate::sync::node::{LeaseRequest, Node};
use crate::sync::outbound::Agenda;
use crate::sync::scheduler::{Class, Scheduler};
use crate::timestamp::Timestamp;

/// How long an operation may take that no call waits for.
const BACKGROUND: Duration = Duration::from_secs(1);

const HEARTBEAT: Duration = Duration::from_secs(1);

/// Heartbeats, or the batches of a group, without an answer for so long: the circuits detach.
const DEGRADED_AFTER: Duration = Duration::from_secs(2);

/// What all replicas send after a gap or an outage is spread over this.
const RETURN_SPREAD: Duration = Duration::from_millis(500);

/// What the scheduler decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Heartbeat,
    Sync(Group),
    Command(NodeId),
    Lease(NodeId),
    /// A description of the circuits, for those who watch the cluster.
    Publish,
}

/// An answer, and when the operation was sent.
struct Done {
    asked: Timestamp,
    answer: Answered,
}

enum Answered {
    Heartbeat(Result<Roster, BackendError>),
    Published(Result<(), BackendError>),
    Sync(Group, Result<Changes, BackendError>),
    Command(NodeId, Command, Result<View, BackendError>),
    Lease(NodeId, Box<dyn LeaseRequest>, Result<(Option<Lease>, View), BackendError>),
}

/// A circuit of this replica.
struct Member {
    node: Arc<dyn Node>,
    group: Group,
    agenda: Agenda,
    /// Requests for leases, in the order of their calls. There is one at a time for each round.
    leases: Vec<Box<dyn LeaseRequest>>,
    /// The store has forgotten the circuit.
    released: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Replicator {
    handle: Arc<Handle>,
    notices: broadcast::Receiver<Notice>,
    listens: bool,
    notifications: UnboundedSender<Notification>,
    members: HashMap<NodeId, Member>,
    ids: HashMap<CircuitName, NodeId>,
    groups: Vec<GroupSync>,
    scheduler: Scheduler<Job>,
    tasks: JoinSet<Done>,
    ticks: BTreeSet<(Timestamp, NodeId)>,
    /// Circuits that are suspect or not closed.
    active: usize,
    polled: Polls,
    /// Changes are not pushed.
    unpushed: bool,
    /// Circuits that no user has any more are looked for.
    sweeps: bool,
    /// Why circuits are detached although the backend answers.
    refused: BTreeMap<NodeId, String>,
    live: u64,
    /// Two heartbeats in a row have brought this number. Otherwise replicas that have just started
    /// may be missing in it.
    live_is_sure: bool,
    missed: Missed,
    /// When the last heartbeat was sent that was answered.
    heard: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    /// The last answer to anything.
    answered: Timestamp,
    /// Why no heartbeat is answered, since that is so for too long.
    degraded: Option<String>,
    finishing: bool,
}
impl Replicator {
    pub(super) fn new(
        handle: Arc<Handle>,
        notices: broadcast::Receiver<Notice>,
        notifications: UnboundedSender<Notification>,
    ) -> Self {
        let now = clock::now();
        let mut scheduler = Scheduler::new(handle.settings.budget, now);
        scheduler.request(Job::Heartbeat, Some((Class::Heartbeat, now)));
        Self {
            notices,
            listens: true,
            notifications,
            members: HashMap::new(),
            ids: HashMap::new(),
            groups: Group::all().map(|_| GroupSync::default()).collect(),
            scheduler,
            tasks: JoinSet::new(),
            ticks: BTreeSet::new(),
            active: 0,
            polled: Polls::Plain,
            unpushed: false,
            sweeps: false,
            refused: BTreeMap::new(),
            live: 1,
            live_is_sure: false,
            missed: Missed::default(),
            heard: None,
            failing_since: None,
            answered: now,
            degraded: None,
            finishing: false,
            handle,
        }
    }

    pub(super) async fn run(mut self) {
        let handle = self.handle.clone();
        let mut life = handle.life.subscribe();
        loop {
            let inbox = handle.take_inbox();
            self.take(inbox);
            self.tick(clock::now());
            let wait = self.send_what_is_due();
            self.publish_status();
            self.change_polls();
            match *life.borrow_and_update() {
                Life::Running => {}
                Life::Orphaned => {
                    if std::mem::take(&mut self.sweeps) {
                        self.drop_unused();
                    }
                    // What joined just before the store was dropped; nothing joins after.
                    let inbox = handle.take_inbox();
                    self.take(inbox);
                    if self.members.is_empty() {
                        return;
                    }
                }
                Life::ShuttingDown => {
                    if self.finish() {
                        break;
                    }
                }
            }
            tokio::select! {
                biased;
                () = handle.woken.notified() => {}
                // Before what is pushed: a flood of that must not keep answers waiting.
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                notice = self.notices.recv(), if self.listens => self.noticed(notice),
                _ = life.changed() => {}
                () = sleep(wait) => {}
            }
        }
        self.leave_all();
        let _ = timeout(BACKGROUND, handle.backend.close()).await;
        handle.status.send_replace(BackendStatus::Closed);
    }

    fn pace(&self) -> Pace {
        let pace = self.handle.settings.pace(self.live);
        // A roll call then counts as answered when the settling time is over.
        let live = if self.live_is_sure { self.live } else { u64::MAX };
        Pace { live, ..pace }
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        self.leave_all();
        self.handle.end();
    }
}

/// Waits for an answer that no call waits for. A backend of a user that panics has not answered.
async fn within<'a, T>(operation: impl FnOnce() -> Answer<'a, T>) -> Result<T, BackendError> {
    let panicked = || BackendError::unavailable("the backend panicked");
    let answer = catch_unwind(AssertUnwindSafe(operation)).map_err(|_| panicked())?;
    let mut answer = pin!(timeout(BACKGROUND, answer));
    let answer = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(panicked())),
    });
    answer.await?.unwrap_or_else(|_| {
        Err(BackendError::unavailable(format!("no answer within {BACKGROUND:?}")))
    })
}
