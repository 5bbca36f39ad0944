//! The Redis backend. What it stores, and what it guarantees: `docs/redis.md`.

mod address;
mod client;
mod clocks;
mod codec;
mod config;
mod fault;
mod link;
mod listen;
mod pushing;
mod scripts;
mod setup;
#[cfg(feature = "redis-tls")]
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{
    Answer, Backend, BackendError, Batch, Changes, Group, Heartbeat, Impairment, Lease, Move,
    Notice, OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};
use crate::machine::HistoryEntry;
use crate::name::CircuitName;
use codec::{BatchRequest, Request};
use link::{Call, Link};
use scripts::{
    ACQUIRE, HEARTBEAT, HISTORY, OVERRIDE, REPLICAS, RESTORE, SETTLE, SYNC, Script, TRANSITION,
    WATCH,
};

pub(crate) use config::Part;
pub use config::{RedisConfig, RedisConfigError};

/// The longest time that [`RedisBackend::connect`] waits.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest time that `QUIT` may take.
const QUIT: Duration = Duration::from_millis(500);

/// A backend in Redis 6.2 or later, or Valkey: one server, one behind Sentinel, or a Cluster.
///
/// All clones share one connection (in a Cluster, one per node). It is closed when the last clone
/// is dropped.
///
/// A circuit is one hash while there is something to say of it, plus one more while it has an
/// override. Each operation is one script. The scripts contain no rules but those of half-open
/// rounds, as [`Backend`] requires. `docs/redis.md` describes guarantees, sizing and permissions.
///
/// # When Redis does not answer
///
/// A request for a probe, which a call waits for, takes at most as long as the
/// [command timeout](RedisConfig::command_timeout) of each of its commands; each command of anything
/// else takes a second, or as long as that if it is longer. Most operations are one command, and
/// none is more than five. Without a connection, an operation fails at once, with the reason. The
/// backend reconnects for as long as it takes, and then publishes a [gap](Notice::Gap). At most 256
/// operations run at once; more fail at once.
///
/// # Cancellation
///
/// After a timeout, or after its future was dropped, a command has no effect if the server runs it
/// late: each command contains the server's time until which it may act, one timeout after it was
/// sent. The result of a probe has no such limit, because it is valid whenever it arrives.
#[derive(Clone)]
pub struct RedisBackend {
    running: Arc<Running>,
}

struct Running {
    link: Arc<Link>,
    runtime: Handle,
    listener: AbortHandle,
    connection: AbortHandle,
}

impl RedisBackend {
    /// Connects, and fails if that takes longer than two seconds. Use it for services that must not
    /// start without Redis.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration cannot work, the server does not answer, refuses the
    /// credentials, is too old, or denies a permission that is needed. The message says which.
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub async fn connect(config: &RedisConfig) -> Result<Self, BackendError> {
        let backend = Self::start(config)?;
        let link = &backend.running.link;
        let checked = async {
            link.subscribed().await?;
            link.check().await
        };
        timeout(CONNECT, checked).await.unwrap_or_else(|_| Err(link.why()))?;
        Ok(backend)
    }

    /// Starts to connect in the background, and retries until it succeeds. Use it for services that
    /// must be able to start without Redis.
    ///
    /// Until there is a connection, operations fail with the reason.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration cannot work.
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub fn start(config: &RedisConfig) -> Result<Self, BackendError> {
        let client = client::client(config)?;
        let link = Arc::new(Link::new(client, config));
        let listener = tokio::spawn(listen::listen(link.clone())).abort_handle();
        let connection = link.client.connect().abort_handle();
        let running = Running { link, runtime: Handle::current(), listener, connection };
        Ok(Self { running: Arc::new(running) })
    }

    /// Waits until there is a connection, but at most for `within`. Returns whether there is one.
    ///
    /// A store that is built before there is one starts degraded: the first call of each circuit
    /// may then pass although the cluster has opened the circuit.
    pub async fn ready(&self, within: Duration) -> bool {
        matches!(timeout(within, self.link().subscribed()).await, Ok(Ok(())))
    }

    fn link(&self) -> &Link {
        &self.running.link
    }

