//! The Redis that the replicas share.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use tower_breaker::backend::{RedisBackend, RedisConfig};

pub(crate) struct Redis {
    url: String,
    server: Option<Child>,
}

impl Redis {
    pub(crate) async fn from_env_or_start() -> anyhow::Result<Self> {
        if let Ok(url) = std::env::var("CIRCUIT_BREAKER_REDIS_URL") {
            return Ok(Self { url, server: None });
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server is not installed; on Debian: apt-get install redis-server")?;
        let redis = Self { url: format!("redis://127.0.0.1:{port}"), server: Some(server) };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(redis);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("redis-server did not start")
    }

    /// Each replica has a connection of its own, as a process would have.
    pub(crate) async fn connect(&self) -> anyhow::Result<RedisBackend> {
        Ok(RedisBackend::connect(&RedisConfig::from_url(&self.url)?).await?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may be gone already.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
