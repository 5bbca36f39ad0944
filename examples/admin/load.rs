//! The calls of a replica.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{ServiceBuilder, ServiceExt};
use tower_breaker::{CircuitBreakerLayer, Policy, PolicyError, Store};

const UPSTREAMS: [&str; 4] = ["payments", "search", "inventory", "ledger"];
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Between two calls of one upstream.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn policy() -> Result<Policy, PolicyError> {
    Policy::builder()
        .slow_call_duration(Duration::from_millis(200))
        .slow_call_rate(0.5)
        .open_for(Duration::from_secs(4))
        .build()
}

/// Calls all upstreams, again and again, through circuits of this store.
pub(crate) fn start(store: &Store, upstream: &str) -> anyhow::Result<()> {
    for name in UPSTREAMS {
        let client = ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(store.clone()).named(name))
            .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
        let url: axum::http::Uri = format!("{upstream}/{name}").parse()?;
        tokio::spawn(async move {
            loop {
                let request = Request::get(&url).body(Body::empty()).expect("the URL is valid");
                let client = client.clone();
                // What becomes of the call, the circuit counts.
                tokio::spawn(async move { drop(client.oneshot(request).await) });
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    let client = ServiceBuilder::new()
        .layer(
            CircuitBreakerLayer::new(store.clone())
                .named("tenants")
                .keyed_by_fn(|request: &Request<Body>| Some(request.uri().path()[1..].into())),
        )
        .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
    let upstream = upstream.to_owned();
    tokio::spawn(async move {
        for tenant in TENANTS.iter().cycle() {
            let url = format!("{upstream}/{tenant}");
            let request = Request::get(url).body(Body::empty()).expect("the URL is valid");
            let client = client.clone();
            tokio::spawn(async move { drop(client.oneshot(request).await) });
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}
