//! An axum server with a circuit breaker around each of two routes, in two ways.
//!
//! ```sh
//! cargo run --example axum -- --demo    # calls itself, and ends after two seconds
//! cargo run --example axum              # serves on 127.0.0.1:3000 until ctrl-c
//! ```
//!
//! While its circuit is open, `/users` responds with a 503 (`.respond()`). `/orders` has a timeout,
//! and axum's `HandleErrorLayer` makes its responses. Both routes call one upstream. `POST /break`
//! makes it fail, `POST /repair` makes it work again. Three failures open a circuit; after that
//! each response says when to come back:
//!
//! ```sh
//! curl -X POST localhost:3000/break
//! curl -i localhost:3000/users          # four times: 502, 502, 502, 503
//! ```
//!
//! The demo sends these requests itself, and waits as long as `retry-after` says. Indented lines
//! are what the client sees. The others are the server's log, with a warning when a circuit opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_breaker::{CircuitBreakerLayer, Error, Policy, Store};

fn app(store: &Store) -> Router {
    // An open circuit is a response. The route needs nothing else.
    let users = CircuitBreakerLayer::new(store.clone()).named("users").respond();

    // An open circuit is an error, and so is a timeout: `explain` makes the responses. The timeout
    // is inside the circuit breaker, so a call that takes too long counts as a failure.
    let orders = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(explain))
        .layer(CircuitBreakerLayer::new(store.clone()).named("orders"))
        .timeout(Duration::from_secs(5));

    // `route_layer`, not `layer`: the router makes 405s, which must not count as successes.
    Router::new()
        .route("/users", get(fetch).route_layer(users))
        .route("/orders", get(fetch).route_layer(orders))
        .route("/break", post(async |State(upstream): State<Upstream>| upstream.set_broken(true)))
        .route("/repair", post(async |State(upstream): State<Upstream>| upstream.set_broken(false)))
        .with_state(Upstream::default())
}

/// Makes the response to an order that was rejected, or timed out.
async fn explain(error: Error<BoxError>) -> Response {
    match error {
        // The call was not made, so the client may safely repeat it.
        Error::Rejected(open) => {
            let seconds = open.retry_after_seconds();
            let header = seconds.map(|seconds| [(header::RETRY_AFTER, seconds.to_string())]);
            (StatusCode::SERVICE_UNAVAILABLE, header, "no orders now, try later\n").into_response()
        }
        Error::Inner(error) => (StatusCode::GATEWAY_TIMEOUT, format!("{error}\n")).into_response(),
    }
}

/// Calls the upstream, for both routes. A failure becomes a 5xx, which the circuit breaker counts.
async fn fetch(State(upstream): State<Upstream>) -> Result<&'static str, StatusCode> {
    upstream.ask().await.map_err(|Broken| StatusCode::BAD_GATEWAY)
}

/// Stands for a database, or for another service.
#[derive(Clone, Default)]
struct Upstream {
    broken: Arc<AtomicBool>,
}

struct Broken;

impl Upstream {
    async fn ask(&self) -> Result<&'static str, Broken> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if self.broken.load(Relaxed) { Err(Broken) } else { Ok("done\n") }
    }

    fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt::init();
    if std::env::args().any(|argument| argument == "--demo") {
        return demo().await;
    }
    let app = app(&store(Duration::from_secs(10))?);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("serving on http://{}; ctrl-c ends it", listener.local_addr()?);
    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    Ok(axum::serve(listener, app).with_graceful_shutdown(ctrl_c).await?)
}

/// One store for the program, with a policy for all its circuits.
fn store(open_for: Duration) -> Result<Store, BoxError> {
    let policy = Policy::builder().consecutive_failures(3).open_for(open_for).build()?;
    Ok(Store::builder().default_policy(policy).build())
}

/// Makes the upstream fail until the circuits open, repairs it, and waits until they close.
async fn demo() -> Result<(), BoxError> {
    let app = app(&store(Duration::from_millis(1_800))?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let visitor = Visitor::new(format!("http://{}", listener.local_addr()?));
    tokio::spawn(async move { axum::serve(listener, app).await });

    println!("the upstream works:");
    visitor.get_both().await?;

    visitor.post("/break").await?;
    println!("\nthe upstream fails; three failures open a circuit:");
    for _ in 0..3 {
        visitor.get_both().await?;
    }

    println!("\nthe circuits are open; no call reaches the upstream:");
    let wait = visitor.get_both().await?;

    visitor.post("/repair").await?;
    println!("\nthe upstream works again; {wait} s later calls are probes:");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    for _ in 0..2 {
        visitor.get_both().await?;
    }

    println!("\ntwo successful probes closed the circuits");
    Ok(())
}

/// A client of the server.
struct Visitor {
    client: Client<HttpConnector, Empty<Bytes>>,
    url: String,
}

impl Visitor {
    fn new(url: String) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), url }
    }

    async fn post(&self, path: &str) -> Result<(), BoxError> {
        self.send(Method::POST, path).await?;
        Ok(())
    }

    /// Calls both routes, prints the responses, and returns the longest `retry-after` in seconds.
    async fn get_both(&self) -> Result<u64, BoxError> {
        let mut longest = 0;
        for path in ["/users", "/orders"] {
            let (head, body) = self.send(Method::GET, path).await?.into_parts();
            print!("  GET {path:7}  {}", head.status);
            if let Some(wait) = head.headers.get(header::RETRY_AFTER) {
                print!(", retry-after: {}", wait.to_str()?);
                longest = longest.max(wait.to_str()?.parse()?);
            }
            println!(", {:?}", body.trim_end());
        }
        Ok(longest)
    }

    async fn send(&self, method: Method, path: &str) -> Result<http::Response<String>, BoxError> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let (head, body) = self.client.request(request.body(Empty::new())?).await?.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().into())?;
        Ok(http::Response::from_parts(head, body))
    }
}
