//! How syncing starts.

use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::handle::{BackendObserver, Handle, Notification, SyncSettings};
use super::replicator::Replicator;
use crate::backend::Backend;
use crate::unwind::contain;

/// Starts to sync.
///
/// # Panics
///
/// Outside of a tokio runtime.
#[track_caller]
pub(crate) fn start(
    backend: Arc<dyn Backend>,
    settings: SyncSettings,
    observers: Vec<BackendObserver>,
) -> Arc<Handle> {
    let runtime = Runtime::current();
    let notices = backend.subscribe();
    let handle = Arc::new(Handle::new(backend, settings));
    let (notifications, queue) = unbounded_channel();
    runtime.spawn(notify(queue, observers));
    let replicator = Replicator::new(handle.clone(), notices, notifications);
    handle.runs_as(runtime.spawn(replicator.run()).abort_handle());
    handle
}

/// Calls observers, one after the other. One that does not return keeps the others waiting, but
/// no sync.
async fn notify(mut queue: UnboundedReceiver<Notification>, observers: Vec<BackendObserver>) {
    while let Some(notification) = queue.recv().await {
        match notification {
            Notification::Circuit(node) => node.notify(),
            Notification::Status(status) => {
                for observer in &observers {
                    contain(|| observer(&status));
                }
            }
        }
    }
}
