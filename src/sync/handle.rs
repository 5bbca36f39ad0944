//! What the rest of the store holds of its replicator.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::circuit::Pace;
use super::directory::Directory;
use super::group::NodeId;
use super::node::{LeaseRequest, Node};
use super::replicator::Replicator;
use crate::backend::{Backend, Sender, View};
use crate::clock;
use crate::event::BackendStatus;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;
use crate::unwind::contain;

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
