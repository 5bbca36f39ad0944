//! Five processes share one circuit through Redis. They open it together, share its probes, and go
//! on while Redis is frozen.
//!
//! ```sh
//! cargo run --features redis --example cluster
//! ```
//!
//! It starts a `redis-server` (Debian package `redis-server`), an upstream, and five replicas,
//! which are processes of this same program. It ends after about 20 s. With
//! `CIRCUIT_BREAKER_REDIS_URL` it uses that Redis instead, and does not freeze it.

#![expect(
    clippy::disallowed_methods,
    reason = "the lint is for the crate; this is a program that uses it"
)]

mod redis;
mod replica;
mod team;
mod upstream;

use std::time::{Duration, Instant};

use anyhow::Context;
use redis::Redis;
use team::Team;
use upstream::Upstream;

const REPLICAS: usize = 5;

/// So many failures in a row, over the whole cluster, open the circuit.
const THRESHOLD: usize = 20;

/// So many probes at once are allowed, over the whole cluster.
const PROBES: usize = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if let Some(upstream) = std::env::args().nth(1) {
        return replica::run(&upstream).await;
    }
    let redis = Redis::from_env_or_start().await?;
    let upstream = Upstream::start().await?;
    let mut team = Team::start(REPLICAS, &upstream.url(), redis.url())?;
    team.until_all("ready", seconds(10)).await.context("the replicas should start")?;
    println!("{REPLICAS} replicas, their circuits closed, each makes 100 calls a second");
    wait(seconds(1)).await;
    if redis.is_ours() {
        upstream.take();
        let before = redis.commands().await?;
        wait(seconds(2)).await;
        let (commands, calls) = (redis.commands().await? - before, upstream.take().len());
        println!(
            "  in two seconds {calls} calls, and {commands} commands at Redis: heartbeats, polls"
        );
    }
    upstream.take();
    team.lines();

    println!("\nthe upstream fails");
    let start = Instant::now();
    upstream.fail(true);
    team.until_all("open", seconds(10)).await.context("all replicas should open")?;
    wait(milliseconds(50)).await;
    let (tripping, leaked) = upstream.after_failure(THRESHOLD).context("it opened too early")?;
    for (at, replica, line) in team.lines() {
        println!(
            "  {:>8.1} ms after failure {THRESHOLD}: replica {replica} {line}",
            ms(at, tripping)
        );
    }
    println!("  {leaked} calls reached the upstream after failure {THRESHOLD}");

    println!("\nthe open interval ends; probes find that the upstream still fails");
    team.until_any("open", seconds(10)).await.context("a probe should open it again")?;
    upstream.fail(false);
    println!("the upstream works again");
    team.until_all("closed", seconds(20)).await.context("all replicas should close")?;
    let (probes, at_once) = upstream.take_probes(PROBES + 3);
    for (at, replica, line) in team.lines() {
        println!("  {:>8.1} ms after the first failure: replica {replica} {line}", ms(at, start));
    }
    println!(
        "  probes were made by replicas {probes:?}; {at_once} at once at most, {PROBES} allowed"
    );

    if redis.is_ours() {
        println!("\nRedis is frozen for three seconds");
        team.report().await?;
        redis.freeze(true)?;
        team.until_all("degraded", seconds(10)).await.context("all replicas should notice")?;
        wait(seconds(3)).await;
        for (replica, report) in team.report().await?.into_iter().enumerate() {
            println!("  replica {replica}: {report}");
        }
        team.lines();
        redis.freeze(false)?;
        let thawed = Instant::now();
        println!("and thawed");
        team.until_all("connected", seconds(10)).await.context("all replicas should recover")?;
        for (at, replica, line) in team.lines() {
            println!("  {:>8.1} ms after that: replica {replica} {line}", ms(at, thawed));
        }
    }
    team.stop().await;
    Ok(())
}

fn ms(at: Instant, since: Instant) -> f64 {
    let late = at.saturating_duration_since(since).as_secs_f64();
    let early = since.saturating_duration_since(at).as_secs_f64();
    (late - early) * 1000.0
}

async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}
