//! reqwest's client behind a circuit breaker.
//!
//! ```sh
//! cargo run --example reqwest
//! ```
//!
//! Expect the server's three 500 to come through, and after them, for a second, calls that are not
//! made; then a good answer, by a probe. To reqwest a 500 is a response like any other, so the
//! classifier is told where the status is: without that this does not compile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use reqwest::{Client, Request, Response};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_breaker::{CircuitBreakerLayer, HttpStatus, Policy, Store, find_open};

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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let url = upstream().await?;
    let policy = Policy::builder()
        .consecutive_failures(3)
        .open_for(Duration::from_secs(1))
        .jitter(0)
        .successes_to_close(1)
        .build()?;
    let breaker = CircuitBreakerLayer::new(Store::in_memory())
        .named("users")
        .policy(policy)
        .classify(HttpStatus::of(Response::status));

    let http = Client::builder().timeout(Duration::from_secs(5)).build()?;
    let client = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(breaker)
        .service(service_fn(move |request: Request| http.execute(request)));

    for _ in 0..8 {
        let request = Request::new(reqwest::Method::GET, url.parse()?);
        match client.clone().oneshot(request).await {
            Ok(response) => println!("{}: {:?}", response.status(), response.text().await?),
            Err(error) => match find_open(&*error) {
                Some(open) => println!("not even tried: {open}"),
                None => println!("failed: {error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
