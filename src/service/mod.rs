//! The circuit breaker as tower middleware.
//!
//! # The plain case
//!
//! Any service of HTTP responses; an open circuit is an error of the service:
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
//! # Customised
//!
//! A service of something else, with a policy of its own, under a `Buffer`:
//!
//! ```
//! use std::time::Duration;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Policy, Store, Rejected};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # #[derive(Clone)] struct Order;
//! # async fn charge(_: Order) -> Result<u32, BoxError> { Err("down".into()) }
//! let policy = Policy::builder()
//!     .consecutive_failures(1)
//!     .slow_call_duration(Duration::from_secs(2))
//!     .build()?;
//! let payments = ServiceBuilder::new()
//!     .buffer(16)
//!     .layer(
//!         CircuitBreakerLayer::new(Store::in_memory())
//!             .named("payments")
//!             .policy(policy)
//!             .classify(ErrorsAsFailures)
//!             .reject_in_call(),
//!     )
//!     .service(service_fn(charge));
//! let error = payments.clone().oneshot(Order).await.unwrap_err();
//! assert_eq!(error.to_string(), "down");
//! let error = payments.oneshot(Order).await.unwrap_err();
//! assert!(Rejected::find_in(&*error).is_some());
//! # Ok(()) }
//! ```
//!
//! # Which mode
//!
//! | mode | an open circuit shows as | for |
//! | --- | --- | --- |
//! | default | `Err` from `poll_ready` | stacks that clone a service per request: axum, `oneshot`, reqwest |
//! | [`reject_in_call`](CircuitBreakerLayer::reject_in_call) | `Err` from the response future | `Buffer`, `Retry`, `Steer`, services that live long: there an error from `poll_ready` ends the service for good, or is not seen |
//! | [`respond`](CircuitBreakerLayer::respond) | a response: 503, or gRPC `UNAVAILABLE` | axum without `HandleErrorLayer`; hyper and tonic servers, where an error closes the connection; tonic clients, where an error is the code `Unknown` |
//! | [`wait_while_open`](CircuitBreakerLayer::wait_while_open) | a `poll_ready` that is pending | `Balance`, which passes over who is not ready |
//! | [`fallback`](CircuitBreakerLayer::fallback) | the reply of another service | cached and default replies |
//!
//! A [`RespondToRejectedLayer`] further out makes a response of an error, where something between is to see
//! the error.
//!
//! # Which mode under which layer
//!
//! What tower's layers do with an open circuit inside of them; in bold, the mode to take.
//! `respond` and `fallback` answer like an upstream: every layer passes that on.
//!
//! | layer | default | `reject_in_call` | `wait_while_open` |
//! | --- | --- | --- | --- |
//! | none, a clone for each request | **an error; recovers** | an error; recovers | waits |
//! | `Buffer` | **destructive**: every later call fails with the first error, for good | **an error for each call; recovers** | calls queue until the interval is over |
//! | `Retry` | an error, which ends the retries | **an error; with `RetryUnlessRejected` not retried** | waits |
//! | `Steer` | one open circuit fails all routes | **only calls to that route fail**, and [the first](CircuitBreakerLayer::reject_in_call) after it has recovered | one open circuit blocks all routes |
//! | `CallAll` | ends at the first rejection | **each request is answered** | waits |
//! | `Reconnect` | **destructive**: connects again without end or rest | **an error; the connection stays** | waits |
//! | `SpawnReady` | **an error; recovers** | an error; recovers | waits in a task of its own |
//! | `Balance` | **destructive**: drops the endpoint for good | goes on sending calls to it, which fail | **passes it over; takes it again** |
//! | `LoadShed` | **an error; recovers** | an error; recovers | sheds the call as overload |
//! | `Timeout`, `ConcurrencyLimit` | **an error; recovers** | an error; recovers | waits; no timeout covers readiness |
//!
//! `tests/it/under_tower.rs` holds each cell.
//!
//! [`keyed_by`](CircuitBreakerLayer::keyed_by), after any mode but `wait_while_open`, has a circuit for
//! each key of the requests: for clients of more hosts than one, for routes, for tenants.
//! [`observe_body`](CircuitBreakerLayer::observe_body) goes with `respond` and the modes of errors.
//!
//! # Where does my timeout go?
//!
//! Inside the circuit breaker. A call that hangs then fails, and the circuit counts it at once: tower's
//! `Timeout` ends it with an error, tower-http's `TimeoutLayer` with a 408, and both are failures.
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
//!     .timeout(Duration::from_secs(2)) // below the circuit breaker: inside of it
//!     .service(client);
//! # fn is_service(_: impl tower::Service<Request<()>>) {}
//! # is_service(users);
//! ```
//!
//! In axum that is the order of the `.layer(..)` calls turned round: the layer added last is outermost.
//!
//! A timeout outside the circuit breaker drops the call. The circuit does not see why: a client that
//! closes its connection drops the call just so. Such a call was cancelled, and counts as the policy
//! [says](crate::policy::Cancelled):
//!
//! | policy | a cancelled call |
//! | --- | --- |
//! | [`Cancelled::FailureIfSlow`](crate::policy::Cancelled::FailureIfSlow), the default | is a failure if it ran for the policy's [`slow_call_duration`](crate::policy::PolicyBuilder::slow_call_duration) or longer; otherwise, and where none is set, it is not counted |
//! | [`Cancelled::Failure`](crate::policy::Cancelled::Failure) | is a failure |
//! | [`Cancelled::Ignored`](crate::policy::Cancelled::Ignored) | is not counted |
//!
//! Where the policy has a `slow_call_duration`, make a timeout outside longer than that: then each hang is
//! a failure. Where it has none, or the timeout is shorter, three rules keep a hung upstream from going
//! unnoticed:
//!
//! - **No completions.** When [`minimum_calls`](crate::policy::PolicyBuilder::minimum_calls) calls in a row (20
//!   unless you say otherwise) have been cancelled or have failed, the last of them cancelled, and none has
//!   completed between them, the circuit opens with the reason `no_completions`. One call that completes
//!   starts the run anew, so that clients that leave now and then do not open the circuit of a healthy
//!   upstream. With a small `minimum_calls`, a few clients that leave are such a run. `Cancelled::Ignored` switches
//!   this rule off.
//! - **One warning.** When the first run of 10 cancelled calls has gone uncounted, the log says once that
//!   a timeout may be on the wrong side.
//! - **Calls that are still running.** With a [`slow_call_rate`](crate::policy::PolicyBuilder::slow_call_rate), as
//!   in most presets, a call that has been running for longer than `slow_call_duration` counts as slow
//!   while it runs. So an upstream that answers nothing opens the circuit even if there is no timeout at
//!   all.
//!
//! `tests/it/timeouts.rs` holds each of these.
//!
//! # Readiness
//!
//! The circuit is asked before the inner service: while it is open, the inner service is not
//! touched. A probe's place is taken last, once the inner service is ready, so that it is not held
//! by a call that cannot be made. Three things follow:
//!
//! - Where the inner service has become ready and the race for a probe is lost, what the inner
//!   service has reserved (a slot of a `ConcurrencyLimit`, say) stays reserved in this clone until
//!   its next call or its drop: tower has no way to give readiness back.
//! - A service that was readied and not called holds a probe's place until it is dropped, and at
//!   most as long as a [lease](crate::policy::PolicyBuilder::probe_lease).
//! - In a mode that is ready while the circuit is open, a service that was readied then rejects its next
//!   call, even if the circuit has recovered meanwhile: the inner service was not readied.
//!
//! An error of the inner service's own `poll_ready` is passed on, and counts nothing: there was no call.
//! A client that finds out there that its upstream is down should say so in its call, as tower's
//! `Reconnect` does with a connection that fails.
//!
//! Calling without readying does not panic here: the circuit is asked then and there, and the
//! inner service called as it is. What that one makes of it is its own contract.
//!
//! # Waiting for the cluster
//!
//! Where the store has a [backend](crate::backend), `poll_ready` is pending in two cases: when the
//! circuit is new in this process and its state is being loaded, and while a probe's place is asked for.
//! Each time it is ready within the store's [deadline](crate::StoreBuilder::deadline), 50 ms unless you
//! say otherwise. An answer that does not come in time is not waited for: a new circuit then starts
//! closed, and a call that would have been a probe is rejected. If the backend does not answer for long,
//! nothing waits for it any more: circuits of this process decide alone.

mod body;
mod combine;
mod fallback;
mod future;
pub mod key;
mod keyed;
pub(crate) mod layer;
mod respond;
mod respond_to_rejected;
#[cfg(feature = "tower")]
mod retry;
#[expect(clippy::module_inception, reason = "the service, in the module of the middleware")]
pub(crate) mod service;
mod wait;

pub use body::{ObserveBody, ObserveFuture, ObserveRespondFuture, ObservedBody};
pub use combine::{KeyableMode, ObservableMode};
pub use fallback::{Fallback, FallbackFuture, KeyedFallbackFuture};
pub use future::ResponseFuture;
pub use keyed::{KeyedCircuitBreaker, KeyedFuture, KeyedLayer, KeyedRespondFuture, Keyless};
pub use layer::Reject;
pub use respond::{DefaultBody, RejectionBody, Respond, RespondFuture};
pub use respond_to_rejected::{RespondToRejected, RespondToRejectedFuture, RespondToRejectedLayer};
#[cfg(feature = "tower")]
pub use retry::{MaybeRejected, RetryUnlessRejected};
pub use wait::WaitWhileOpen;
