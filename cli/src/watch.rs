//! What happens, as JSON lines.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{interval, timeout};
use tower_breaker::backend::{self, Backend, Notice, RedisBackend};
use tower_breaker::store::ReplicaCircuits;

use crate::circuits;
use crate::failure::Failure;
use crate::print::Output;
use crate::view::{as_json, millis, tally};

/// How often replicas are asked again to publish. They forget it after 15 seconds.
const RENEW: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    backend: &RedisBackend,
    lasting: Option<Duration>,
    out: &mut Output,
) -> Result<(), Failure> {
    match lasting {
        // That its time is over is how it should end.
        Some(lasting) => timeout(lasting, follow(backend, out)).await.unwrap_or(Ok(())),
        None => follow(backend, out).await,
    }
}

async fn follow(backend: &RedisBackend, out: &mut Output) -> Result<(), Failure> {
    // First, so that no change is missed between this and the list.
    let mut notices = backend.subscribe();
    list(backend, out).await?;
    let (mut renew, mut reads) = (interval(RENEW), false);
    loop {
        tokio::select! {
            _ = renew.tick() => match backend.watch().await {
                Ok(()) if reads => match list(backend, out).await {
                    Err(Failure::Failed(_)) => {}
                    done => {
                        done?;
                        reads = false;
                    }
                },
                Ok(()) => {}
                // It may answer later: the backend connects again.
                Err(error) => {
                    reads = true;
                    out.json(&event("unavailable", json!({ "error": error.to_string() })))?;
                }
            },
            notice = notices.recv() => match notice {
                Ok(Notice::Changed { circuit, view, .. }) => {
                    out.json(&event("changed", as_json(&circuit, &view)))?;
                }
                Ok(Notice::Circuits { sender, circuits }) => {
                    out.json(&event("replica", replica(ReplicaCircuits::new(sender, &circuits))))?;
                }
                // Some changes are missing: everything is listed again.
                Ok(Notice::Gap) | Err(RecvError::Lagged(_)) => {
                    out.json(&event("gap", json!({})))?;
                    reads = true;
                    renew.reset_immediately();
                }
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn list(backend: &RedisBackend, out: &mut Output) -> Result<(), Failure> {
    for (name, circuit) in &backend::list(backend).await? {
        let value = match circuit {
            Ok(view) => as_json(name, view),
            Err(error) => circuits::unreadable(name, error),
        };
        out.json(&event("listed", value))?;
    }
    Ok(())
}

fn event(kind: &str, mut value: Value) -> Value {
    value["event"] = kind.into();
    value
}

fn replica(replica: ReplicaCircuits) -> Value {
    let circuits = replica.circuits.into_iter().map(|circuit| {
        json!({
            "circuit": circuit.name,
            "state": circuit.state.as_str(),
            "generation": circuit.generation,
            "since_ms": millis(circuit.since),
            "tally": tally(&circuit.tally),
            "detached": circuit.detached,
            "succeeded": circuit.succeeded,
            "failed": circuit.failed,
            "rejected": circuit.rejected,
        })
    });
    json!({ "replica": replica.name, "id": replica.id, "circuits": circuits.collect::<Vec<_>>() })
}
