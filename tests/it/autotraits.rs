//! Auto traits: which types are `Send`, `Sync` and `Unpin`. axum and reqwest need all of them.

use std::task::{Context, Poll};

use static_assertions::{assert_impl_all, assert_not_impl_any};
use tower::Service;
use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::event::{Event, Events, StoreEvent};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::service::key::{Authority, ByKey, Extension, Header};
use tower_breaker::service::on_rejected::{DefaultBody, Fallback, Reject, Respond};
use tower_breaker::service::until::{UntilBody, UntilHead};
use tower_breaker::service::{KeyedCircuitBreaker, KeyedFuture, ObservedBody, RespondToRejected};
use tower_breaker::{
    Circuit, CircuitBreaker, CircuitBreakerLayer, CircuitName, Error, ErrorsAsFailures, HttpStatus,
    Policy, Rejected, Store,
};

assert_impl_all!(Store: Send, Sync, Unpin, Clone);
assert_impl_all!(Circuit: Send, Sync, Unpin, Clone);
assert_impl_all!(Permit: Send, Sync, Unpin);
assert_not_impl_any!(Permit: Clone);
assert_impl_all!(Policy: Send, Sync, Clone);
assert_impl_all!(PolicyBuilder: Send, Sync, Clone);
assert_impl_all!(CircuitName: Send, Sync, Clone);
assert_impl_all!(Snapshot: Send, Sync, Clone);
assert_impl_all!(Event: Send, Sync, Clone);
assert_impl_all!(StoreEvent: Send, Sync, Clone);
assert_impl_all!(Events: Send, Sync, Unpin);
assert_impl_all!(Rejected: Send, Sync, Clone, std::error::Error);
assert_impl_all!(Error<std::io::Error>: Send, Sync, Into<Box<dyn std::error::Error + Send + Sync>>);
assert_impl_all!(
    Error<Box<dyn std::error::Error + Send + Sync>>: Into<Box<dyn std::error::Error + Send + Sync>>
);
assert_impl_all!(CircuitBreakerLayer: Send, Sync, Clone);
assert_impl_all!(CircuitBreakerLayer<HttpStatus, Respond<DefaultBody>>: Send, Sync, Clone);
assert_impl_all!(CircuitBreakerLayer<HttpStatus, Reject, UntilBody, ByKey<Authority>>: Send, Sync, Unpin, Clone);
assert_impl_all!(CircuitBreaker<()>: Send, Sync, Unpin, Clone);
assert_impl_all!(CircuitBreaker<(), HttpStatus, Reject, UntilBody>: Send, Sync, Unpin, Clone);
assert_impl_all!(KeyedCircuitBreaker<(), Header, HttpStatus>: Send, Sync, Unpin, Clone);
assert_impl_all!(Extension<std::cell::Cell<()>>: Send, Sync, Unpin, Copy);
assert_impl_all!(ObservedBody<http_body_util::Empty<bytes::Bytes>>: Send, Sync, Unpin, Default);

type Request = http::Request<()>;
type Inner = tower::util::BoxCloneSyncService<Request, http::Response<String>, ()>;
type Plain<S, M, U> = <CircuitBreaker<S, HttpStatus, M, U> as Service<Request>>::Future;
type Keyed<M, U> = KeyedFuture<Inner, Request, HttpStatus, M, U>;
assert_impl_all!(Plain<Inner, Reject, UntilHead>: Send, Unpin);
assert_impl_all!(Plain<Inner, Reject, UntilBody>: Send, Unpin);
assert_impl_all!(Plain<Inner, Respond<DefaultBody>, UntilHead>: Send, Unpin);
assert_impl_all!(Plain<Inner, Fallback<Inner>, UntilBody>: Send, Unpin);
assert_impl_all!(Keyed<Reject, UntilHead>: Send, Unpin);
assert_impl_all!(Keyed<Fallback<Inner>, UntilBody>: Send, Unpin);

// An error that a rejection never has takes nothing from a future.
type Unsync = std::future::Pending<Result<http::Response<String>, std::cell::Cell<()>>>;
type Fails = tower::util::ServiceFn<fn(Request) -> Unsync>;
assert_impl_all!(Plain<Fails, Respond<DefaultBody>, UntilHead>: Send, Sync);

assert_impl_all!(RespondToRejected<()>: Send, Sync, Unpin, Clone);

/// A service is `Send` or `Sync` exactly if its inner service is.
#[test]
fn a_service_has_the_auto_traits_of_its_inner_service() {
    assert_not_impl_any!(CircuitBreaker<std::cell::Cell<()>>: Sync);
    assert_impl_all!(CircuitBreaker<std::cell::Cell<()>>: Send);
    assert_not_impl_any!(CircuitBreaker<std::rc::Rc<()>>: Send);
}

/// A call borrows nothing, so that it can be spawned.
#[test]
fn the_future_of_a_call_is_static() {
    fn is_static<S: Service<()>>(_: &S)
    where
        S::Future: Send + 'static,
    {
    }
    let inner = tower::service_fn(|(): ()| std::future::ready(Ok::<_, ()>(())));
    let layer = CircuitBreakerLayer::new(Store::in_memory()).classify(ErrorsAsFailures);
    is_static(&tower::Layer::layer(&layer, inner));
}

/// Nor does it borrow what the service borrows: `&reqwest::Client` is a service, for example.
#[test]
fn the_future_of_a_call_does_not_borrow_the_service() {
    struct Client;
    impl Service<()> for &Client {
        type Response = ();
        type Error = ();
        type Future = std::future::Ready<Result<(), ()>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }
    fn call() -> impl Future<Output = Result<(), Error<()>>> + Send + 'static {
        let client = Client;
        let layer = CircuitBreakerLayer::new(Store::in_memory()).classify(ErrorsAsFailures);
        tower::Layer::layer(&layer, &client).call(())
    }
    drop(call());
}
