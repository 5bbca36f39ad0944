//! Leave to make one call.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::engine::Engine;
use super::grant::Grant;
use crate::outcome::Outcome;

/// Leave to make one call, from [`Circuit::try_acquire`](crate::Circuit::try_acquire).
///
/// For calls that fit neither [`execute`](crate::Circuit::execute) nor a tower service: acquire,
/// make the call, [`settle`](Self::settle) what came of it.
///
/// ```
/// use tower_breaker::{Outcome, Store};
///
/// let mailer = Store::in_memory().circuit("mailer");
/// let permit = mailer.try_acquire()?;
/// let delivered = true; // deliver the mail
/// permit.settle(if delivered { Outcome::Success } else { Outcome::failure() });
/// # Ok::<(), tower_breaker::OpenCircuit>(())
/// ```
///
/// # Dropping
///
/// A permit that is dropped was cancelled, and counts as the policy
/// [says](crate::PolicyBuilder::cancelled); if the thread is panicking, it counts as a failure. A
/// probe's place is free again in any case.
///
/// A permit bears the generation that issued it. If the circuit has changed its state meanwhile,
/// what comes of the call changes nothing.
#[must_use = "a permit that is dropped counts as a cancelled call"]
#[derive(Debug)]
pub struct Permit {
    engine: &'static Engine,
    grant: Grant,
}

impl Permit {
    #[inline]
    pub(crate) fn new(engine: &'static Engine, grant: Grant) -> Self {
        Self { engine, grant }
    }

    /// Records how the call ended.
    #[inline]
    pub fn settle(self, outcome: Outcome) {
        let Self { engine, grant } = self;
        std::mem::forget(self);
        engine.record(grant, outcome);
    }

    /// Records that nobody waits for the call any more. As dropping, but a panic meanwhile is not the
    /// call's own.
    pub(crate) fn cancel(self) {
        let Self { engine, grant } = self;
        std::mem::forget(self);
        engine.cancel(grant);
    }

    /// Runs `f`, which is code of others; should it panic, the call has failed.
    #[inline]
    pub(crate) fn guard<T>(self, f: impl FnOnce() -> T) -> (Self, T) {
        let guard = OnPanic { engine: self.engine, grant: self.grant };
        std::mem::forget(self);
        let value = f();
        let permit = Self { engine: guard.engine, grant: guard.grant };
        std::mem::forget(guard);
        (permit, value)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.engine.record(self.grant, Outcome::failure());
        } else {
            self.engine.cancel(self.grant);
        }
    }
}

struct OnPanic {
    engine: &'static Engine,
    grant: Grant,
}

impl Drop for OnPanic {
    fn drop(&mut self) {
        self.engine.record(self.grant, Outcome::failure());
    }
}

pin_project! {
    /// A call with its permit.
    #[derive(Debug)]
    pub(crate) struct Attempt<F> {
        #[pin]
        call: F,
        // Until the call has ended.
        permit: Option<Permit>,
    }

    impl<F> PinnedDrop for Attempt<F> {
        fn drop(this: Pin<&mut Self>) {
            // A panic of the call itself has been seen in `poll_settle`. One elsewhere, for which
            // this call is dropped too, says nothing about its upstream.
            if let Some(permit) = this.project().permit.take() {
                permit.cancel();
            }
        }
    }
}

impl<F: Future> Attempt<F> {
    #[inline]
    pub(crate) fn new(call: F, permit: Permit) -> Self {
        Self { call, permit: Some(permit) }
    }

    /// Polls the call; once it is ready, settles its permit with what `classify` says.
    #[inline]
    pub(crate) fn poll_settle(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        classify: impl FnOnce(&F::Output) -> Outcome,
    ) -> Poll<F::Output> {
        let ended = self.poll_end(cx, classify);
        ended.map(|(permit, outcome, output)| {
            permit.settle(outcome);
            output
        })
    }

    /// Polls the call; once it is ready, its permit is the caller's.
    #[inline]
    pub(crate) fn poll_end(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        classify: impl FnOnce(&F::Output) -> Outcome,
    ) -> Poll<(Permit, Outcome, F::Output)> {
        let this = self.project();
        let permit = this.permit.take().expect("not polled after it was ready");
        let (permit, output) =
            permit.guard(|| this.call.poll(cx).map(|output| (classify(&output), output)));
        match output {
            Poll::Ready((outcome, output)) => Poll::Ready((permit, outcome, output)),
            Poll::Pending => {
                *this.permit = Some(permit);
                Poll::Pending
            }
        }
    }
}
