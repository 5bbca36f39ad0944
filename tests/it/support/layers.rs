//! Services with open circuits to put under tower's layers, and a retry policy.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Constant;
use tower::steer::Steer;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_breaker::service::on_rejected::Reject;
use tower_breaker::{
    Circuit, CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, Rejected, Store,
};

use super::upstream::{Does, Failed, Upstream};
use super::{fragile, store, trip};

pub(crate) type Breaker<M> = CircuitBreaker<Upstream, ErrorsAsFailures, M>;

pub(crate) fn layer(
    store: &Store,
    name: &'static str,
) -> CircuitBreakerLayer<ErrorsAsFailures, Reject> {
    CircuitBreakerLayer::new(store.clone()).named(name).classify(ErrorsAsFailures)
}

/// An open circuit, a layer of the default mode on it, and a service that succeeds.
pub(crate) fn open_circuit() -> (Circuit, CircuitBreakerLayer<ErrorsAsFailures, Reject>, Upstream) {
    let store = store(fragile());
    let circuit = store.circuit("test");
    trip(&circuit);
    (circuit, layer(&store, "test"), Upstream::new(Does::Succeed))
}

#[track_caller]
pub(crate) fn assert_rejected<T: std::fmt::Debug, E: Into<BoxError>>(result: Result<T, E>) {
    let error = result.expect_err("should be rejected").into();
    assert!(Rejected::find_in(&*error).is_some(), "{error}");
}

/// Two services, of which the first has an open circuit.
pub(crate) fn two<M: Clone>(
    mode: impl Fn(
        CircuitBreakerLayer<ErrorsAsFailures, Reject>,
    ) -> CircuitBreakerLayer<ErrorsAsFailures, M>,
) -> (Circuit, [Upstream; 2], [Breaker<M>; 2]) {
    let store = store(fragile());
    let circuit = store.circuit("first");
    trip(&circuit);
    let upstreams = [Upstream::new(Does::Succeed), Upstream::new(Does::Succeed)];
    let services = ["first", "second"].map(|name| mode(layer(&store, name)));
    let [first, second] = services;
    let services = [first.layer(upstreams[0].clone()), second.layer(upstreams[1].clone())];
    (circuit, upstreams, services)
}

pub(crate) type BreakerError = tower_breaker::Error<Failed>;

/// Steers by requests, which are the numbers of the routes.
pub(crate) fn steer<M>(
    services: [Breaker<M>; 2],
) -> impl Service<usize, Response = (), Error = BreakerError>
where
    Breaker<M>: Service<(), Response = (), Error = BreakerError>,
{
    let services = services.map(|service| service.map_request(|_: usize| ()));
    Steer::new(services, |route: &usize, _: &[_]| *route)
}

/// Makes services up to a number, and is pending from then on.
#[derive(Clone)]
pub(crate) struct Make<S> {
    service: S,
    most: usize,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl<S> Make<S> {
    pub(crate) fn new(service: S, most: usize) -> Self {
        Self { service, most, connections: Arc::default() }
    }
}

impl<S: Clone> Service<()> for Make<S> {
    type Response = S;
    type Error = BoxError;
    type Future = Ready<Result<S, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.connections.load(Relaxed) == self.most {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.connections.fetch_add(1, Relaxed);
        ready(Ok(self.service.clone()))
    }
}

pub(crate) type Endpoints<M> = ServiceList<Vec<Constant<Breaker<M>, u8>>>;

pub(crate) fn balance<M>(services: [Breaker<M>; 2]) -> Balance<Endpoints<M>, ()>
where
    Breaker<M>: Service<()>,
    <Breaker<M> as Service<()>>::Error: Into<BoxError>,
{
    let endpoints = services.into_iter().map(|service| Constant::new(service, 0));
    Balance::new(ServiceList::new::<()>(endpoints.collect::<Vec<_>>()))
}

/// Retries a failed call a few times, and counts how often it was asked.
#[derive(Clone)]
pub(crate) struct Attempts {
    most: u32,
    asked: Arc<AtomicU32>,
}

impl Attempts {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, asked: Arc::default() }
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }
}

impl<R: Clone, T, E> tower::retry::Policy<R, T, E> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut R, result: &mut Result<T, E>) -> Option<Ready<()>> {
        self.asked.fetch_add(1, Relaxed);
        result.as_ref().err()?;
        self.most = self.most.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(request.clone())
    }
}
