//! A rejection as the reply of another service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::Response;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::sealed::Sealed;
use super::{OnRejected, Unchanged};
use crate::circuit::Rejected;

/// Lets another service answer a rejected call: the choice of
/// [`fallback`](crate::CircuitBreakerLayer::fallback).
#[derive(Clone, Copy)]
pub struct Fallback<F>(pub(in crate::service) F);

impl<F> Sealed for Fallback<F> {}

impl<F, Req, Res, E> OnRejected<Req, Response<Res>, E> for Fallback<F>
where
    F: Service<Req, Response = Response<Res>, Error = E> + Clone,
{
    type Error = E;
    type Errors = Unchanged;
    type Reply = FallbackReply<F, Req>;

    #[inline]
    fn reply(&self, rejected: Rejected, request: Req) -> Self::Reply {
        let call = Some((request, rejected));
        FallbackReply { step: Step::Readying { fallback: self.0.clone(), call } }
    }
}

pin_project! {
    /// The reply of a [`Fallback`].
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackReply<F, R>
    where
        F: Service<R>,
    {
        #[pin]
        step: Step<F, R>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, R>
    where
        F: Service<R>,
    {
        Readying {
            fallback: F,
            call: Option<(R, Rejected)>,
        },
        Calling {
            #[pin]
            reply: F::Future,
            rejected: Option<Rejected>,
        },
    }
}

impl<F, R, Res, E> Future for FallbackReply<F, R>
where
    F: Service<R, Response = Response<Res>, Error = E>,
{
    type Output = Result<Response<Res>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                StepProj::Readying { fallback, call } => {
                    ready!(fallback.poll_ready(cx))?;
                    let (request, rejected) = call.take().expect("not polled after it was ready");
                    Step::Calling { reply: fallback.call(request), rejected: Some(rejected) }
                }
                StepProj::Calling { reply, rejected } => {
                    let mut response = ready!(reply.poll(cx))?;
                    if let Some(rejected) = rejected.take() {
                        response.extensions_mut().insert(rejected);
                    }
                    return Poll::Ready(Ok(response));
                }
            };
            step.set(next);
        }
    }
}

impl<F> fmt::Debug for Fallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fallback").field(&std::any::type_name::<F>()).finish()
    }
}

impl<F: Service<R>, R> fmt::Debug for FallbackReply<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackReply").finish_non_exhaustive()
    }
}
