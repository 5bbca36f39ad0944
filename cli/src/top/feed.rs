//! What happens in the cluster, as inputs of the model.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval};
use tower_breaker::backend::{self, Backend, BackendError, Notice, RedisBackend};
use tower_breaker::store::ReplicaCircuits;

use super::model::{Effect, Input};

/// How often the backend is asked for its replicas: so it is noticed when it does not answer.
const ASK: Duration = Duration::from_secs(1);

/// After so many of these, replicas are asked again to publish. They forget it after 15 seconds.
const RENEW: u64 = 5;

/// And after so many, all circuits are read again, in case a change was missed.
const READ: u64 = 15;

/// Reads until nothing wants its inputs any more.
pub(crate) async fn follow(backend: RedisBackend, inputs: Sender<Input>) {
    // First, so that no change is missed between this and the list.
    let mut notices = backend.subscribe();
    let mut asks = interval(ASK);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut number, mut reads) = (0_u64, true);
    loop {
        let input = tokio::select! {
            _ = asks.tick() => {
                reads |= number.is_multiple_of(READ);
                let renew = number.is_multiple_of(RENEW);
                number += 1;
                match ask(&backend, reads, renew, &inputs).await {
                    Ok(()) => {
                        reads = false;
                        continue;
                    }
                    Err(error) => {
                        // With the next answer, everything is read again.
                        (number, reads) = (0, true);
                        Input::Away(error)
                    }
                }
            }
            notice = notices.recv() => match notice {
                Ok(Notice::Changed { circuit, view, .. }) => {
                    Input::Changed(circuit.as_str().to_owned(), view)
                }
                Ok(Notice::Circuits { sender, circuits }) => {
                    Input::Published(ReplicaCircuits::new(sender, &circuits))
                }
                Ok(Notice::Gap) | Err(RecvError::Lagged(_)) => {
                    reads = true;
                    continue;
                }
                Err(RecvError::Closed) => return,
            },
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Reads what is due. Returns what the backend refuses, or that it does not answer.
async fn ask(
    backend: &RedisBackend,
    reads: bool,
    renew: bool,
    inputs: &Sender<Input>,
) -> Result<(), String> {
    let of = |error: BackendError| error.to_string();
    if renew {
        backend.watch().await.map_err(of)?;
    }
    let mut read = Vec::new();
    if reads {
        let circuits = backend::list(backend).await.map_err(of)?;
        let circuits = circuits.into_iter().map(|(name, circuit)| {
            (name.as_str().to_owned(), circuit.map_err(|error| error.to_string()))
        });
        read.push(Input::Listed(circuits.collect()));
    }
    read.push(Input::Replicas(backend.replicas().await.map_err(of)?));
    for input in read {
        // Without a reader, the next input ends the loop.
        let _ = inputs.send(input).await;
    }
    Ok(())
}

/// Does what the model wants done, and returns the answer.
pub(crate) async fn act(backend: RedisBackend, effect: Effect) -> Option<Input> {
    match effect {
        Effect::ReadPast(name) => {
            let entries = backend.history(&name).await;
            let entries = entries.map(Option::unwrap_or_default).map_err(|e| e.to_string());
            Some(Input::Past(name, entries))
        }
        Effect::Change(name, verb, change) => {
            let answer = backend.set_override(&name, &change).await;
            Some(Input::Done(name, verb, answer.map(Box::new).map_err(|e| e.to_string())))
        }
        Effect::Quit => None,
    }
}
