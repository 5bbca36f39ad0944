//! The service: asks the circuit, then the inner service.

use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{Call, ResponseFuture};
use super::macros::inner_accessors;
use super::on_rejected::{Errors, OnRejected, Readiness, Reject};
use super::until::{Until, UntilHead};
use crate::circuit::{
    CallGuard, Circuit, Countdown, Grant, Held, Refusal, Rejected, Rejection, Wait,
};
use crate::classify::{Classify, HttpStatus};
use crate::sync::Unclaimed;

/// A service whose calls must be admitted by a circuit. A
/// [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) makes it.
///
/// `C` classifies results, `M` decides [how a rejection shows](crate::service::on_rejected), and
/// `U` [when a call ends](crate::service::until).
///
/// # Cancellation
///
/// Dropping the response future before it completes cancels the call. A cancelled call counts as
/// the policy [says](crate::policy::PolicyBuilder::cancelled), and frees its probe slot.
///
/// # Panics
///
/// If the inner service panics, in `call` or in its future, the circuit counts a failure and the
/// panic continues.
pub struct CircuitBreaker<S, C = HttpStatus, M = Reject, U = UntilHead> {
    inner: S,
    reservation: Reservation,
    classifier: C,
    on_rejected: M,
    until: PhantomData<U>,
    /// Why the next `call` is rejected. The inner service may not be ready.
    rejected: Option<Rejection>,
    /// What `poll_ready` waits for.
    waiting: Option<Waiting>,
}

/// The circuit, and the grant that `poll_ready` has got for the next `call`, if it has one. The
/// inner service is then ready.
struct Reservation {
    circuit: Circuit,
    grant: Option<Grant>,
    countdown: Countdown,
}

