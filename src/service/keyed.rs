//! A circuit for each key of the requests.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::future::Classified;
use super::key::Key;
use super::layer::Reject;
use super::respond::{RejectionBody, Respond, is_grpc};
use crate::circuit::{Attempt, CallGuard, Circuit, Denial, Error, Rejected, Wait};
use crate::classify::Classify;
use crate::store::KeyedCircuits;

/// Puts a [`KeyedCircuitBreaker`] around a service. Made by
/// [`CircuitBreakerLayer::keyed_by`](crate::CircuitBreakerLayer::keyed_by).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct KeyedLayer<K, C, M> {
    pub(super) circuits: KeyedCircuits,
    pub(super) key: K,
    pub(super) classifier: C,
    pub(super) mode: M,
    pub(super) keyless: Keyless,
}

/// What becomes of a request without a usable key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keyless {
    /// It is called, and counted by no circuit.
    #[default]
    Pass,
    /// It is rejected, as by a circuit of the layer's name that is forced open: without a time to come
    /// back, as it would fare no better.
    Reject,
}

impl<K, C, M> KeyedLayer<K, C, M> {
    /// What becomes of a request without a usable key. Default: [`Keyless::Pass`]. In either case the log
    /// has a warning, at most one a minute.
    pub fn keyless(mut self, keyless: Keyless) -> Self {
        self.keyless = keyless;
        self
    }
}

impl<S, K: Clone, C: Clone, M: Clone> Layer<S> for KeyedLayer<K, C, M> {
    type Service = KeyedCircuitBreaker<S, K, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreaker { inner, layer: self.clone() }
    }
}

/// A service with a circuit for each key of its requests.
///
/// `poll_ready` asks the inner service alone: which circuit it is about is known in `call`, so an open
/// circuit is a rejection of the response future, or a response.
///
/// Cancellation and panics are as with a [`CircuitBreaker`](crate::CircuitBreaker).
#[derive(Clone)]
pub struct KeyedCircuitBreaker<S, K, C, M = Reject> {
    inner: S,
    layer: KeyedLayer<K, C, M>,
}

enum Decision {
    Call(Circuit, CallGuard),
    /// The cluster is to be asked first.
    Ask(Circuit, Denial),
    /// No circuit counts it.
    Pass,
    Reject(Rejected),
}

impl<S, K, C, M> KeyedCircuitBreaker<S, K, C, M> {
    /// The inner service.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn decide<R>(&self, request: &R) -> Decision
    where
        K: Key<R>,
    {
        let KeyedLayer { circuits, key, keyless, .. } = &self.layer;
        let Some(key) = key.key(request).filter(|key| !key.is_empty()) else {
            circuits.no_key();
            return match keyless {
                Keyless::Pass => Decision::Pass,
                Keyless::Reject => {
                    Decision::Reject(Rejected::without_circuit(circuits.layer.clone()))
                }
            };
        };
        let Some(circuit) = circuits.circuit(&key) else { return Decision::Pass };
        match circuit.begin_now() {
            Ok(permit) => Decision::Call(circuit, permit),
            Err(Denial::Rejected(rejection)) => Decision::Reject(circuit.open(rejection)),
            Err(denial) => Decision::Ask(circuit, denial),
        }
    }

    pub(super) fn mode(&self) -> &M {
        &self.layer.mode
    }

    pub(super) fn poll_inner<R>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<R>,
    {
        self.inner.poll_ready(cx)
    }

    pub(super) fn start<R>(&mut self, request: R) -> KeyedFuture<S, R, C>
    where
        S: Service<R> + Clone,
        C: Clone,
        K: Key<R>,
    {
        let classifier = || self.layer.classifier.clone();
        let step = match self.decide(&request) {
            Decision::Call(circuit, permit) => {
                let (permit, call) = permit.guard(|| self.inner.call(request));
                let call = Classified::new(Attempt::new(call, permit), classifier());
                Step::Calling { call, circuit }
            }
            Decision::Pass => Step::Passing { call: self.inner.call(request) },
            Decision::Reject(open) => Step::Rejected { rejected: Some((open, request)) },
            Decision::Ask(circuit, denial) => {
                let asked = circuit.clone();
                let permit: Wait<_> = Box::pin(async move {
                    let permit = asked.acquire_after(denial).await;
                    permit.map_err(|rejection| asked.open(rejection))
                });
                let clone = self.inner.clone();
                // The one that is ready is the one that is to be called.
                let service = std::mem::replace(&mut self.inner, clone);
                let call = Some((service, request, classifier(), circuit));
                Step::Asking { permit, call }
            }
        };
        KeyedFuture { step }
    }
}

impl<S, K, C, R> Service<R> for KeyedCircuitBreaker<S, K, C, Reject>
where
    S: Service<R> + Clone,
    K: Key<R>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = KeyedFuture<S, R, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_inner(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.start(request)
    }
}

impl<S, K, C, F, Req, Res> Service<Request<Req>> for KeyedCircuitBreaker<S, K, C, Respond<F>>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone,
    K: Key<Request<Req>>,
    C: Classify<S::Response, S::Error> + Clone,
    F: RejectionBody<Res> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = KeyedRespondFuture<S, Request<Req>, C, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_inner(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let (mode, in_grpc) = (self.mode().clone(), is_grpc(&request));
        KeyedRespondFuture { call: self.start(request), mode, in_grpc }
    }
}

