//! The service: asks the circuit, then the inner service.

use std::fmt;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{Classified, ResponseFuture};
use super::layer::Reject;
use crate::circuit::{Attempt, Circuit, Denial, Error, Grant, Held, OpenCircuit, Permit, Wait};
use crate::classify::{Classify, HttpStatus};

/// A service with a circuit in front of it. Made by a
/// [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
///
/// # Cancellation
///
/// A response future that is dropped before it is done was cancelled: it counts as the policy
/// [says](crate::PolicyBuilder::cancelled), and a probe's place is free again.
///
/// # Panics
///
/// If the inner service panics, in `call` or in its future, that counts as a failure and is passed
/// on.
pub struct CircuitBreaker<S, C = HttpStatus, M = Reject> {
    inner: S,
    circuit: Circuit,
    classifier: C,
    mode: M,
    /// What `poll_ready` has got for the next `call`: the circuit's leave, and a ready inner
    /// service.
    reserved: Option<Grant>,
    /// Or the reason why the next call is to be rejected. The inner service may not be ready.
    rejected: Option<OpenCircuit>,
    /// What is waited for: an answer of the cluster's, or a change of the circuit.
    waiting: Option<Waiting>,
}

enum Waiting {
    /// For this, and then the circuit is asked again.
    Change(Wait<()>),
    Lease(Wait<Option<Held>>),
}

/// The inner service's own trouble; or leave to call it, or why not.
type PollAdmit<E> = Poll<Result<Result<(), OpenCircuit>, E>>;

impl<S, C, M> CircuitBreaker<S, C, M> {
    pub(super) fn new(inner: S, circuit: Circuit, classifier: C, mode: M) -> Self {
        Self { inner, circuit, classifier, mode, reserved: None, rejected: None, waiting: None }
    }

    /// The circuit.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// The inner service.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    pub(super) fn mode(&self) -> &M {
        &self.mode
    }

    /// Readies the inner service and reserves a call, or says why there is none to be had.
    #[inline]
    pub(super) fn poll_admit<R>(&mut self, cx: &mut Context<'_>) -> PollAdmit<S::Error>
    where
        S: Service<R>,
    {
        if let Some(grant) = self.reserved {
            if self.circuit.holds(grant) {
                return Poll::Ready(Ok(Ok(())));
            }
            self.circuit.release(grant);
            self.reserved = None;
        }
        self.rejected = None;
        if self.waiting.is_some() {
            return self.poll_cluster(cx);
        }

        // The circuit is asked first: while it is open the inner service must not be touched, or a
        // caller would queue behind the very thing that is broken.
        match self.circuit.check() {
            Ok(()) => {}
            Err(denial) => return self.poll_denied(denial, cx),
        }
        ready!(self.inner.poll_ready(cx))?;

        // A probe is taken last. Taken sooner and kept while the inner service is pending, it would
        // be a probe that nobody is making.
        self.reserved = self.circuit.pass();
        if self.reserved.is_some() {
            return Poll::Ready(Ok(Ok(())));
        }
        match self.circuit.reserve() {
            Ok(grant) => Poll::Ready(Ok(self.hold(grant))),
            Err(denial) => self.poll_denied(denial, cx),
        }
    }

    /// Rejects, or waits for what the cluster has to say. The waits are bounded by who answers them.
    #[cold]
    fn poll_denied<R>(&mut self, denial: Denial, cx: &mut Context<'_>) -> PollAdmit<S::Error>
    where
        S: Service<R>,
    {
        self.waiting = match denial {
            Denial::Open(open) => return Poll::Ready(Ok(Err(open))),
            Denial::Unknown(known) => Some(Waiting::Change(known)),
            Denial::Ask(lease) => Some(Waiting::Lease(lease)),
        };
        self.poll_cluster(cx)
    }

    #[cold]
    fn poll_cluster<R>(&mut self, cx: &mut Context<'_>) -> PollAdmit<S::Error>
    where
        S: Service<R>,
    {
        match &mut self.waiting {
            Some(Waiting::Change(change)) => {
                ready!(change.as_mut().poll(cx));
                self.waiting = None;
                self.poll_admit(cx)
            }
            // The inner service is ready: that has been seen to before the ledger was asked.
            Some(Waiting::Lease(lease)) => {
                let granted = ready!(lease.as_mut().poll(cx));
                self.waiting = None;
                let granted =
                    granted.and_then(Held::take).map_or_else(|| self.circuit.reserve_at_once(), Ok);
                Poll::Ready(Ok(granted.and_then(|grant| self.hold(grant))))
            }
            None => unreachable!("asked only while waiting"),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "an answer of `poll_admit`")]
    fn hold(&mut self, grant: Grant) -> Result<(), OpenCircuit> {
        self.reserved = Some(grant);
        Ok(())
    }

    /// Lets the next `poll_admit` wait until it may be of use.
    pub(super) fn wait_for_change(&mut self) {
        self.waiting = Some(Waiting::Change(self.circuit.changed()));
    }

    /// Remembers that the next call is to be rejected.
    pub(super) fn reject_next(&mut self, open: OpenCircuit) {
        self.rejected = Some(open);
    }

    /// Leave to call the inner service, if the circuit still gives it; `rejected` says why not.
    #[inline]
    pub(super) fn admit(&mut self) -> Option<Permit> {
        let granted = self.reserved.and_then(|grant| self.circuit.pass_on(grant));
        if granted.is_some() {
            self.reserved = None;
            return granted;
        }
        self.admit_slowly()
    }

    #[cold]
    fn admit_slowly(&mut self) -> Option<Permit> {
        if self.rejected.is_some() {
            return None;
        }
        let permit = match self.reserved.take() {
            Some(grant) => self.circuit.begin(grant),
            None => self.circuit.try_acquire(),
        };
        permit.map_err(|open| self.rejected = Some(open)).ok()
    }

    /// Why the call at hand is rejected.
    pub(super) fn rejection(&mut self) -> Option<OpenCircuit> {
        self.rejected.take()
    }

    /// Calls the inner service.
    #[inline]
    pub(super) fn attempt<R>(&mut self, permit: Permit, request: R) -> Classified<S::Future, C>
    where
        S: Service<R>,
        C: Clone,
    {
        let (permit, call) = permit.guard(|| self.inner.call(request));
        Classified::new(Attempt::new(call, permit), self.classifier.clone())
    }
}

impl<S, C, R> Service<R> for CircuitBreaker<S, C, Reject>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match ready!(self.poll_admit(cx)).map_err(Error::Inner)? {
            Err(open) if self.mode.in_call => {
                self.reject_next(open);
                Poll::Ready(Ok(()))
            }
            answer => Poll::Ready(answer.map_err(Error::Open)),
        }
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        match self.admit() {
            Some(permit) => ResponseFuture::calling(self.attempt(permit, request)),
            None => ResponseFuture::rejected(self.rejection()),
        }
    }
}

impl<S: Clone, C: Clone, M: Clone> Clone for CircuitBreaker<S, C, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            circuit: self.circuit.clone(),
            classifier: self.classifier.clone(),
            mode: self.mode.clone(),
            // Not the reservation: it is one, and the clone's inner service is not ready.
            reserved: None,
            rejected: None,
            waiting: None,
        }
    }
}

impl<S: fmt::Debug, C: fmt::Debug, M: fmt::Debug> fmt::Debug for CircuitBreaker<S, C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("circuit", &self.circuit)
            .field("classifier", &self.classifier)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl<S, C, M> Drop for CircuitBreaker<S, C, M> {
    fn drop(&mut self) {
        if let Some(grant) = self.reserved {
            self.circuit.release(grant);
        }
    }
}