impl Reservation {
    fn release(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.circuit.release(grant);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

enum Waiting {
    /// A change of the circuit; then the circuit is asked again.
    Change(Wait<()>),
    /// The answer of the cluster.
    Lease(Wait<Option<Held>>),
}

/// Whether a call is reserved; or the error of the inner service.
type PollReserve<E> = Poll<Result<bool, E>>;

impl<S, C, M, U> CircuitBreaker<S, C, M, U> {
    pub(super) fn new(inner: S, circuit: Circuit, classifier: C, on_rejected: M) -> Self {
        Self {
            inner,
            reservation: Reservation { circuit, grant: None, countdown: Countdown::default() },
            classifier,
            on_rejected,
            until: PhantomData,
            rejected: None,
            waiting: None,
        }
    }

    /// Returns the circuit.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.reservation.circuit
    }

    inner_accessors!();

    /// Readies the inner service and reserves a call. If it reserves none, `rejected` says why.
    #[inline]
    fn poll_reserve<R>(&mut self, cx: &mut Context<'_>) -> PollReserve<S::Error>
    where
        S: Service<R>,
    {
        if let Some(grant) = self.reservation.grant {
            if self.circuit().holds(grant) {
                return Poll::Ready(Ok(true));
            }
            self.reservation.release();
        }
        self.rejected = None;
        if self.waiting.is_some() {
            return self.poll_waiting(cx);
        }
        // The circuit is asked first: while it is open the inner service must not be touched, or a
        // caller would queue behind the very thing that is broken.
        match self.circuit().check() {
            Ok(()) => {}
            Err(Refusal::Rejected(rejection)) => return self.reject(rejection),
            Err(refusal) => return self.poll_refused(refusal, cx),
        }
        ready!(self.inner.poll_ready(cx))?;
        // A probe slot is taken last. Taken sooner, it would be held while the inner service is
        // pending, by a probe that is not made.
        match self.circuit().reserve() {
            Ok(grant) => self.hold(grant),
            Err(refusal) => self.poll_refused(refusal, cx),
        }
    }

    /// Rejects, or waits for the cluster. The backend's side bounds the wait.
    #[cold]
    fn poll_refused<R>(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> PollReserve<S::Error>
    where
        S: Service<R>,
    {
        self.waiting = Some(match refusal {
            Refusal::Rejected(rejection) => return self.reject(rejection),
            Refusal::Unknown(link) => Waiting::Change(link.known()),
            Refusal::NeedsLease(link) => {
                Waiting::Lease(link.ask(self.circuit().clone(), Unclaimed::GiveBack))
            }
        });
        self.poll_waiting(cx)
    }

    #[cold]
    fn poll_waiting<R>(&mut self, cx: &mut Context<'_>) -> PollReserve<S::Error>
    where
        S: Service<R>,
    {
        // Taken out first: a future that panics, as a timer outside of a runtime does, must not be
        // polled again. The next poll asks the circuit anew.
        match self.waiting.take() {
            Some(Waiting::Change(mut change)) => {
                if change.as_mut().poll(cx).is_pending() {
                    self.waiting = Some(Waiting::Change(change));
                    return Poll::Pending;
                }
                self.poll_reserve(cx)
            }
            // The inner service is ready: it was readied before the cluster was asked.
            Some(Waiting::Lease(mut lease)) => {
                let Poll::Ready(granted) = lease.as_mut().poll(cx) else {
                    self.waiting = Some(Waiting::Lease(lease));
                    return Poll::Pending;
                };
                let granted = granted.and_then(Held::take).map_or_else(
                    || {
                        self.circuit()
                            .reserve()
                            .map_err(|refusal| self.circuit().rejection(&refusal))
                    },
                    Ok,
                );
                match granted {
                    Ok(grant) => self.hold(grant),
                    Err(rejection) => self.reject(rejection),
                }
            }
            None => unreachable!("polled only while waiting"),
        }
    }

    #[inline]
    fn hold<E>(&mut self, grant: Grant) -> PollReserve<E> {
        self.reservation.grant = Some(grant);
        Poll::Ready(Ok(true))
    }

    #[inline]
    fn reject<E>(&mut self, rejection: Rejection) -> PollReserve<E> {
        self.rejected = Some(rejection);
        Poll::Ready(Ok(false))
    }

    /// Admits the next call, by what `poll_ready` has found.
    #[inline]
    fn admit(&mut self) -> Result<CallGuard, Rejected> {
        if let Some(grant) = self.reservation.grant.take() {
            let Reservation { circuit, countdown, .. } = &mut self.reservation;
            let sample = circuit.samples_next(countdown);
            return self.circuit().resume(grant, sample).map_err(|refusal| self.refused(&refusal));
        }
        match self.take_rejected() {
            Some(rejected) => Err(rejected),
            None => self.admit_unready(),
        }
    }

    #[inline]
    fn take_rejected(&mut self) -> Option<Rejected> {
        self.rejected.take().map(|rejection| self.circuit().rejected(rejection))
    }

    /// The caller has not readied the service.
    #[cold]
    fn admit_unready(&self) -> Result<CallGuard, Rejected> {
        self.circuit().try_enter()
    }

    #[cold]
    fn refused(&self, refusal: &Refusal) -> Rejected {
        self.circuit().rejected(self.circuit().rejection(refusal))
    }
}

impl<S, C, M, U, R> Service<R> for CircuitBreaker<S, C, M, U>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error> + Clone,
    M: OnRejected<R, S::Response, S::Error>,
    U: Until<R, S::Response>,
{
    type Response = U::Response;
    type Error = M::Error;
    type Future = ResponseFuture<S::Future, C, M::Reply, U, M::Errors>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        while !ready!(M::Errors::poll_inner(self.poll_reserve(cx)))? {
            match M::readiness(|| self.take_rejected()) {
                Readiness::Ready => break,
                Readiness::Failed(error) => return Poll::Ready(Err(error)),
                Readiness::Pending => {
                    self.waiting = Some(Waiting::Change(self.circuit().changed()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        match self.admit() {
            Ok(guard) => {
                let classifier = self.classifier.clone();
                ResponseFuture::calling(Call::new(&mut self.inner, request, guard, classifier))
            }
            Err(rejected) => ResponseFuture::replying(self.on_rejected.reply(rejected, request)),
        }
    }
}

impl<S: Clone, C: Clone, M: Clone, U> Clone for CircuitBreaker<S, C, M, U> {
    fn clone(&self) -> Self {
        // Not the reservation: it is one, and the clone's inner service is not ready.
        let circuit = self.circuit().clone();
        Self::new(self.inner.clone(), circuit, self.classifier.clone(), self.on_rejected.clone())
    }
}

impl<S: fmt::Debug, C: fmt::Debug, M: fmt::Debug, U> fmt::Debug for CircuitBreaker<S, C, M, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("circuit", self.circuit())
            .field("classifier", &self.classifier)
            .field("on_rejected", &self.on_rejected)
            .finish_non_exhaustive()
    }
}
