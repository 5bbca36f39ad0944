//! How a rejection shows: the second of the three choices that make a circuit breaker.
//!
//! A [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) starts with [`Reject`]. Its methods choose
//! another.

mod fallback;
mod reject;
mod respond;

pub use fallback::{Fallback, FallbackReply};
pub use reject::{AtReadiness, InCall, Reject, Waiting, When};
pub(super) use respond::Protocol;
pub use respond::{DefaultBody, RejectionBody, Respond};

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::circuit::{Error, Rejected};

/// Decides what the caller gets when the circuit rejects a call.
///
/// `Req`, `Res` and `E` are the request, the response and the error of the inner service. The trait
/// is sealed: its implementors are [`Reject`], [`Respond`] and [`Fallback`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a rejected call of this service",
    note = "`.respond()` is for services of `http::Request` and `http::Response`",
    note = "the service in `.fallback(service)` is `Clone`, takes the same request, and returns an \
            `http::Response` with the same body, or the same error"
)]
pub trait OnRejected<Req, Res, E>: sealed::Sealed {
    /// The error of the service.
    type Error;

    /// What becomes of the errors of the inner service.
    type Errors: Errors<E, Error = Self::Error>;

    /// The future that answers a rejected call.
    type Reply: Future<Output = Result<Res, Self::Error>>;

    /// Returns what `poll_ready` answers while the circuit rejects calls. `rejected` returns the
    /// rejection, for an answer that contains it.
    #[inline]
    fn readiness(_: impl FnOnce() -> Option<Rejected>) -> Readiness<Self::Error> {
        Readiness::Ready
    }

    /// Answers a rejected call.
    fn reply(&self, rejected: Rejected, request: Req) -> Self::Reply;
}

/// Converts the errors of the inner service to those of the circuit breaker.
pub trait Errors<E>: sealed::Sealed {
    /// The error of the circuit breaker.
    type Error;

    /// Converts the error of a poll.
    ///
    /// It takes the whole poll, so that [`Unchanged`] does not move the response.
    fn poll_inner<T>(polled: Poll<Result<T, E>>) -> Poll<Result<T, Self::Error>>;
}

/// Keeps the errors of the inner service: a rejection is a response.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged;

impl<E> Errors<E> for Unchanged {
    type Error = E;

    #[inline]
    fn poll_inner<T>(polled: Poll<Result<T, E>>) -> Poll<Result<T, E>> {
        polled
    }
}

/// Makes errors of the inner service an [`Error::Inner`]: a rejection is an error too.
#[derive(Clone, Copy, Debug)]
pub struct Wrapped;

impl<E> Errors<E> for Wrapped {
    type Error = Error<E>;

    #[inline]
    fn poll_inner<T>(polled: Poll<Result<T, E>>) -> Poll<Result<T, Error<E>>> {
        polled.map_err(Error::Inner)
    }
}

impl sealed::Sealed for Unchanged {}
impl sealed::Sealed for Wrapped {}

/// What `poll_ready` answers while the circuit rejects calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Readiness<E> {
    /// It is ready, and the call returns the [reply](OnRejected::reply).
    Ready,
    /// It fails with this error.
    Failed(E),
    /// It is pending until the circuit may admit a call.
    Pending,
}

/// A reply that is ready at the first poll.
///
/// It is not a `Ready<O>`, which would have room for a whole response where there is only a
/// rejection, and would be `Send` and `Sync` only if the error is, which it never holds.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Replied<T, O>(Option<T>, PhantomData<fn() -> O>);

/// A value that is the output of a future `O`.
pub trait Known<O> {
    /// Converts the value.
    fn output(self) -> O;
}

impl<T, O> Unpin for Replied<T, O> {}

impl<T: Known<O>, O> Future for Replied<T, O> {
    type Output = O;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<O> {
        Poll::Ready(self.0.take().expect("not polled after it was ready").output())
    }
}

/// The implementors of [`OnRejected`] that can be combined with
/// [`keyed_by`](crate::CircuitBreakerLayer::keyed_by): all except that of
/// [`wait_while_open`](crate::CircuitBreakerLayer::wait_while_open).
#[diagnostic::on_unimplemented(
    message = "`.keyed_by(..)` cannot be combined with `{Self}`",
    label = "waits for one circuit, and there is one for each key",
    note = "the key is known only when there is a request, so `poll_ready` has nothing to wait for: \
            remove `.wait_while_open()`",
    note = "`.keyed_by(..)` can be combined with `.respond()`, `.fallback(..)`, `.observe_body()`, or \
            none of these: `.respond().keyed_by(Authority)`"
)]
pub trait WithKeys: sealed::Sealed {}

impl WithKeys for Reject<AtReadiness> {}
impl WithKeys for Reject<InCall> {}
impl<F> WithKeys for Respond<F> {}
impl<F> WithKeys for Fallback<F> {}

pub(super) mod sealed {
    /// Only this crate says how a rejection can show.
    pub trait Sealed {}
}
