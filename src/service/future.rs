//! A call on its way, and the future of a circuit breaker.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::on_rejected::OnRejected;
use super::until::Until;
use crate::circuit::{Attempt, CallGuard, Circuit};
use crate::classify::Classify;

pin_project! {
    /// A call whose result a classifier judges, for the circuit.
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
    pub(super) fn poll<R, T, E>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        circuit: Option<&Circuit>,
    ) -> Poll<Result<U::Response, E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        U: Until<R, T>,
    {
        let this = self.project();
        let classify = |result: &Result<T, E>| this.classifier.classify(result.as_ref());
        let (kept, result) = ready!(this.attempt.poll_ended(cx, classify, U::end));
        Poll::Ready(this.until.finish(result, kept, circuit))
    }
}

pin_project! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R, C, M, U>
    where
        S: Service<R>,
        M: OnRejected<R, S::Response, S::Error>,
    {
        #[pin]
        step: Step<S::Future, C, M::Reply, U>,
    }
}

pin_project! {
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

impl<S, R, C, M, U> ResponseFuture<S, R, C, M, U>
where
    S: Service<R>,
    M: OnRejected<R, S::Response, S::Error>,
{
    #[inline]
    pub(super) fn calling(call: Call<S::Future, C, U>) -> Self {
        Self { step: Step::Calling { call } }
    }

    #[inline]
    pub(super) fn replying(reply: M::Reply) -> Self {
        Self { step: Step::Replying { reply } }
    }
}

impl<S, R, C, M, U> Future for ResponseFuture<S, R, C, M, U>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
    M: OnRejected<R, S::Response, S::Error>,
    U: Until<R, S::Response>,
{
    type Output = Result<U::Response, M::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            // The service has the circuit, and the store never forgets it.
            StepProj::Calling { call } => call.poll(cx, None).map(M::result),
            StepProj::Replying { reply } => reply.poll(cx).map(U::uncounted),
        }
    }
}

impl<S, R, C, M, U> fmt::Debug for ResponseFuture<S, R, C, M, U>
where
    S: Service<R>,
    M: OnRejected<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
