//! The processes of the replicas, and their output.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A line of output: when, of which replica, and the text.
pub(crate) type Line = (Instant, usize, String);

pub(crate) struct Team {
    replicas: Vec<(Child, ChildStdin)>,
    output: mpsc::UnboundedReceiver<Line>,
    /// Lines that no method has returned yet.
    unread: Vec<Line>,
}

impl Team {
    pub(crate) fn start(replicas: usize, upstream: &str, redis: &str) -> anyhow::Result<Self> {
        let (sender, output) = mpsc::unbounded_channel();
        let start = |replica| -> anyhow::Result<_> {
            let mut process = Command::new(std::env::current_exe()?)
                .arg(upstream)
                .env("CIRCUIT_BREAKER_REDIS_URL", redis)
                .env("CIRCUIT_BREAKER_REPLICA", format!("{replica}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let stdin = process.stdin.take().context("stdin is piped")?;
            let mut out = BufReader::new(process.stdout.take().context("stdout is piped")?).lines();
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Ok(Some(line)) = out.next_line().await {
                    let _ = sender.send((Instant::now(), replica, line));
                }
            });
            Ok((process, stdin))
        };
        let replicas = (0..replicas).map(start).collect::<Result<_, _>>()?;
        Ok(Self { replicas, output, unread: Vec::new() })
    }

    /// Returns the lines since the last call.
    pub(crate) fn lines(&mut self) -> Vec<Line> {
        while let Ok(line) = self.output.try_recv() {
            self.unread.push(line);
        }
        std::mem::take(&mut self.unread)
    }

    /// Waits until every replica has printed a line that starts with `start`.
    pub(crate) async fn until_all(&mut self, start: &str, within: Duration) -> anyhow::Result<()> {
        self.until(start, self.replicas.len(), within).await
    }

    /// Waits until one replica has.
    pub(crate) async fn until_any(&mut self, start: &str, within: Duration) -> anyhow::Result<()> {
        self.until(start, 1, within).await
    }

    async fn until(&mut self, start: &str, many: usize, within: Duration) -> anyhow::Result<()> {
        let mut seen = vec![false; self.replicas.len()];
        let see = async {
            while seen.iter().filter(|seen| **seen).count() < many {
                let line = self.output.recv().await.context("the replicas have ended")?;
                seen[line.1] |= line.2.starts_with(start);
                self.unread.push(line);
            }
            Ok(())
        };
        timeout(within, see).await.with_context(|| format!("waited {within:?} for {start:?}"))?
    }

    /// Returns the totals of each replica since the last call.
    pub(crate) async fn report(&mut self) -> anyhow::Result<Vec<String>> {
        for (_, stdin) in &mut self.replicas {
            stdin.write_all(b"report\n").await?;
        }
        self.until_all("calls", Duration::from_secs(5)).await?;
        let (mut reports, rest): (Vec<_>, Vec<_>) =
            self.lines().into_iter().partition(|(_, _, line)| line.starts_with("calls"));
        self.unread = rest;
        reports.sort_by_key(|(_, replica, _)| *replica);
        Ok(reports.into_iter().map(|(_, _, line)| line).collect())
    }

    pub(crate) async fn stop(self) {
        for (mut process, stdin) in self.replicas {
            drop(stdin);
            if timeout(Duration::from_secs(2), process.wait()).await.is_err() {
                let _ = process.kill().await;
            }
        }
    }
}
