//! A circuit for each key: stores, layers and services whose requests are their own keys.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tower::Service;
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::service::key::{ByKey, KeyFn};
use tower_breaker::service::on_rejected::Reject;
use tower_breaker::service::until::UntilHead;
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store, StoreBuilder};

pub(crate) fn builder(policy: PolicyBuilder) -> StoreBuilder {
    Store::builder().default_policy(policy.jitter(0.0).build().unwrap())
}

pub(crate) type Pick = for<'a> fn(&'a &'static str) -> Option<Cow<'a, str>>;

/// A layer for requests that are their own keys.
pub(crate) fn layer(
    store: &Store,
) -> CircuitBreakerLayer<ErrorsAsFailures, Reject, UntilHead, ByKey<KeyFn<Pick>>> {
    let pick: Pick = |key| Some((*key).into());
    CircuitBreakerLayer::new(store.clone())
        .named("up")
        .classify(ErrorsAsFailures)
        .keyed_by_fn::<Pick, &'static str>(pick)
}

/// Fails if the request begins with `down`.
pub(crate) fn upstream(request: &'static str) -> Ready<Result<(), String>> {
    ready(if request.starts_with("down") { Err("down".to_owned()) } else { Ok(()) })
}

/// Makes one call to an upstream that answers at once.
pub(crate) fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the upstream answers at once"),
    }
}

pub(crate) fn names(store: &Store) -> Vec<String> {
    store.circuits().iter().map(|circuit| circuit.name().to_string()).collect()
}
