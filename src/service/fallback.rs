//! An open circuit as another service's reply.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::Classified;
use super::key::Key;
use super::keyed::{KeyedCircuitBreaker, KeyedFuture};
use super::service::CircuitBreaker;
use crate::circuit::Rejected;
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
            Err(open) => Step::Answering { answer: self.mode().answer(request, open) },
        };
        FallbackFuture { step }
    }
}

impl<S, K, C, F, Req, Res> Service<Request<Req>> for KeyedCircuitBreaker<S, K, C, Fallback<F>>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone,
    K: Key<Request<Req>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: Service<Request<Req>, Response = S::Response, Error = S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = KeyedFallbackFuture<S, C, F, Request<Req>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_inner(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let call = self.start(request);
        let mode = call.may_be_rejected().then(|| self.mode().clone());
        KeyedFallbackFuture { step: KeyedStep::Calling { call, mode } }
    }
}

impl<F> Fallback<F> {
    fn answer<R>(&self, request: R, open: Rejected) -> Answer<F, R>
    where
        F: Service<R> + Clone,
    {
        let rejected = Some((request, open));
        Answer { step: AnswerStep::Readying { fallback: self.0.clone(), rejected } }
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
        Answering {
            #[pin]
            answer: Answer<F, R>,
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Calling { call } => call.poll(cx),
            StepProj::Answering { answer } => answer.poll(cx),
        }
    }
}

pin_project! {
    /// The future of a [`KeyedCircuitBreaker`] with a
    /// [fallback](crate::CircuitBreakerLayer::fallback).
    #[must_use = "futures do nothing unless polled"]
    pub struct KeyedFallbackFuture<S, C, F, R>
    where
        S: Service<R>,
        F: Service<R>,
    {
        #[pin]
        step: KeyedStep<S, C, F, R>,
    }
}

pin_project! {
    #[project = KeyedStepProj]
    enum KeyedStep<S, C, F, R>
    where
        S: Service<R>,
        F: Service<R>,
    {
        Calling {
            #[pin]
            call: KeyedFuture<S, R, C>,
            // Of a call that may be rejected.
            mode: Option<Fallback<F>>,
        },
        Answering {
            #[pin]
            answer: Answer<F, R>,
        },
    }
}

impl<S, C, F, R, Res> Future for KeyedFallbackFuture<S, C, F, R>
where
    S: Service<R, Response = Response<Res>>,
    C: Classify<S::Response, S::Error>,
    F: Service<R, Response = S::Response, Error = S::Error> + Clone,
{
    type Output = Result<Response<Res>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        if let KeyedStepProj::Calling { mut call, mode } = step.as_mut().project() {
            match ready!(call.as_mut().poll_begun(cx)) {
                Ok(()) => return call.poll_call(cx),
                Err((open, request)) => {
                    let mode = mode.take().expect("a call that is rejected might have been");
                    step.set(KeyedStep::Answering { answer: mode.answer(request, open) });
                }
            }
        }
        match step.project() {
            KeyedStepProj::Answering { answer } => answer.poll(cx),
            KeyedStepProj::Calling { .. } => unreachable!("it was rejected"),
        }
    }
}

pin_project! {
    /// The fallback's reply to a call that was rejected.
    struct Answer<F, R>
    where
        F: Service<R>,
    {
        #[pin]
        step: AnswerStep<F, R>,
    }
}

pin_project! {
    #[project = AnswerStepProj]
    enum AnswerStep<F, R>
    where
        F: Service<R>,
    {
        Readying {
            fallback: F,
            rejected: Option<(R, Rejected)>,
        },
        Answering {
            #[pin]
            reply: F::Future,
            open: Option<Rejected>,
        },
    }
}

impl<F, R, Res, E> Future for Answer<F, R>
where
    F: Service<R, Response = Response<Res>, Error = E>,
{
    type Output = Result<Response<Res>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                AnswerStepProj::Readying { fallback, rejected } => {
                    ready!(fallback.poll_ready(cx))?;
                    let (request, open) = rejected.take().expect("not polled after it was ready");
                    AnswerStep::Answering { reply: fallback.call(request), open: Some(open) }
                }
                AnswerStepProj::Answering { reply, open } => {
                    let mut response = ready!(reply.poll(cx))?;
                    if let Some(open) = open.take() {
                        response.extensions_mut().insert(open);
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
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

impl<Fut, C, F: Service<R>, R> fmt::Debug for FallbackFuture<Fut, C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture").finish_non_exhaustive()
    }
}

impl<S: Service<R>, C, F: Service<R>, R> fmt::Debug for KeyedFallbackFuture<S, C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedFallbackFuture").finish_non_exhaustive()
    }
}
