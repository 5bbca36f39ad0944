//! The Redis that the replicas share.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    /// Returns how many commands replicas have sent: scripts, and pings.
    pub(crate) async fn commands(&self) -> anyhow::Result<u64> {
        let server = self.url.strip_prefix("redis://").context("a plain URL")?;
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(b"INFO commandstats\r\nQUIT\r\n").await?;
        let mut stats = String::new();
        stream.read_to_string(&mut stats).await?;
        let calls = |command| {
            let line = stats.lines().find_map(|line| line.strip_prefix(command));
            line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let sent = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls=", "cmdstat_ping:calls="];
        Ok(sent.into_iter().map(calls).sum())
    }

    /// Stops the process of the server, or continues it.
    pub(crate) fn freeze(&self, freeze: bool) -> anyhow::Result<()> {
        let server =
            self.server.as_ref().context("only a server that this program started is frozen")?;
        let signal = if freeze { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &server.id().to_string()]).status()?;
        ensure!(done.success(), "kill {signal} failed");
        Ok(())
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
