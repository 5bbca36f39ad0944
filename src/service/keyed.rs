//! A service with a circuit for each key of its requests.

use std::fmt;
use std::marker::PhantomData;
use std::mem::replace;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::{Call, ResponseFuture};
use super::key::{ByKey, Key, Keyless};
use super::macros::inner_accessors;
use super::on_rejected::{Errors, OnRejected, Reject};
use super::until::{Until, UntilHead};
use crate::circuit::{CallGuard, Circuit, Refusal, Rejected, Wait};
use crate::classify::Classify;
use crate::store::KeyedCircuits;

/// A service with a circuit for each key of its requests. A layer with
/// [`keyed_by`](crate::CircuitBreakerLayer::keyed_by) makes it.
///
/// `poll_ready` asks only the inner service: the request names the circuit, so an open circuit
/// shows in the response future.
///
/// Cancellation and panics are as with a [`CircuitBreaker`](crate::CircuitBreaker).
pub struct KeyedCircuitBreaker<S, K, C, M = Reject, U = UntilHead> {
    inner: S,
    circuits: KeyedCircuits,
    which: ByKey<K>,
    classifier: C,
    on_rejected: M,
    until: PhantomData<U>,
}

enum Admission {
    Call(Circuit, CallGuard),
    /// The call must wait for the cluster.
    Wait(Circuit, Refusal),
    /// No circuit counts the call.
    Uncounted,
    Rejected(Rejected),
}

impl<S, K, C, M, U> KeyedCircuitBreaker<S, K, C, M, U> {
    pub(super) fn new(
        inner: S,
        circuits: KeyedCircuits,
        which: ByKey<K>,
        classifier: C,
        on_rejected: M,
    ) -> Self {
        Self { inner, circuits, which, classifier, on_rejected, until: PhantomData }
    }

    inner_accessors!();

    fn admit<R>(&self, request: &R) -> Admission
    where
        K: Key<R>,
    {
        let Some(key) = self.which.key.key(request).filter(|key| !key.is_empty()) else {
            self.circuits.no_key();
            return match self.which.keyless {
                Keyless::Pass => Admission::Uncounted,
                Keyless::Reject => {
                    Admission::Rejected(Rejected::without_circuit(self.circuits.layer.clone()))
                }
            };
        };
        let Some(circuit) = self.circuits.circuit(&key) else { return Admission::Uncounted };
        match circuit.check().and_then(|()| circuit.enter()) {
            Ok(guard) => Admission::Call(circuit, guard),
            Err(Refusal::Rejected(rejection)) => Admission::Rejected(circuit.rejected(rejection)),
            Err(refusal) => Admission::Wait(circuit, refusal),
        }
    }
}

impl<S, K, C, M, U, R> Service<R> for KeyedCircuitBreaker<S, K, C, M, U>
where
    S: Service<R> + Clone,
    K: Key<R>,
    C: Classify<S::Response, S::Error> + Clone,
    M: OnRejected<R, S::Response, S::Error> + Clone,
    U: Until<R, S::Response>,
{
    type Response = U::Response;
    type Error = M::Error;
    type Future = KeyedFuture<S, R, C, M, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        M::Errors::poll_inner(self.inner.poll_ready(cx))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let step = match self.admit(&request) {
            Admission::Call(circuit, guard) => {
                let classifier = self.classifier.clone();
                let call = Call::new(&mut self.inner, request, guard, classifier);
                Step::Admitted { call: ResponseFuture::calling(call), circuit: Some(circuit) }
            }
            Admission::Uncounted => Step::Uncounted { call: self.inner.call(request) },
            Admission::Rejected(rejected) => {
                let reply = self.on_rejected.reply(rejected, request);
                Step::Admitted { call: ResponseFuture::replying(reply), circuit: None }
            }
            Admission::Wait(circuit, refusal) => {
                let asked = circuit.clone();
                let clone = self.inner.clone();
                let next = Next {
                    // The one that is ready is the one that is called.
                    inner: replace(&mut self.inner, clone),
                    request,
                    classifier: self.classifier.clone(),
                    on_rejected: self.on_rejected.clone(),
                    circuit,
                };
                let admitted = Box::pin(async move { asked.wait(refusal).await });
                Step::Waiting { admitted, next: Some(next) }
            }
        };
        KeyedFuture { step }
    }
}

