//! One replica: calls the upstream a hundred times a second, and prints the events of its circuit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, BufReader};
use tower::{ServiceBuilder, ServiceExt};
use tower_breaker::config::Config;
use tower_breaker::event::{BackendStatus, Event};
use tower_breaker::{CircuitBreakerLayer, Error, Policy};

static PASSED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static REJECTED: AtomicU64 = AtomicU64::new(0);
static SLOWEST: AtomicU64 = AtomicU64::new(0);

pub(crate) async fn run(upstream: &str) -> anyhow::Result<()> {
    let policy = Policy::builder()
        .consecutive_failures(super::THRESHOLD as u64)
        .without_failure_rate()
        .open_for(Duration::from_millis(1500))
        .backoff(1.0, Duration::from_secs(5))
        .probes(super::PROBES as u64)
        .successes_to_close(3)
        .probe_lease(Duration::from_secs(1))
        .build()?;
    // The URL of the Redis comes from the environment.
    let store = Config::from_env()?
        .connect()
        .await?
        .default_policy(policy)
        .on_change(|_, event| match event {
            Event::Transition(change) => {
                println!("{} ({}, {})", change.to, change.reason, change.origin.as_str());
            }
            other => println!("{other:?}"),
        })
        .on_backend(|status| match status {
            BackendStatus::Degraded { .. } => println!("degraded: its circuits are detached"),
            other => println!("{other}"),
        })
        .build();
    let client = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(store).named("upstream"))
        .service(Client::builder(TokioExecutor::new()).build_http::<Body>());

    tokio::spawn(report());
    println!("ready");
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        let request = Request::get(upstream)
            .header("x-replica", std::env::var("CIRCUIT_BREAKER_REPLICA").unwrap_or_default())
            .body(Body::empty())?;
        let client = client.clone();
        tokio::spawn(async move {
            let start = Instant::now();
            let counter = match client.oneshot(request).await {
                Ok(response) if response.status().is_success() => &PASSED,
                Ok(_) | Err(Error::Inner(_)) => &FAILED,
                Err(Error::Rejected(_)) => &REJECTED,
            };
            counter.fetch_add(1, Relaxed);
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            SLOWEST.fetch_max(micros, Relaxed);
        });
    }
}

/// Prints the totals of the calls for each line of the input, and ends with the input.
async fn report() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {
        let [passed, failed, rejected, slowest] =
            [&PASSED, &FAILED, &REJECTED, &SLOWEST].map(|count| count.swap(0, Relaxed));
        let slowest = Duration::from_micros(slowest);
        println!(
            "calls: {passed} passed, {failed} failed, {rejected} rejected; the slowest took {slowest:.1?}"
        );
    }
    std::process::exit(0);
}
