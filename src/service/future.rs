//! The response future: waits for the call, and tells the circuit how it ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::circuit::{Attempt, CallGuard, Error, Rejected};
use crate::classify::Classify;
use crate::outcome::Outcome;

/// A response and, if it is good so far, the permit that is still to be settled.
type PollKept<T, E> = Poll<Result<(T, Option<CallGuard>), E>>;

pin_project! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C> {
        #[pin]
        step: Step<F, C>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StepProj]
    enum Step<F, C> {
        Calling {
            #[pin]
            call: Classified<F, C>,
        },
        Rejected {
            open: Option<Rejected>,
        },
    }
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(super) fn calling(call: Classified<F, C>) -> Self {
        Self { step: Step::Calling { call } }
    }

    #[inline]
    pub(super) fn rejected(open: Rejected) -> Self {
        Self { step: Step::Rejected { open: Some(open) } }
    }
}

impl<F, C, T, E> ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    /// Polls the call. Its permit comes with a response that is good so far; otherwise it is settled.
    pub(super) fn poll_keep(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollKept<T, Error<E>> {
        match self.project().step.project() {
            StepProj::Calling { call } => call.poll_keep(cx).map_err(Error::Inner),
            StepProj::Rejected { open } => Poll::Ready(Err(rejected(open))),
        }
    }
}

fn rejected<E>(open: &mut Option<Rejected>) -> Error<E> {
    Error::Rejected(open.take().expect("not polled after it was ready"))
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Calling { call } => call.poll(cx).map_err(Error::Inner),
            StepProj::Rejected { open } => Poll::Ready(Err(rejected(open))),
        }
    }
}

pin_project! {
    /// A call whose result is told to the circuit.
    #[derive(Debug)]
    pub(super) struct Classified<F, C> {
        #[pin]
        attempt: Attempt<F>,
        classifier: C,
    }
}

impl<F: Future, C> Classified<F, C> {
    #[inline]
    pub(super) fn new(attempt: Attempt<F>, classifier: C) -> Self {
        Self { attempt, classifier }
    }
}

impl<F, C, T, E> Classified<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    /// As [`ResponseFuture::poll_keep`].
    pub(super) fn poll_keep(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollKept<T, E> {
        let this = self.project();
        let classify = |result: &Result<T, E>| this.classifier.classify(result.as_ref());
        this.attempt.poll_end(cx, classify).map(|(permit, outcome, result)| match result {
            Ok(response) if outcome == Outcome::Success => Ok((response, Some(permit))),
            result => {
                permit.settle(outcome);
                result.map(|response| (response, None))
            }
        })
    }
}

impl<F, C, T, E> Future for Classified<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.attempt.poll_settle(cx, |result| this.classifier.classify(result.as_ref()))
    }
}
