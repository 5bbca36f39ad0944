//! Two replicas of a service under load, whose upstreams fail, slow down and recover; and the page on
//! which operators see it and act.
//!
//! ```sh
//! cargo run --features admin,redis --example admin
//! ```
//!
//! It starts a `redis-server` (Debian package `redis-server`), upstreams on loopback, and two
//! replicas, and prints the address of the page of each. With `CIRCUIT_BREAKER_REDIS_URL` it uses
//! that Redis instead. It runs until ctrl-c. An optional argument is the port of the first page; the
//! second one has the next port. Without it, the system chooses.

#![expect(
    clippy::disallowed_methods,
    reason = "the lint is for the crate; this is a program that uses it"
)]

mod load;
mod redis;
mod upstream;

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::ConnectInfo;
use http::header;
use http::request::Parts;
use redis::Redis;
use tokio::net::TcpListener;
use tower_breaker::Store;
use tower_breaker::admin::{AdminService, Denied, Operator};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let first = std::env::args().nth(1).map(|port| port.parse::<u16>()).transpose();
    let first = first.context("the argument is the port of the first page")?;
    let redis = Redis::from_env_or_start().await?;
    let upstream = upstream::start().await?;
    let mut pages = tokio::task::JoinSet::new();
    for n in 0..2 {
        let store = store(&redis, &format!("orders-{}", n + 1)).await?;
        load::start(&store, &upstream)?;
        let listener = TcpListener::bind(("127.0.0.1", first.map_or(0, |port| port + n))).await?;
        println!("replica orders-{}: http://{}/admin/", n + 1, listener.local_addr()?);
        pages.spawn(serve(listener, store));
    }
    println!("payments and search fail or slow down for a while in each minute; ctrl-c ends it");
    tokio::select! {
        done = pages.join_next() => done.context("there are pages")??,
        done = tokio::signal::ctrl_c() => Ok(done?),
    }
}

async fn store(redis: &Redis, replica: &str) -> anyhow::Result<Store> {
    let backend = redis.connect().await?;
    let builder = Store::builder().replica(replica).backend(backend);
    Ok(builder.default_policy(load::policy()?).critical("ledger").build())
}

async fn serve(listener: TcpListener, store: Store) -> anyhow::Result<()> {
    let admin = AdminService::new(store).title("orders").authorise(|request| {
        let operator = local_operator(request);
        async { operator }
    });
    let app = Router::new().nest_service("/admin", admin);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, app).await?)
}

/// Admits operators on this machine.
///
/// The address is not enough: a page in the operator's browser comes from this machine too. A page
/// of another origin is refused anyway; but one whose name has come to mean 127.0.0.1 (DNS rebinding)
/// is of the same origin, and only the name of the host gives it away.
fn local_operator(request: &Parts) -> Result<Operator, Denied> {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.rsplit_once(':')).map(|(name, _)| name);
    if !peer.is_some_and(|ConnectInfo(peer)| peer.ip().is_loopback()) {
        return Err(Denied::new("only operators on this machine may do that"));
    }
    if !matches!(host, Some("127.0.0.1" | "localhost")) {
        return Err(Denied::new("the page must be opened at 127.0.0.1 or localhost"));
    }
    let user = std::env::var("USER").unwrap_or_default();
    Ok(Operator::new(if user.is_empty() { "local operator" } else { &user }))
}
