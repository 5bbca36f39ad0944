//! The processes of the replicas, and what they say.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// When, which replica, what.
pub(crate) type Said = (Instant, usize, String);

pub(crate) struct Team {
    replicas: Vec<(Child, ChildStdin)>,
    lines: mpsc::UnboundedReceiver<Said>,
    /// What was said and not looked at yet.
    said: Vec<Said>,
}

impl Team {
    pub(crate) fn start(replicas: usize, upstream: &str, redis: &str) -> anyhow::Result<Self> {
        let (sender, lines) = mpsc::unbounded_channel();
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
        Ok(Self { replicas, lines, said: Vec::new() })
    }

    /// What was said since the last time.
    pub(crate) fn said(&mut self) -> Vec<Said> {
        while let Ok(said) = self.lines.try_recv() {
            self.said.push(said);
        }
        std::mem::take(&mut self.said)
    }

    /// Waits until every replica has said something that starts so, from now on.
    pub(crate) async fn until_all(&mut self, start: &str, within: Duration) -> anyhow::Result<()> {
        self.until(start, self.replicas.len(), within).await
    }

    /// Waits until one has.
    pub(crate) async fn until_any(&mut self, start: &str, within: Duration) -> anyhow::Result<()> {
        self.until(start, 1, within).await
    }

    async fn until(&mut self, start: &str, many: usize, within: Duration) -> anyhow::Result<()> {
        let mut heard = vec![false; self.replicas.len()];
        let hear = async {
            while heard.iter().filter(|heard| **heard).count() < many {
                let said = self.lines.recv().await.context("the replicas are gone")?;
                heard[said.1] |= said.2.starts_with(start);
                self.said.push(said);
            }
            Ok(())
        };
        timeout(within, hear).await.with_context(|| format!("waited {within:?} for {start:?}"))?
    }

    /// How the calls of each went since the last time.
    pub(crate) async fn report(&mut self) -> anyhow::Result<Vec<String>> {
        for (_, stdin) in &mut self.replicas {
            stdin.write_all(b"report\n").await?;
        }
        self.until_all("calls", Duration::from_secs(5)).await?;
        let (mut reports, rest): (Vec<_>, Vec<_>) =
            self.said().into_iter().partition(|(_, _, said)| said.starts_with("calls"));
        self.said = rest;
        reports.sort_by_key(|(_, replica, _)| *replica);
        Ok(reports.into_iter().map(|(_, _, said)| said).collect())
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
