//! A call on its way, and the future of a circuit breaker.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::on_rejected::Errors;
use super::until::{Ends, Until};
use crate::circuit::{Attempt, CallGuard};
use crate::classify::Classify;
use crate::outcome::Outcome;

pin_project! {
    /// A call whose result a classifier judges, for the circuit.
    #[derive(Debug)]
    pub(super) struct Call<F, C, U> {
        #[pin]
        attempt: Attempt<F>,
        classifier: C,
        until: U,
    }
}

impl<F, C, U> Call<F, C, U> {
    /// Calls the inner service, which is ready. Should it panic, the call has failed.
    #[inline]
    pub(super) fn new<S, R>(inner: &mut S, request: R, guard: CallGuard, classifier: C) -> Self
    where
        S: Service<R, Future = F>,
        F: Future<Output = Result<S::Response, S::Error>>,
        U: Until<R, S::Response>,
    {
        let until = U::begin(&request);
        let (guard, call) = guard.guard(|| inner.call(request));
        Self { attempt: Attempt::new(call, guard), classifier, until }
    }

    #[inline]
    pub(super) fn poll<T, E>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<U::Response, E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        U: Ends<T>,
    {
        let this = self.project();
        let classify = |result: &Result<T, E>| this.classifier.classify(result.as_ref());
        let until = *this.until;
        this.attempt.poll_end(cx, classify).map(|(mut guard, outcome, result)| {
            if let Outcome::Failure { .. } = outcome {
                guard.failed_as(this.classifier.failure_kind(result.as_ref()));
                guard.described_as(|| this.classifier.describe(result.as_ref()));
            }
            until.finish(result, U::end(guard, outcome))
        })
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker).
    ///
    /// It names neither the service nor the request: what they borrow, it need not.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, P, U, X> {
        #[pin]
        step: Step<F, C, P, U>,
        errors: PhantomData<fn() -> X>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StepProj]
    enum Step<F, C, P, U> {
        Calling {
            #[pin]
            call: Call<F, C, U>,
        },
        Replying {
            #[pin]
            reply: P,
        },
    }
}

impl<F, C, P, U, X> ResponseFuture<F, C, P, U, X> {
    #[inline]
    pub(super) fn calling(call: Call<F, C, U>) -> Self {
        Self { step: Step::Calling { call }, errors: PhantomData }
    }

    #[inline]
    pub(super) fn replying(reply: P) -> Self {
        Self { step: Step::Replying { reply }, errors: PhantomData }
    }
}

impl<F, C, P, U, X, Res, E> Future for ResponseFuture<F, C, P, U, X>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    P: Future<Output = Result<Res, X::Error>>,
    U: Ends<Res>,
    X: Errors<E>,
{
    type Output = Result<U::Response, X::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Calling { call } => X::poll_inner(call.poll(cx)),
            StepProj::Replying { reply } => U::uncounted(reply.poll(cx)),
        }
    }
}
