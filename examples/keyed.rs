//! One client calls three hosts, each with a circuit of its own. One host is down.
//!
//! ```sh
//! cargo run --example keyed
//! ```
//!
//! Expect ten rounds of calls to three hosts. The second host refuses connections. After three
//! failures its circuit opens, and the client does not call it any more. Calls to the other hosts
//! succeed. One circuit for all three would have stopped those too. At the end: the state of each
//! circuit.

use std::time::Duration;

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_breaker::service::key::Authority;
use tower_breaker::{CircuitBreakerLayer, Policy, Rejected, Store};

/// Starts a host; or one that is down, whose port refuses connections. Returns its URL.
async fn host(up: bool) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    if up {
        let app = Router::new().route("/", get(async || "hello\n"));
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let store = Store::builder()
        .default_policy(Policy::builder().consecutive_failures(3).build()?)
        // The keys may come from users, so the store bounds them. These are the defaults.
        .key_limit(10_000)
        .key_idle(Duration::from_secs(600))
        .build();
    let http: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(CircuitBreakerLayer::new(store.clone()).named("outbound").keyed_by(Authority))
        .service(http);

    let hosts = [host(true).await?, host(false).await?, host(true).await?];
    for round in 1..=10 {
        print!("round {round:2}:");
        for url in &hosts {
            let request = Request::get(url).body(Empty::new())?;
            let outcome = match client.clone().oneshot(request).await {
                Ok(response) => response.status().to_string(),
                Err(error) if Rejected::find_in(&*error).is_some() => "not even tried".to_owned(),
                Err(_) => "refused".to_owned(),
            };
            print!("  {outcome:14}");
        }
        println!();
    }
    for circuit in store.circuits() {
        println!("{}: {}", circuit.name(), circuit.state());
    }
    Ok(())
}
