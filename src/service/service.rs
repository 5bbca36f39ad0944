//! The service: asks the circuit, then the inner service.

use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{Classified, ResponseFuture};
use super::layer::Reject;
use crate::circuit::{Attempt, Circuit, Error, Grant, OpenCircuit, Permit};
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
#[derive(Debug)]
pub struct CircuitBreaker<S, C = HttpStatus, M = Reject> {
    inner: S,
    circuit: Circuit,
    classifier: C,
    mode: M,
    slot: Slot,
}

/// What `poll_ready` has found out for the next `call`.
#[derive(Debug)]
enum Slot {
    Empty,
    /// The inner service is ready, and the circuit has granted the call.
    Admitted(Grant),
    /// The next call is to be rejected; the inner service may not be ready.
    Rejected(OpenCircuit),
}

impl<S, C, M> CircuitBreaker<S, C, M> {
    pub(super) fn new(inner: S, circuit: Circuit, classifier: C, mode: M) -> Self {
        Self { inner, circuit, classifier, mode, slot: Slot::Empty }
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

    /// Readies the inner service and reserves a call, or returns why there is none to be had.
    #[inline]
    pub(super) fn poll_admit<R>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<(), OpenCircuit>, S::Error>>
    where
        S: Service<R>,
    {
        if let Slot::Admitted(grant) = self.slot {
            if self.circuit.holds(grant) {
                return Poll::Ready(Ok(Ok(())));
            }
            self.circuit.release(grant);
        }
        self.slot = Slot::Empty;

        // The circuit is asked first: while it is open the inner service must not be touched, or a
        // caller would queue behind the very thing that is broken.
        if let Err(open) = self.circuit.check() {
            return Poll::Ready(Ok(Err(open)));
        }
        ready!(self.inner.poll_ready(cx))?;

        // A probe is taken last. Taken sooner and kept while the inner service is pending, it would
        // be a probe that nobody is making.
        Poll::Ready(Ok(self.circuit.reserve().map(|grant| self.slot = Slot::Admitted(grant))))
    }

    /// Remembers that the next call is to be rejected.
    pub(super) fn reject_next(&mut self, open: OpenCircuit) {
        self.slot = Slot::Rejected(open);
    }

    /// Leave to call the inner service, if the circuit still gives it.
    #[inline]
    pub(super) fn admit(&mut self) -> Result<Permit, OpenCircuit> {
        match std::mem::replace(&mut self.slot, Slot::Empty) {
            Slot::Admitted(grant) => self.circuit.begin(grant),
            Slot::Rejected(open) => Err(open),
            Slot::Empty => self.circuit.try_acquire(),
        }
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
        let permit = self.admit();
        ResponseFuture::new(permit.map(|permit| self.attempt(permit, request)))
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
            slot: Slot::Empty,
        }
    }
}

impl<S, C, M> Drop for CircuitBreaker<S, C, M> {
    fn drop(&mut self) {
        if let Slot::Admitted(grant) = self.slot {
            self.circuit.release(grant);
        }
    }
}
