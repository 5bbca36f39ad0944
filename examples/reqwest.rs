//! reqwest's client behind a circuit breaker, in two ways.
//!
//! ```sh
//! cargo run --example reqwest
//! ```
//!
//! Expect twice the same from a server that fails three times: its 500 come through, after them calls
//! that are not made for a second, then a good answer, by a probe.
//!
//! - *As it is*: `reqwest::Client` is a service. To it a 500 is a response like any other, so the
//!   classifier is told where status and headers are: without that this does not compile. An open
//!   circuit is an error.
//! - *In http's types*, as other tower layers have them: the default classifier knows what fails, a
//!   circuit for each host is a word more, and an open one is a 503 like another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use reqwest::{Body, Client, Request, Response};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_breaker::service::key::Authority;
use tower_breaker::{CircuitBreakerLayer, HttpStatus, Policy, Rejected, Store};

/// Fails three times, and is well from then on.
async fn upstream() -> Result<String, BoxError> {
    let calls = Arc::new(AtomicU32::new(0));
    let answer = get(move || async move {
        match calls.fetch_add(1, Relaxed) {
            ..3 => Err(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Ok("well"),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = Router::new().route("/", answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

/// reqwest's client as it is.
fn as_it_is(
    http: Client,
    store: &Store,
) -> impl Service<Request, Response = Response, Error = BoxError> + Clone {
    let status = HttpStatus::of(Response::status).with_headers(Response::headers);
    ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(CircuitBreakerLayer::new(store.clone()).named("users").classify(status))
        .service(http)
}

/// reqwest's client in http's types, with a circuit for each host.
fn in_https_types(
    http: Client,
    store: &Store,
) -> impl Service<http::Request<Body>, Response = http::Response<Body>, Error = reqwest::Error> + Clone
{
    let client = service_fn(move |request: http::Request<Body>| {
        let http = http.clone();
        async move { http.execute(request.try_into()?).await.map(http::Response::from) }
    });
    ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(store.clone()).named("out").respond().keyed_by(Authority))
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

    println!("as it is");
    let url = upstream().await?;
    let client = as_it_is(http.clone(), &store);
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

    println!("in http's types");
    let url = upstream().await?;
    let client = in_https_types(http, &store);
    for _ in 0..8 {
        let request = http::Request::get(&url).body(Body::default())?;
        let response = client.clone().oneshot(request).await?;
        match response.extensions().get::<Rejected>() {
            Some(open) => println!("  {}, and not even tried: {open}", response.status()),
            None => println!("  {}", response.status()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