impl<S: fmt::Debug, K: fmt::Debug, C: fmt::Debug, M: fmt::Debug> fmt::Debug
    for KeyedCircuitBreaker<S, K, C, M>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("inner", &self.inner)
            .field("layer", &self.layer.circuits.layer)
            .field("key", &self.layer.key)
            .field("classifier", &self.layer.classifier)
            .field("mode", &self.layer.mode)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a [`KeyedCircuitBreaker`].
    #[must_use = "futures do nothing unless polled"]
    pub struct KeyedFuture<S, R, C>
    where
        S: Service<R>,
    {
        #[pin]
        step: Step<S, R, C>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, R, C>
    where
        S: Service<R>,
    {
        Calling {
            #[pin]
            call: Classified<S::Future, C>,
            // So that the circuit is not forgotten while a call is under way.
            circuit: Circuit,
        },
        Passing {
            #[pin]
            call: S::Future,
        },
        Rejected {
            rejected: Option<(Rejected, R)>,
        },
        Asking {
            permit: Wait<Result<CallGuard, Rejected>>,
            call: Option<(S, R, C, Circuit)>,
        },
    }
}

const DONE: &str = "not polled after it was ready";

impl<S, R, C> KeyedFuture<S, R, C>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
{
    /// Whether the call may be rejected: it is, or the cluster is being asked.
    pub(super) fn may_be_rejected(&self) -> bool {
        matches!(self.step, Step::Rejected { .. } | Step::Asking { .. })
    }

    /// Until the call has begun; or will not, and then its request comes back.
    pub(super) fn poll_begun(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), (Rejected, R)>> {
        let mut this = self.project();
        let (permit, call) = match this.step.as_mut().project() {
            StepProj::Calling { .. } | StepProj::Passing { .. } => return Poll::Ready(Ok(())),
            StepProj::Rejected { rejected } => {
                return Poll::Ready(Err(rejected.take().expect(DONE)));
            }
            StepProj::Asking { permit, call } => (ready!(permit.as_mut().poll(cx)), call),
        };
        let (mut service, request, classifier, circuit) = call.take().expect(DONE);
        let permit = match permit {
            Ok(permit) => permit,
            Err(open) => return Poll::Ready(Err((open, request))),
        };
        let (permit, call) = permit.guard(|| service.call(request));
        let call = Classified::new(Attempt::new(call, permit), classifier);
        this.step.set(Step::Calling { call, circuit });
        Poll::Ready(Ok(()))
    }

    /// Polls a call that has begun.
    pub(super) fn poll_call(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        match self.project().step.project() {
            StepProj::Calling { call, .. } => call.poll(cx),
            StepProj::Passing { call } => call.poll(cx),
            StepProj::Rejected { .. } | StepProj::Asking { .. } => unreachable!("it has begun"),
        }
    }

    /// Polls the call. With a response that is good so far come its permit and its circuit; otherwise
    /// it is settled.
    #[expect(clippy::type_complexity, reason = "said in the line above")]
    pub(super) fn poll_keep(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(S::Response, Option<CallGuard>, Option<Circuit>), Error<S::Error>>> {
        ready!(self.as_mut().poll_begun(cx)).map_err(|(open, _)| Error::Rejected(open))?;
        let (response, permit, circuit) = match self.project().step.project() {
            StepProj::Calling { call, circuit } => {
                let (response, permit) = ready!(call.poll_keep(cx)).map_err(Error::Inner)?;
                (response, permit, Some(circuit.clone()))
            }
            StepProj::Passing { call } => {
                (ready!(call.poll(cx)).map_err(Error::Inner)?, None, None)
            }
            StepProj::Rejected { .. } | StepProj::Asking { .. } => unreachable!("it has begun"),
        };
        Poll::Ready(Ok((response, permit, circuit)))
    }
}

impl<S, R, C> Future for KeyedFuture<S, R, C>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.as_mut().poll_begun(cx)).map_err(|(open, _)| Error::Rejected(open))?;
        self.poll_call(cx).map_err(Error::Inner)
    }
}

impl<S: Service<R>, R, C> fmt::Debug for KeyedFuture<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a [`KeyedCircuitBreaker`] that
    /// [responds](crate::CircuitBreakerLayer::respond).
    #[must_use = "futures do nothing unless polled"]
    pub struct KeyedRespondFuture<S, R, C, F>
    where
        S: Service<R>,
    {
        #[pin]
        call: KeyedFuture<S, R, C>,
        mode: Respond<F>,
        in_grpc: bool,
    }
}

impl<S, R, C, F, B> Future for KeyedRespondFuture<S, R, C, F>
where
    S: Service<R, Response = Response<B>>,
    C: Classify<S::Response, S::Error>,
    F: RejectionBody<B>,
{
    type Output = Result<Response<B>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.call.poll(cx)) {
            Ok(response) => Ok(response),
            Err(Error::Rejected(open)) => Ok(this.mode.response(open, *this.in_grpc)),
            Err(Error::Inner(error)) => Err(error),
        })
    }
}

impl<S: Service<R>, R, C, F> fmt::Debug for KeyedRespondFuture<S, R, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRespondFuture").finish_non_exhaustive()
    }
}
