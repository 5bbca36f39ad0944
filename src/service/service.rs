//! The service: asks the circuit, then the inner service.

use std::fmt;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{Classified, ResponseFuture};
use super::layer::Reject;
use crate::circuit::{
    Attempt, CallGuard, Circuit, Denial, Error, Grant, Held, Refusal, Rejected, Rejection, Wait,
};
use crate::classify::{Classify, HttpStatus};

/// A service with a circuit in front of it. Made by a
/// [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
///
/// # Cancellation
///
/// A response future that is dropped before it is done was cancelled: it counts as the policy
/// [says](crate::policy::PolicyBuilder::cancelled), and a probe's place is free again.
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
    rejected: Option<Rejection>,
    /// What is waited for: an answer of the cluster's, or a change of the circuit.
    waiting: Option<Waiting>,
}

enum Waiting {
    /// For this, and then the circuit is asked again.
    Change(Wait<()>),
    Lease(Wait<Option<Held>>),
}

/// Whether there is leave to make a call; or the inner service's own trouble.
type PollAdmit<E> = Poll<Result<bool, E>>;

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

    /// Readies the inner service and reserves a call. Where there is none to be had, `rejected` says
    /// why.
    #[inline]
    pub(super) fn poll_admit<R>(&mut self, cx: &mut Context<'_>) -> PollAdmit<S::Error>
    where
        S: Service<R>,
    {
        if let Some(grant) = self.reserved {
            if self.circuit.holds(grant) {
                return Poll::Ready(Ok(true));
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
            Err(Refusal::Rejected(rejection)) => return self.reject(rejection),
            Err(refusal) => return self.poll_denied(refusal, cx),
        }
        ready!(self.inner.poll_ready(cx))?;

        // A probe is taken last. Taken sooner and kept while the inner service is pending, it would
        // be a probe that nobody is making.
        self.reserved = self.circuit.pass();
        if self.reserved.is_some() {
            return Poll::Ready(Ok(true));
        }
        match self.circuit.reserve() {
            Ok(grant) => self.hold(grant),
            Err(refusal) => self.poll_denied(refusal, cx),
        }
    }

    /// What [`Reject`] answers: an error, unless that is to come `in_call`.
    #[inline]
    pub(super) fn poll_leave<R>(
        &mut self,
        cx: &mut Context<'_>,
        in_call: bool,
    ) -> Poll<Result<(), Error<S::Error>>>
    where
        S: Service<R>,
    {
        if ready!(self.poll_admit(cx)).map_err(Error::Inner)? || in_call {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.rejection().map_or(Ok(()), |open| Err(Error::Rejected(open))))
    }

    /// Rejects, or waits for what the cluster has to say. The waits are bounded by who answers them.
    #[cold]
    fn poll_denied<R>(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> PollAdmit<S::Error>
    where
        S: Service<R>,
    {
        self.waiting = match self.circuit.denied(refusal) {
            Denial::Rejected(rejection) => return self.reject(rejection),
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
        // What is waited for is taken out first: a future that panics, as a timer outside of a runtime
        // does, must not be polled again. The next poll asks the circuit anew.
        match self.waiting.take() {
            Some(Waiting::Change(mut change)) => {
                if change.as_mut().poll(cx).is_pending() {
                    self.waiting = Some(Waiting::Change(change));
                    return Poll::Pending;
                }
                self.poll_admit(cx)
            }
            // The inner service is ready: that has been seen to before the ledger was asked.
            Some(Waiting::Lease(mut lease)) => {
                let Poll::Ready(granted) = lease.as_mut().poll(cx) else {
                    self.waiting = Some(Waiting::Lease(lease));
                    return Poll::Pending;
                };
                let granted =
                    granted.and_then(Held::take).map_or_else(|| self.circuit.reserve_at_once(), Ok);
                match granted {
                    Ok(grant) => self.hold(grant),
                    Err(rejection) => self.reject(rejection),
                }
            }
            None => unreachable!("asked only while waiting"),
        }
    }

    fn hold<E>(&mut self, grant: Grant) -> PollAdmit<E> {
        self.reserved = Some(grant);
        Poll::Ready(Ok(true))
    }

    #[inline]
    fn reject<E>(&mut self, rejection: Rejection) -> PollAdmit<E> {
        self.rejected = Some(rejection);
        Poll::Ready(Ok(false))
    }

    /// Lets the next `poll_admit` wait until it may be of use.
    pub(super) fn wait_for_change(&mut self) {
        self.rejected = None;
        self.waiting = Some(Waiting::Change(self.circuit.changed()));
    }

    /// Leave to call the inner service, if the circuit still gives it; or why not.
    #[inline]
    pub(super) fn admit(&mut self) -> Result<CallGuard, Rejected> {
        if let Some(permit) = self.reserved.and_then(|grant| self.circuit.pass_on(grant)) {
            self.reserved = None;
            return Ok(permit);
        }
        match self.rejection() {
            Some(open) => Err(open),
            None => self.admit_slowly(),
        }
    }

    #[cold]
    fn admit_slowly(&mut self) -> Result<CallGuard, Rejected> {
        let begun = match self.reserved.take() {
            Some(grant) => self.circuit.begin(grant),
            None => self.circuit.begin_at_once(),
        };
        begun.map_err(|rejection| self.circuit.open(rejection))
    }

    /// Why there was no leave. The next call is no longer rejected for it.
    #[inline]
    pub(super) fn rejection(&mut self) -> Option<Rejected> {
        self.rejected.take().map(|rejection| self.circuit.open(rejection))
    }

    /// Calls the inner service, if the circuit lets it.
    #[inline]
    pub(super) fn start<R>(&mut self, request: R) -> ResponseFuture<S::Future, C>
    where
        S: Service<R>,
        C: Clone,
    {
        match self.admit() {
            Ok(permit) => ResponseFuture::calling(self.attempt(permit, request)),
            Err(open) => ResponseFuture::rejected(open),
        }
    }

    /// Calls the inner service.
    #[inline]
    pub(super) fn attempt<R>(&mut self, permit: CallGuard, request: R) -> Classified<S::Future, C>
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
        let in_call = self.mode.in_call;
        self.poll_leave(cx, in_call)
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        self.start(request)
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
