//! The tasks of a service.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle as Runtime;
use tokio::task::{AbortHandle, JoinHandle};

use super::log::{Log, Writer};

/// The tasks of a service. They end when this is dropped.
#[derive(Default)]
pub(super) struct Tasks(Mutex<Running>);

#[derive(Default)]
struct Running {
    sampler: Option<JoinHandle<()>>,
    hub: Option<Hub>,
    closed: bool,
}

/// The task that writes events.
struct Hub {
    log: Arc<Log>,
    task: AbortHandle,
}

impl Tasks {
    /// Starts the sampler if it does not run. Without a runtime, it starts later.
    pub(super) fn keep_sampling<F>(&self, run: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Runtime::try_current() else { return };
        let mut running = self.lock();
        // The runtime in which it ran may be gone.
        if running.sampler.as_ref().is_none_or(JoinHandle::is_finished) {
            running.sampler = Some(runtime.spawn(run()));
        }
    }

    /// Returns the log of the hub, and starts the hub if it does not run. `None` without a runtime,
    /// or after [`close`](Self::close).
    pub(super) fn hub<F>(&self, run: impl FnOnce(Writer) -> F) -> Option<Arc<Log>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::try_current().ok()?;
        let mut running = self.lock();
        if running.closed {
            return None;
        }
        if let Some(hub) = running.hub.as_ref().filter(|hub| !hub.task.is_finished()) {
            return Some(hub.log.clone());
        }
        let (log, writer) = Log::new();
        let task = runtime.spawn(run(writer)).abort_handle();
        running.hub = Some(Hub { log: log.clone(), task });
        Some(log)
    }

    /// Returns whether the hub ends, which `may_end` decides: then the next connection starts
    /// another one. A connection takes its seat before it asks for the hub.
    pub(super) fn end_hub_if(&self, may_end: impl FnOnce() -> bool) -> bool {
        let mut running = self.lock();
        let ends = may_end();
        if ends {
            running.hub = None;
        }
        ends
    }

    /// Ends the hub, and starts no other.
    pub(super) fn close(&self) {
        let hub = {
            let mut running = self.lock();
            running.closed = true;
            running.hub.take()
        };
        if let Some(hub) = hub {
            hub.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close();
        if let Some(sampler) = self.lock().sampler.take() {
            sampler.abort();
        }
    }
}