impl<S: Clone, K: Clone, C: Clone, M: Clone, U> Clone for KeyedCircuitBreaker<S, K, C, M, U> {
    fn clone(&self) -> Self {
        let (classifier, on_rejected) = (self.classifier.clone(), self.on_rejected.clone());
        let (circuits, which) = (self.circuits.clone(), self.which.clone());
        Self::new(self.inner.clone(), circuits, which, classifier, on_rejected)
    }
}

impl<S, K, C, M, U> fmt::Debug for KeyedCircuitBreaker<S, K, C, M, U>
where
    S: fmt::Debug,
    K: fmt::Debug,
    C: fmt::Debug,
    M: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("inner", &self.inner)
            .field("circuits", &self.circuits)
            .field("key", &self.which.key)
            .field("classifier", &self.classifier)
            .field("on_rejected", &self.on_rejected)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a [`KeyedCircuitBreaker`].
    #[must_use = "futures do nothing unless polled"]
    pub struct KeyedFuture<S, R, C, M, U> where S: Service<R>, M: OnRejected<R, S::Response, S::Error> {
        #[pin]
        step: Step<S, R, C, M, U>,
    }
}

impl<S, R, C, M, U> fmt::Debug for KeyedFuture<S, R, C, M, U>
where
    S: Service<R>,
    M: OnRejected<R, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedFuture").finish_non_exhaustive()
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, R, C, M, U> where S: Service<R>, M: OnRejected<R, S::Response, S::Error> {
        Waiting {
            admitted: Wait<Result<CallGuard, Rejected>>,
            next: Option<Next<S, R, C, M>>,
        },
        Admitted {
            #[pin]
            call: ResponseFuture<S::Future, C, M::Reply, U, M::Errors>,
            // So that the store does not forget the circuit during the call. A reply has none.
            circuit: Option<Circuit>,
        },
        Uncounted {
            #[pin]
            call: S::Future,
        },
    }
}

/// What a call that waits for the cluster goes on with.
struct Next<S, R, C, M> {
    inner: S,
    request: R,
    classifier: C,
    on_rejected: M,
    circuit: Circuit,
}

impl<S, R, C, M, U> Future for KeyedFuture<S, R, C, M, U>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
    M: OnRejected<R, S::Response, S::Error>,
    U: Until<R, S::Response>,
{
    type Output = Result<U::Response, M::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                StepProj::Waiting { admitted, next } => {
                    let admitted = ready!(admitted.as_mut().poll(cx));
                    let next = next.take().expect("not polled after it was ready");
                    let Next { mut inner, request, classifier, on_rejected, circuit } = next;
                    let (call, circuit) = match admitted {
                        Ok(guard) => {
                            let call = Call::new(&mut inner, request, guard, classifier);
                            (ResponseFuture::calling(call), Some(circuit))
                        }
                        Err(rejected) => {
                            let reply = on_rejected.reply(rejected, request);
                            (ResponseFuture::replying(reply), None)
                        }
                    };
                    Step::Admitted { call, circuit }
                }
                StepProj::Admitted { call, circuit } => {
                    let mut response = ready!(call.poll(cx))?;
                    if let Some(circuit) = circuit {
                        U::hold(&mut response, circuit);
                    }
                    return Poll::Ready(Ok(response));
                }
                StepProj::Uncounted { call } => {
                    return M::Errors::poll_inner(U::uncounted(call.poll(cx)));
                }
            };
            step.set(next);
        }
    }
}
