//! When a call ends: the third of the three choices that make a circuit breaker.

use std::task::Poll;

use ::http::{Request, Response};

use super::body::{Asked, ObservedBody};
use crate::circuit::{CallGuard, Circuit};
use crate::outcome::Outcome;

/// Decides when a call ends, and with that when the circuit gets its outcome.
///
/// `Req` and `Res` are the request and the response of the inner service. The trait is sealed: its
/// implementors are [`UntilHead`] and [`UntilBody`]. Each call has its own value.
#[diagnostic::on_unimplemented(
    message = "`.observe_body()` cannot judge `{Res}`",
    note = "`.observe_body()` is for services of `http::Request` and `http::Response`"
)]
pub trait Until<Req, Res>: Ends<Res> {
    /// Returns the value for a call with this request.
    fn begin(request: &Req) -> Self;
}

/// The part of [`Until`] that the response decides.
pub trait Ends<Res>: sealed::Sealed + Copy {
    /// The response of the service.
    type Response;

    /// What is left of a call for the response to end: nothing, or its guard.
    #[doc(hidden)]
    type Kept;

    /// Ends a call whose future is ready, or keeps it.
    #[doc(hidden)]
    fn end(call: CallGuard, outcome: Outcome) -> Self::Kept;

    /// Gives the response what was kept of the call.
    #[doc(hidden)]
    fn finish<E>(self, result: Result<Res, E>, kept: Self::Kept) -> Result<Self::Response, E>;

    /// Lets a response that ends its call later hold the circuit of a key until then.
    #[doc(hidden)]
    fn hold(response: &mut Self::Response, circuit: &Circuit);

    /// Converts the response of a poll that no circuit counts.
    fn uncounted<E>(polled: Poll<Result<Res, E>>) -> Poll<Result<Self::Response, E>>;
}

/// A call ends when the inner service's future does, with the head of an HTTP response: the choice
/// of a plain layer.
#[derive(Clone, Copy, Debug)]
pub struct UntilHead;

/// A call ends when the body of its HTTP response does: the choice of
/// [`observe_body`](crate::CircuitBreakerLayer::observe_body).
#[derive(Clone, Copy, Debug)]
pub struct UntilBody(Asked);

impl<Req, Res> Until<Req, Res> for UntilHead {
    #[inline]
    fn begin(_: &Req) -> Self {
        Self
    }
}

impl<Res> Ends<Res> for UntilHead {
    type Response = Res;
    type Kept = ();

    #[inline]
    fn end(call: CallGuard, outcome: Outcome) {
        call.settle(outcome);
    }

    #[inline]
    fn finish<E>(self, result: Result<Res, E>, (): ()) -> Result<Res, E> {
        result
    }

    fn hold(_: &mut Res, _: &Circuit) {}

    #[inline]
    fn uncounted<E>(polled: Poll<Result<Res, E>>) -> Poll<Result<Res, E>> {
        polled
    }
}

impl<Req, Res: http_body::Body> Until<Request<Req>, Response<Res>> for UntilBody {
    fn begin(request: &Request<Req>) -> Self {
        Self(Asked::of(request))
    }
}

impl<Res: http_body::Body> Ends<Response<Res>> for UntilBody {
    type Response = Response<ObservedBody<Res>>;
    type Kept = Option<CallGuard>;

    fn end(call: CallGuard, outcome: Outcome) -> Option<CallGuard> {
        if outcome == Outcome::Success {
            return Some(call);
        }
        call.settle(outcome);
        None
    }

    fn finish<E>(
        self,
        result: Result<Response<Res>, E>,
        kept: Option<CallGuard>,
    ) -> Result<Self::Response, E> {
        match (result, kept) {
            (Ok(response), Some(call)) => Ok(self.0.observe(response, call)),
            (Err(error), Some(call)) => {
                // The classifier calls this error a success.
                call.settle(Outcome::Success);
                Err(error)
            }
            (result, None) => result.map(uncounted),
        }
    }

    fn hold(response: &mut Self::Response, circuit: &Circuit) {
        response.body_mut().hold(circuit);
    }

    fn uncounted<E>(polled: Poll<Result<Response<Res>, E>>) -> Poll<Result<Self::Response, E>> {
        polled.map_ok(uncounted)
    }
}

fn uncounted<B: http_body::Body>(response: Response<B>) -> Response<ObservedBody<B>> {
    response.map(ObservedBody::uncounted)
}

impl sealed::Sealed for UntilHead {}
impl sealed::Sealed for UntilBody {}

mod sealed {
    /// Only this crate says when a call can end.
    pub trait Sealed {}
}