    /// Returns a script on one circuit.
    fn call(&self, script: &'static Script, circuit: &CircuitName, request: &Request) -> Call {
        let link = self.link();
        let mut keys = link.keys.group(Group::of(circuit));
        keys.extend(link.keys.circuit(circuit));
        keys.push(link.keys.history(circuit));
        Call { script, keys, request: request.json(), timeout: link.background_timeout }
    }

    async fn run(&self, call: Call) -> Result<View, BackendError> {
        Ok(self.link().run(&call).await?.view()?.0)
    }

    /// Returns a script on the replicas.
    fn replicas_call(&self, script: &'static Script, request: &Request) -> Call {
        let link = self.link();
        let (keys, request) = (link.keys.replicas(), request.json());
        Call { script, keys, request, timeout: link.background_timeout }
    }
}

impl Backend for RedisBackend {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        Box::pin(async move {
            let link = self.link();
            let (request, circuits) = BatchRequest::of(batch);
            let mut keys = link.keys.group(group);
            for circuit in circuits {
                if Group::of(circuit) != group {
                    return Err(BackendError::refused(
                        "a circuit of the batch is of another group",
                    ));
                }
                keys.extend(link.keys.circuit(circuit));
            }
            let (request, timeout) = (request.json(), link.background_timeout);
            let call = Call { script: &SYNC, keys, request, timeout };
            Ok(link.run(&call).await?.changes())
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        let request = Request::transition(circuit, from, to);
        Box::pin(self.run(self.call(&TRANSITION, circuit, &request)))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        Box::pin(async move {
            let request = Request::acquire(circuit, generation, nonce);
            let call = self.call(&ACQUIRE, circuit, &request);
            let call = Call { timeout: self.link().timeout, ..call };
            let (view, remaining) = self.link().run(&call).await?.view()?;
            let generation = view.generation;
            Ok((remaining.map(|remaining| Lease { generation, nonce, remaining }), view))
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        Box::pin(async move {
            let request = Request::settle(circuit, lease, result);
            let call = self.call(&SETTLE, circuit, &request);
            Ok(self.link().run_whenever(&call).await?.view()?.0)
        })
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        let request = Request::restore(circuit, view);
        Box::pin(self.run(self.call(&RESTORE, circuit, &request)))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        let request = Request::set_override(circuit, change);
        Box::pin(self.run(self.call(&OVERRIDE, circuit, &request)))
    }

    fn history<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, Option<Vec<HistoryEntry>>> {
        let call = self.call(&HISTORY, circuit, &Request::history(circuit));
        Box::pin(async move { Ok(Some(self.link().run(&call).await?.history())) })
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        Box::pin(async move {
            let call = self.replicas_call(&HEARTBEAT, &Request::heartbeat(heartbeat));
            Ok(self.link().run_heartbeat(&call).await?.roster())
        })
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        Box::pin(async {
            let call = self.replicas_call(&REPLICAS, &Request::default());
            Ok(self.link().run(&call).await?.replicas())
        })
    }

    fn watch(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let call = self.replicas_call(&WATCH, &Request::default());
            self.link().run(&call).await?;
            self.link().pushing.watch();
            self.link().follow_watching().await
        })
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            if circuits.len() > codec::MAX_CIRCUITS {
                return Err(BackendError::refused("the circuits are more than 64 KiB"));
            }
            self.link().publish_circuits(&codec::circuits_message(sender, circuits)).await
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.link().notices.subscribe()
    }

    fn impairments(&self) -> Vec<Impairment> {
        let link = self.link();
        link.pushing.impairments(link.client.is_connected())
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.running.listener.abort();
            self.link().broken(BackendError::unavailable("the connection to redis was closed"));
            quit(self.link().client.clone(), self.running.connection.clone()).await;
            Ok(())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
        // The client does not stop when it is dropped. Without the runtime it has stopped already.
        self.runtime.spawn(quit(self.link.client.clone(), self.connection.clone()));
    }
}

async fn quit(client: Client, connection: AbortHandle) {
    // Whether or not the server receives it: the connection ends with the task.
    let _ = timeout(QUIT, client.quit()).await;
    connection.abort();
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.link().status.borrow().clone();
        f.debug_struct("RedisBackend").field("status", &status).finish_non_exhaustive()
    }
}
