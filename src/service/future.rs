//! A call on its way, and the future of a circuit breaker.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::macros::response_future;
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
        let until = *this.until;
        this.attempt
            .poll_end(cx, classify)
            .map(|(guard, outcome, result)| until.finish(result, U::end(guard, outcome), circuit))
    }
}

response_future! {
    /// The future of a [`CircuitBreaker`](crate::CircuitBreaker).
    ResponseFuture,
    // The service has the circuit, and the store never forgets it.
    |future, cx| future.poll_with(cx, None)
}

pin_project! {
    #[project = StepProj]
    enum Step<S, R, C, M, U> where S: Service<R>, M: OnRejected<R, S::Response, S::Error> {
        Calling {
            #[pin]
            call: Call<S::Future, C, U>,
        },
        Replying {
            #[pin]
            reply: M::Reply,
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

    /// Polls it. `circuit` is that of a key, for a response that ends the call later.
    #[inline]
    pub(super) fn poll_with(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        circuit: Option<&Circuit>,
    ) -> Poll<Result<U::Response, M::Error>>
    where
        C: Classify<S::Response, S::Error>,
        U: Until<R, S::Response>,
    {
        match self.project().step.project() {
            StepProj::Calling { call } => M::poll_inner(call.poll(cx, circuit)),
            StepProj::Replying { reply } => U::uncounted(reply.poll(cx)),
        }
    }
}
