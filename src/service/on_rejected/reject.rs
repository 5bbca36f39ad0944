//! A rejection as an error, at readiness or of the call.

use std::marker::PhantomData;

use super::sealed::Sealed;
use super::{Known, OnRejected, Readiness, Replied, Wrapped};
use crate::circuit::{Error, Rejected};

/// Shows a rejection as an [`Error::Rejected`]. `W` says when.
#[derive(Clone, Copy, Debug)]
pub struct Reject<W = AtReadiness>(PhantomData<W>);

impl<W> Reject<W> {
    pub(in crate::service) const fn new() -> Self {
        Self(PhantomData)
    }
}

/// Says when a [`Reject`] returns its error: from `poll_ready`, or from the response future.
pub trait When: Sealed {
    /// Returns what `poll_ready` answers while the circuit rejects calls. `rejected` returns the
    /// rejection, for an answer that contains it.
    #[inline]
    fn readiness<E>(_: impl FnOnce() -> Option<Rejected>) -> Readiness<Error<E>> {
        Readiness::Ready
    }
}

/// `poll_ready` fails: the choice of a plain layer.
#[derive(Clone, Copy, Debug)]
pub struct AtReadiness;

/// The response future fails: the choice of
/// [`reject_in_call`](crate::CircuitBreakerLayer::reject_in_call).
#[derive(Clone, Copy, Debug)]
pub struct InCall;

/// `poll_ready` waits: the choice of
/// [`wait_while_open`](crate::CircuitBreakerLayer::wait_while_open). Only a call that was ready
/// before the circuit opened fails.
#[derive(Clone, Copy, Debug)]
pub struct Waiting;

impl Sealed for AtReadiness {}
impl Sealed for InCall {}
impl Sealed for Waiting {}
impl<W> Sealed for Reject<W> {}

impl When for AtReadiness {
    #[inline]
    fn readiness<E>(rejected: impl FnOnce() -> Option<Rejected>) -> Readiness<Error<E>> {
        rejected().map_or(Readiness::Ready, |rejected| Readiness::Failed(Error::Rejected(rejected)))
    }
}

impl When for InCall {}

impl When for Waiting {
    #[inline]
    fn readiness<E>(_: impl FnOnce() -> Option<Rejected>) -> Readiness<Error<E>> {
        Readiness::Pending
    }
}

impl<W: When, Req, Res, E> OnRejected<Req, Res, E> for Reject<W> {
    type Error = Error<E>;
    type Errors = Wrapped;
    type Reply = Replied<Rejected, Result<Res, Error<E>>>;

    #[inline]
    fn readiness(rejected: impl FnOnce() -> Option<Rejected>) -> Readiness<Self::Error> {
        W::readiness(rejected)
    }

    #[inline]
    fn reply(&self, rejected: Rejected, _: Req) -> Self::Reply {
        Replied(Some(rejected), PhantomData)
    }
}

impl<Res, E> Known<Result<Res, Error<E>>> for Rejected {
    #[inline]
    fn output(self) -> Result<Res, Error<E>> {
        Err(Error::Rejected(self))
    }
}
