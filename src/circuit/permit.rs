//! Permission to make one call.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::engine::Engine;
use super::grant::Grant;
use crate::outcome::{FailureKind, Outcome};

/// Permission to make one call, from [`Circuit::try_acquire`](crate::Circuit::try_acquire) or
/// [`Circuit::acquire`](crate::Circuit::acquire).
///
/// Use it for calls that fit neither [`execute`](crate::Circuit::execute) nor a tower service:
/// acquire a permit, make the call, and [`settle`](Self::settle) its outcome.
///
/// ```
/// use tower_breaker::{Outcome, Store};
///
/// let mailer = Store::in_memory().circuit("mailer");
/// let permit = mailer.try_acquire()?;
/// let delivered = true; // deliver the mail
/// permit.settle(if delivered { Outcome::Success } else { Outcome::failure() });
/// # Ok::<(), tower_breaker::Rejected>(())
/// ```
///
/// # Dropping
///
/// A permit that is dropped counts as a cancelled call, by the
/// [rule](crate::policy::PolicyBuilder::cancelled) of the policy. If the thread is panicking, it
/// counts as a failure. In each case, a probe frees its slot.
///
/// A permit carries the generation that issued it. If the circuit has changed its state meanwhile,
/// the result changes nothing. The circuit of a key is not forgotten while a permit of it exists.
#[must_use = "a permit that is dropped counts as a cancelled call"]
#[derive(Debug)]
pub struct Permit {
    // No `CallGuard`: taking it out cost 10 ns more per permit.
    engine: &'static Engine,
    grant: Grant,
}

impl Permit {
    #[inline]
    pub(super) fn new(call: CallGuard) -> Self {
        let CallGuard { engine, grant } = call;
        std::mem::forget(call);
        if engine.is_of_a_key() {
            engine.stripes().handle_cloned();
        }
        Self { engine, grant }
    }

    /// Returns whether the call is a probe: one of the few that a half-open circuit lets through.
    ///
    /// ```
    /// use tower_breaker::Store;
    ///
    /// let mailer = Store::in_memory().circuit("mailer");
    /// assert!(!mailer.try_acquire()?.is_probe(), "it is closed");
    /// # Ok::<(), tower_breaker::Rejected>(())
    /// ```
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.grant.lease().is_some()
    }

    /// Records how the call ended.
    #[inline]
    pub fn settle(self, outcome: Outcome) {
        let Self { engine, grant } = self;
        std::mem::forget(self);
        engine.record(grant, outcome);
        uncount(engine);
    }

    /// Records how the call ended; and if it failed, what the failure was, as text for people.
    ///
    /// `describe` runs only for a failure, and about once a second or where the failure could open
    /// the circuit. Its text goes to logs, pages and the backend, in
    /// [`Transition::last_error`](crate::event::Transition::last_error): it must contain no secret.
    ///
    /// ```
    /// use tower_breaker::{Outcome, Store};
    ///
    /// let mailer = Store::in_memory().circuit("mailer");
    /// let permit = mailer.try_acquire()?;
    /// permit.settle_described(Outcome::failure(), || "421 too many connections".to_owned());
    /// let last = mailer.snapshot().last_error;
    /// assert_eq!(last.as_deref(), Some("421 too many connections"));
    /// # Ok::<(), tower_breaker::Rejected>(())
    /// ```
    pub fn settle_described(self, outcome: Outcome, describe: impl FnOnce() -> String) {
        if let Outcome::Failure { .. } = outcome
            && self.engine.wants_text(self.grant)
        {
            self.engine.describe(self.grant, || Some(describe()));
        }
        self.settle(outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        drop(CallGuard::new(self.engine, self.grant));
        uncount(self.engine);
    }
}

/// Ends the count of a permit.
#[inline]
fn uncount(engine: &Engine) {
    if engine.is_of_a_key() {
        engine.stripes().handle_dropped();
    }
}

/// An admitted call: records how it ended, also when it is dropped.
///
/// It is no handle. If the circuit must not be forgotten meanwhile, keep a
/// [`Circuit`](super::Circuit) beside it.
#[must_use = "dropped, it records a cancelled call"]
#[derive(Debug)]
pub struct CallGuard {
    engine: &'static Engine,
    grant: Grant,
}

impl CallGuard {
    #[inline]
    pub(super) fn new(engine: &'static Engine, grant: Grant) -> Self {
        Self { engine, grant }
    }

    /// Records how the call ended.
    #[inline]
    pub(crate) fn settle(self, outcome: Outcome) {
        let Self { engine, grant } = self;
        std::mem::forget(self);
        engine.record(grant, outcome);
    }

    /// Says how the call failed, if it failed.
    #[inline]
    pub(crate) fn failed_as(&mut self, kind: FailureKind) {
        self.grant = self.grant.failed_as(kind);
    }

    /// Says what the failure was, if the circuit wants to know: see [`Transition::last_error`].
    ///
    /// [`Transition::last_error`]: crate::event::Transition::last_error
    #[inline]
    pub(crate) fn described_as(&self, describe: impl FnOnce() -> Option<String>) {
        if self.engine.wants_text(self.grant) {
            self.engine.describe(self.grant, describe);
        }
    }

    /// Records that the call was abandoned. Like dropping, except that a panic of the thread is not
    /// the call's own.
    pub(crate) fn cancel(self) {
        let Self { engine, grant } = self;
        std::mem::forget(self);
        engine.cancel(grant);
    }

    /// Runs `f`, which is user code. If it panics, the call has failed.
    #[inline]
    pub(crate) fn guard<T>(self, f: impl FnOnce() -> T) -> (Self, T) {
        let guard = OnPanic { engine: self.engine, grant: self.grant };
        std::mem::forget(self);
        let value = f();
        let call = Self { engine: guard.engine, grant: guard.grant };
        std::mem::forget(guard);
        (call, value)
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.engine.record_panic(self.grant);
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
        self.engine.record_panic(self.grant);
    }
}

pin_project! {
    /// A call with its guard.
    #[derive(Debug)]
    pub(crate) struct Attempt<F> {
        #[pin]
        call: F,
        // Until the call has ended.
        guard: Option<CallGuard>,
    }

    impl<F> PinnedDrop for Attempt<F> {
        fn drop(this: Pin<&mut Self>) {
            // A panic of the call itself has been seen by the guard. One elsewhere, for which
            // this call is dropped too, says nothing about its upstream.
            if let Some(guard) = this.project().guard.take() {
                guard.cancel();
            }
        }
    }
}

impl<F: Future> Attempt<F> {
    #[inline]
    pub(crate) fn new(call: F, guard: CallGuard) -> Self {
        Self { call, guard: Some(guard) }
    }

    /// Polls the call. Once it is ready, `classify` judges the output, and the guard is the
    /// caller's.
    #[inline]
    pub(crate) fn poll_end(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        classify: impl FnOnce(&F::Output) -> Outcome,
    ) -> Poll<(CallGuard, Outcome, F::Output)> {
        let this = self.project();
        let guard = this.guard.take().expect("not polled after it was ready");
        let (guard, output) =
            guard.guard(|| this.call.poll(cx).map(|output| (classify(&output), output)));
        match output {
            Poll::Ready((outcome, output)) => Poll::Ready((guard, outcome, output)),
            Poll::Pending => {
                *this.guard = Some(guard);
                Poll::Pending
            }
        }
    }
}
