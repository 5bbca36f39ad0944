//! An inner service that does what the test says, and counts.

use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tower::Service;

/// What the upstream does with the next calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Succeed,
    Fail,
    Hang,
    PanicInCall,
    PanicInFuture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// A service that may only be called when it is ready, and panics otherwise.
#[derive(Debug)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    ready: bool,
}

#[derive(Debug)]
struct Shared {
    does: Mutex<Does>,
    pending: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    polls: AtomicUsize,
    calls: AtomicUsize,
}

impl Upstream {
    pub(crate) fn new(does: Does) -> Self {
        let shared = Shared {
            does: Mutex::new(does),
            pending: AtomicBool::new(false),
            wakers: Mutex::default(),
            polls: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), ready: false }
    }

    pub(crate) fn now(&self, does: Does) {
        *self.shared.does.lock().unwrap() = does;
    }

    pub(crate) fn set_pending(&self, pending: bool) {
        self.shared.pending.store(pending, Ordering::SeqCst);
        if !pending {
            self.shared.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
        }
    }

    /// How often `poll_ready` was called.
    pub(crate) fn polls(&self) -> usize {
        self.shared.polls.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }
}

impl Clone for Upstream {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), ready: false }
    }
}

impl Service<()> for Upstream {
    type Response = ();
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send + Sync>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.shared.polls.fetch_add(1, Ordering::SeqCst);
        if self.shared.pending.load(Ordering::SeqCst) {
            self.shared.wakers.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let does = *self.shared.does.lock().unwrap();
        match does {
            Does::Succeed => Box::pin(ready(Ok(()))),
            Does::Fail => Box::pin(ready(Err(Failed))),
            Does::Hang => Box::pin(pending()),
            Does::PanicInFuture => Box::pin(async { panic!("as asked, in the future") }),
            Does::PanicInCall => panic!("as asked, in call"),
        }
    }
}
