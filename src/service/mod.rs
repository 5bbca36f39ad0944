//! The circuit breaker as tower middleware.
//!
//! # The plain case
//!
//! A service that returns HTTP responses. If the circuit is open, the service returns an error:
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_breaker::{CircuitBreakerLayer, Store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let upstream = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
//! let client = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(Store::in_memory()).named("users"))
//!     .service(upstream);
//! let response = client.oneshot(Request::new(())).await.unwrap();
//! # assert!(response.status().is_success());
//! # }
//! ```
//!
//! [docs/recipes.md](https://github.com/tower-breaker/tower-breaker/blob/main/docs/recipes.md) has
//! whole programs for axum, reqwest, tonic, hyper, and calls without tower.
//!
//! # Three choices
//!
//! A circuit breaker is made of three choices, which can be combined in every way but one:
//!
//! | choice | default | others |
//! | --- | --- | --- |
//! | [which circuit](key) | the one that the layer names | one for each [key](crate::CircuitBreakerLayer::keyed_by) of the requests: host, route, tenant |
//! | [how a rejection shows](on_rejected) | an error from `poll_ready` | see the next table |
//! | [when a call ends](until) | with the head of the response | [with its body](crate::CircuitBreakerLayer::observe_body): for gRPC, and for long downloads |
//!
//! Only [`keyed_by`](crate::CircuitBreakerLayer::keyed_by) cannot be combined with
//! [`wait_while_open`](crate::CircuitBreakerLayer::wait_while_open): before there is a request,
//! there is no key, and so no circuit to wait for.
//!
//! # Which mode
//!
//! The mode of a layer says how a rejection shows.
//!
//! | mode | an open circuit shows as | use it for |
//! | --- | --- | --- |
//! | default | `Err` from `poll_ready` | stacks that clone a service per request: axum, `oneshot`, reqwest |
//! | [`reject_in_call`](crate::CircuitBreakerLayer::reject_in_call) | `Err` from the response future | `Buffer`, `Retry`, `Steer`, and services that live long: there an error from `poll_ready` ends the service for good, or is dropped |
//! | [`respond`](crate::CircuitBreakerLayer::respond) | a response: 503, or gRPC `UNAVAILABLE` | axum without `HandleErrorLayer`; hyper and tonic servers, where an error closes the connection; tonic clients, where an error becomes the code `Unknown` |
//! | [`wait_while_open`](crate::CircuitBreakerLayer::wait_while_open) | a pending `poll_ready` | `Balance`, which passes over endpoints that are not ready |
//! | [`fallback`](crate::CircuitBreakerLayer::fallback) | the reply of another service | cached and default replies |
//!
//! If a layer between must see the error, put a [`RespondToRejectedLayer`] outside that layer: it
//! turns the rejection into a response.
//!
//! # Which mode under which layer
//!
//! In bold, the mode to choose. `respond` and `fallback` answer like an upstream under every layer.
//!
//! | layer | default | `reject_in_call` | `wait_while_open` |
//! | --- | --- | --- | --- |
//! | none, a clone for each request | **an error; recovers** | an error; recovers | waits |
//! | `Buffer` | **destructive**: every later call fails with the first error, for good | **an error for each call; recovers** | calls queue until the interval ends |
//! | `Retry` | an error, which ends the retries | **an error; with `RetryUnlessRejected` not retried** | waits |
//! | `Steer` | one open circuit fails all routes | **only calls to that route fail**, and [the first](crate::CircuitBreakerLayer::reject_in_call) after it has recovered | one open circuit blocks all routes |
//! | `CallAll` | ends at the first rejection | **each request is answered** | waits |
//! | `Reconnect` | **destructive**: reconnects in an endless loop, without a pause | **an error; the connection stays** | waits |
//! | `SpawnReady` | **an error; recovers** | an error; recovers | waits in a task of its own |
//! | `Balance` | **destructive**: drops the endpoint for good | goes on sending calls to it, which fail | **passes it over; uses it again** |
//! | `LoadShed` | **an error; recovers** | an error; recovers | sheds the call as overload |
//! | `Timeout`, `ConcurrencyLimit` | **an error; recovers** | an error; recovers | waits; no timeout covers readiness |
//!
//! A test checks each cell: `tests/it/stacks/tower_layers/`.
//!
//! # Where does my timeout go?
//!
//! Inside the circuit breaker. A call that hangs then fails, and the circuit counts it at once:
//! tower's `Timeout` ends it with an error, tower-http's `TimeoutLayer` with a 408, and both are
//! failures.
//!
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, service_fn};
//! use tower_breaker::{CircuitBreakerLayer, Store};
//!
//! let client = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
//! let users = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(Store::in_memory()).named("users"))
//!     .timeout(Duration::from_secs(2)) // below the circuit breaker: inside it
//!     .service(client);
//! # fn is_service(_: impl tower::Service<Request<()>>) {}
//! # is_service(users);
//! ```
//!
//! In axum the order of the `.layer(..)` calls is reversed: the layer that is added last is
//! outermost.
//!
//! A timeout outside the circuit breaker drops the call. The circuit cannot see why: a client that
//! closes its connection drops the call in the same way. Such a call is cancelled, and counts as
//! the policy [says](crate::policy::Cancelled): by default as a failure if it ran longer than the
//! policy's [`slow_call_duration`](crate::policy::PolicyBuilder::slow_call_duration), otherwise not.
//!
//! If the policy has a `slow_call_duration`, make a timeout outside longer than that: then each
//! hang is a failure. If it has none, or the timeout is shorter, three rules keep a hung upstream
//! from going unnoticed:
//!
//! - **No completions.** The circuit opens with the reason `no_completions` when
//!   [`minimum_calls`](crate::policy::PolicyBuilder::minimum_calls) calls in a row (20 by default)
//!   have been cancelled or have failed, the last of them cancelled, with no completed call between
//!   them. A call that completes starts the run anew, so clients that disconnect from time to time
//!   do not open the circuit of a healthy upstream. With a small `minimum_calls`, a few clients
//!   that disconnect can complete such a run. `Cancelled::Ignored` switches this rule off.
//! - **One warning.** After the first run of 10 cancelled calls that were not counted, the store
//!   logs one warning for the circuit: a timeout may be on the wrong side.
//! - **Calls that are still running.** With a
//!   [`slow_call_rate`](crate::policy::PolicyBuilder::slow_call_rate), as in most presets, a call
//!   counts as slow as soon as it has run for longer than `slow_call_duration`. So an upstream that
//!   never answers opens the circuit even if there is no timeout at all.
//!
//! Tests check each of these rules: `tests/it/stacks/timeouts.rs`.
//!
//! # Readiness
//!
//! The circuit breaker asks the circuit before the inner service: while the circuit is open, the
//! inner service is not touched. It takes a probe slot last, once the inner service is ready, so
//! that a call that cannot be made holds none. Three things follow:
//!
//! - If the inner service has become ready and another call took the last probe slot, what the
//!   inner service has reserved (a permit of a `ConcurrencyLimit`, for example) stays reserved in
//!   this clone until its next call or its drop: tower has no way to give readiness back.
//! - A service that is ready and not called holds its probe slot until it is dropped, and at most
//!   for one [lease](crate::policy::PolicyBuilder::probe_lease).
//! - In a mode that is ready while the circuit is open, a service that became ready then rejects
//!   its next call, even if the circuit has recovered meanwhile: the inner service is not ready.
//!
//! An error of the inner service's own `poll_ready` is passed on and not counted: there was no
//! call. A client that detects in `poll_ready` that its upstream is down should be ready and fail
//! the call instead, as tower's `Reconnect` does if a connection fails.
//!
//! A call without a preceding `poll_ready` does not panic in the circuit breaker: it asks the
//! circuit, and calls the inner service, ready or not. The inner service may panic, as tower's
//! contract allows.
//!
//! # Waiting for the cluster
//!
//! If the store has a [backend](crate::backend), `poll_ready` is pending in two cases: while a
//! circuit that is new in this process loads its state, and while the backend is asked for a probe
//! slot. Each time it is ready within the store's [deadline](crate::StoreBuilder::deadline), 50 ms
//! by default. If there is no answer by then, a new circuit starts closed, and a call that would
//! have been a probe is rejected. If the backend still does not answer, calls stop waiting for it,
//! and the circuits of this process decide without it.

mod body;
mod choices;
mod decimal;
mod future;
pub mod grpc;
pub mod key;
mod keyed;
pub(crate) mod layer;
mod macros;
pub mod on_rejected;
mod respond_to_rejected;
#[cfg(feature = "tower")]
mod retry;
#[expect(clippy::module_inception, reason = "the service, in the module of the middleware")]
pub(crate) mod service;
pub mod until;

pub use body::ObservedBody;
pub use future::ResponseFuture;
pub use keyed::{KeyedCircuitBreaker, KeyedFuture};
pub use respond_to_rejected::{RespondToRejected, RespondToRejectedFuture, RespondToRejectedLayer};
#[cfg(feature = "tower")]
pub use retry::{MaybeRejected, RetryUnlessRejected};
