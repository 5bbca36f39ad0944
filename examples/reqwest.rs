//! reqwest's client behind a circuit breaker, in two ways.
//!
//! ```sh
//! cargo run --example reqwest
//! ```
//!
//! Expect the same output twice. The server fails three times, so three calls return 500. They open
//! the circuit, and for a second it rejects calls. Then a probe succeeds.
//!
//! - *reqwest's types*: `reqwest::Client` is a service. A 500 is an `Ok` for it, so the classifier
//!   needs to know where status and headers are; without them this does not compile. An open
//!   circuit is an error.
//! - *http's types*, as other tower layers use them: the default classifier works, each host has a
//!   circuit, and an open circuit is a 503.
//!
//! docs/recipes.md adds retries, and shows how to keep `.send()`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use reqwest::{Body, Client, Request, Response};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_breaker::service::key::Authority;
use tower_breaker::{CircuitBreakerLayer, HttpStatus, Policy, Rejected, Store};

/// Starts a server that fails three times and then works. Returns its URL.
async fn upstream() -> Result<String, BoxError> {
    let calls = Arc::new(AtomicU32::new(0));
    let answer = get(move || async move {
        match calls.fetch_add(1, Relaxed) {
            ..3 => Err(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Ok("hello"),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = Router::new().route("/", answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

/// The client in reqwest's types.
fn in_reqwests_types(
    http: Client,
    store: Store,
) -> impl Service<Request, Response = Response, Error = BoxError> + Clone {
    let status = HttpStatus::of(Response::status).with_headers(Response::headers);
    ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(CircuitBreakerLayer::new(store).named("users").classify(status))
        .service(http)
}

/// The client in http's types, with a circuit for each host.
fn in_https_types(
    http: Client,
    store: Store,
) -> impl Service<http::Request<Body>, Response = http::Response<Body>, Error = reqwest::Error> + Clone
{
    let client = service_fn(move |request: http::Request<Body>| {
        let http = http.clone();
        async move { http.execute(request.try_into()?).await.map(http::Response::from) }
    });
    ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(store).named("out").respond().keyed_by(Authority))
        .service(client)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let policy = Policy::builder()
        .consecutive_failures(3)
        .open_for(Duration::from_secs(1))
        .jitter(0.0)
        .successes_to_close(1)
        .build()?;
    let store = Store::builder().default_policy(policy).build();
    let http = Client::builder().timeout(Duration::from_secs(5)).build()?;

    println!("reqwest's types");
    let url = upstream().await?;
    let client = in_reqwests_types(http.clone(), store.clone());
    for _ in 0..8 {
        let request = Request::new(reqwest::Method::GET, url.parse()?);
        match client.clone().oneshot(request).await {
            Ok(response) => println!("  {}: {:?}", response.status(), response.text().await?),
            Err(error) => match Rejected::find_in(&*error) {
                Some(open) => println!("  not even tried: {open}"),
                None => println!("  failed: {error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    println!("http's types");
    let url = upstream().await?;
    let client = in_https_types(http, store);
    for _ in 0..8 {
        let request = http::Request::get(&url).body(Body::default())?;
        let response = client.clone().oneshot(request).await?;
        match response.extensions().get::<Rejected>() {
            Some(open) => println!("  {}, not even tried: {open}", response.status()),
            None => println!("  {}", response.status()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
