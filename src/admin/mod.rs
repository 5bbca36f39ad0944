//! Circuits for operators: a page, a JSON API and a stream of events, as a `tower` service.
//!
//! An [`AdminService`] nests in axum, and is a service for hyper and for every other server of
//! `tower` services. [docs/admin.md] explains how to mount it, how to admit operators, and what
//! proxies must do.
//!
//! In axum:
//!
//! ```
//! use axum::Router;
//! use tower_breaker::Store;
//! use tower_breaker::admin::AdminService;
//!
//! # async fn serve() -> std::io::Result<()> {
//! let store = Store::in_memory();
//! let admin = Router::new().nest_service("/admin", AdminService::new(store));
//! // A port of its own, which only operators reach:
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9090").await?;
//! axum::serve(listener, admin).await
//! # }
//! ```
//!
//! In hyper:
//!
//! ```
//! use hyper_util::rt::TokioIo;
//! use hyper_util::service::TowerToHyperService;
//! use tower_breaker::Store;
//! use tower_breaker::admin::AdminService;
//!
//! # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let admin = AdminService::new(Store::in_memory());
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     let service = TowerToHyperService::new(admin.clone());
//!     let server = hyper::server::conn::http1::Builder::new();
//!     tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
//! }
//! # }
//! ```
//!
//! # Paths
//!
//! | path | what it answers |
//! | --- | --- |
//! | `GET /` | the page |
//! | `GET /api/overview` | all circuits, what is wrong first; the backend and the replicas |
//! | `GET /api/circuits/{name}` | one circuit |
//! | `GET /api/circuits/{name}/history` | its [history](crate::circuit::History) |
//! | `GET /api/replicas` | the replicas that use the same backend |
//! | `GET /api/health` | the [health](crate::health) of the store |
//! | `GET /api/ready` | the same, with status 503 while a critical circuit rejects calls |
//! | `GET /events` | server-sent events: an overview, and then what changes |
//! | `POST /api/circuits/{name}/override` | sets an override: `{"state": "forced_open", "reason": "..", "lasting_ms": 600000}` |
//! | `POST /api/circuits/{name}/clear` | ends the override: `{}` |
//! | `POST /api/circuits/{name}/reset` | ends the override and closes the circuit: `{}` |
//! | `POST /api/circuits/{name}/policy` | changes settings of the policy in force in this process, by the names that [configurations](crate::config) have |
//! | `POST /api/reset` | closes all circuits that are not closed: `{"all": true}` |
//!
//! A name is percent-encoded. An error is a status and `{"error": ".."}`. HEAD works where GET does.
//! The answer to a write has the circuit as it is now, and whether the backend has stored the
//! change (`acknowledged`); it waits for that no longer than a second.
//!
//! # Security
//!
//! - **Reads are open** to every client that reaches the service. They show names, errors, and the
//!   reasons and names of operators, and no secret of this crate. If not all clients may read that,
//!   put a middleware of your own around the service, or serve it on a port of its own.
//! - **Writes are refused** unless an [authoriser](AdminService::authorise) admits the request. The
//!   actor of an override is the [`Operator`] that it returns, never a name from the request's body.
//! - **Pages of other origins cannot write.** A write is refused if its `Origin` is not its `Host`,
//!   if `Sec-Fetch-Site` says that it comes from another site, and if its content type is not
//!   `application/json`, which a form cannot send. There are no CORS headers. This does not replace
//!   an authoriser: a name that an attacker points at your address (DNS rebinding) is the same
//!   origin. An authoriser that trusts the client's address must check the `Host` too. Streams of
//!   events are refused to other origins as well, which would otherwise take all connections.
//! - **The page** runs under a Content-Security-Policy that permits its own style and script, by
//!   their hashes, and requests to its own origin; nothing else. It cannot be framed. Its answers
//!   are never stored by caches.
//! - **Texts from outside** (names, reasons, operators, errors) are JSON, and in no header. What is
//!   shown of them must be shown as text.
//! - **Bounds**: a body of 16 KiB, which has 10 seconds to arrive; 64
//!   [connections](AdminService::connections) for events; 1000 circuits in a message.
//!
//! # Cost
//!
//! Calls cost nothing more. Every five seconds, a task reads the totals of the circuits, each under
//! its lock, and keeps up to 2 KiB for each of at most 1000 that had calls in the last ten minutes.
//! While there are connections for events, a second task reads all
//! circuits once a second. It writes each event once for all connections; what waits to be read is
//! at most 4 MiB, and a connection that is further behind is ended. With a backend, the page has
//! every replica publish its circuits, as [`Store::watch`](crate::Store::watch) describes.
//!
//! Both tasks end when the last clone of the service is dropped.
//!
//! [docs/admin.md]: https://github.com/tower-breaker/tower-breaker/blob/main/docs/admin.md

mod body;
mod guard;
mod hub;
mod input;
mod inputs;
mod log;
mod of_store;
mod of_view;
mod operator;
mod page;
mod read;
mod respond;
mod routes;
mod said;
mod sampler;
mod samples;
mod seats;
mod service;
mod shared;
mod tasks;
mod views;
mod wire;
mod write;

pub use body::Body;
pub use operator::{Denied, Operator};
pub use service::{AdminService, ResponseFuture};
