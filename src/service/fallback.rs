//! An open circuit as another service's reply.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::Classified;
use super::service::CircuitBreaker;
use crate::circuit::OpenCircuit;
use crate::classify::Classify;

/// An open circuit is answered by another service: the mode of
/// [`fallback`](crate::CircuitBreakerLayer::fallback).
#[derive(Clone, Copy)]
pub struct Fallback<F>(pub(super) F);

impl<S, C, F, Req, Res> Service<Request<Req>> for CircuitBreaker<S, C, Fallback<F>>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: Service<Request<Req>, Response = S::Response, Error = S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, C, F, Request<Req>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_admit(cx).map_ok(|_| ())
    }

    #[inline]
    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let step = match self.admit() {
            Ok(permit) => Step::Calling { call: self.attempt(permit, request) },
            Err(open) => Step::Readying {
                fallback: self.mode().0.clone(),
                request: Some(request),
                open: Some(open),
            },
        };
        FallbackFuture { step }
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker) with a
    /// [fallback](crate::CircuitBreakerLayer::fallback).
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackFuture<Fut, C, F, R>
    where
        F: Service<R>,
    {
        #[pin]
        step: Step<Fut, C, F, R>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<Fut, C, F, R>
    where
        F: Service<R>,
    {
        Calling {
            #[pin]
            call: Classified<Fut, C>,
        },
        Readying {
            fallback: F,
            request: Option<R>,
            open: Option<OpenCircuit>,
        },
        Answering {
            #[pin]
            answer: F::Future,
            open: Option<OpenCircuit>,
        },
    }
}

impl<Fut, C, F, R, Res, E> Future for FallbackFuture<Fut, C, F, R>
where
    Fut: Future<Output = Result<Response<Res>, E>>,
    C: Classify<Response<Res>, E>,
    F: Service<R, Response = Response<Res>, Error = E>,
{
    type Output = Result<Response<Res>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.step.as_mut().project() {
                StepProj::Calling { call } => return call.poll(cx),
                StepProj::Readying { fallback, request, open } => {
                    ready!(fallback.poll_ready(cx))?;
                    let request = request.take().expect("not polled after it was ready");
                    Step::Answering { answer: fallback.call(request), open: open.take() }
                }
                StepProj::Answering { answer, open } => {
                    let mut response = ready!(answer.poll(cx))?;
                    if let Some(open) = open.take() {
                        response.extensions_mut().insert(open);
                    }
                    return Poll::Ready(Ok(response));
                }
            };
            this.step.set(next);
        }
    }
}

impl<F> fmt::Debug for Fallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

impl<Fut, C, F: Service<R>, R> fmt::Debug for FallbackFuture<Fut, C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture").finish_non_exhaustive()
    }
}
