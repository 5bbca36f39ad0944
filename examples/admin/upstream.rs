//! Upstreams that fail, slow down and recover, by a script of one minute.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

/// Starts them, and returns their address.
pub(crate) async fn start() -> anyhow::Result<String> {
    let app = Router::new().route("/{upstream}", get(answer)).with_state(Instant::now());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(format!("http://{address}"))
}

async fn answer(State(start): State<Instant>, Path(upstream): Path<String>) -> StatusCode {
    let second = start.elapsed().as_secs() % 60;
    let one_in = |n: u32| fastrand::u32(..n) == 0;
    let (takes, fails) = match upstream.as_str() {
        // It is down for a third of the minute, and shaky before that.
        "payments" => (20, (15..35).contains(&second) || (10..15).contains(&second) && one_in(4)),
        // It is slow for a while.
        "search" => (if (30..45).contains(&second) { 400 } else { 30 }, false),
        // It fails now and then, and never for long.
        "inventory" => (10, one_in(20)),
        // One tenant has a problem.
        "globex" => (15, (20..50).contains(&second)),
        _ => (5, false),
    };
    tokio::time::sleep(Duration::from_millis(takes + fastrand::u64(..takes))).await;
    if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}
