//! The Redis backend. What it stores, and what it guarantees: `docs/redis.md`.

mod address;
mod client;
mod codec;
mod config;
mod fault;
mod link;
mod listen;
mod scripts;
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
    Answer, Backend, BackendError, Lease, Move, Notice, OverrideRecord, Probed, Report, View,
};
use crate::name::CircuitName;
use codec::Args;
use link::Link;
use scripts::{ACQUIRE, IMPOSE, LOAD, REPORT, RESTORE, SETTLE, TRANSITION};

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
/// A circuit is one hash, plus one more while it has an override. Each operation is one script on
/// these. The scripts contain no rules but those of half-open rounds, as [`Backend`] requires.
/// `docs/redis.md` describes guarantees, sizing and permissions.
///
/// # When Redis does not answer
///
/// An operation takes at most as long as its commands' [timeout](RedisConfig::command_timeout);
/// most operations are one command, and none is more than five. Without a connection, an operation
/// fails at once, with the reason. The backend reconnects for as long as it takes, and then
/// publishes a [gap](Notice::Gap). At most 256 operations run at once; more fail at once.
///
/// # Cancellation
///
/// After a timeout, or after its future was dropped, a command has no effect if the server runs it
/// late: each command contains the server's time until which it may act, at most two timeouts after
/// it was sent. The result of a probe has no such limit, because it is valid whenever it arrives.
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
    /// Until there is a connection, operations fail, and [`ping`](Backend::ping) returns the
    /// reason.
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
}

impl Backend for RedisBackend {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        Box::pin(async { Ok(self.link().run(&LOAD, circuit, Args::default()).await?.0) })
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        Box::pin(async {
            let args = Args::default().report(report);
            Ok(self.link().run(&REPORT, circuit, args).await?.0)
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        Box::pin(async move {
            let args = Args::default().number(from).transition(to);
            Ok(self.link().run(&TRANSITION, circuit, args).await?.0)
        })
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        Box::pin(async move {
            let args = Args::default().number(generation).nonce(nonce);
            let (view, remaining) = self.link().run(&ACQUIRE, circuit, args).await?;
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
            let args = Args::default().number(lease.generation).nonce(lease.nonce).probed(result);
            self.link().run_whenever(&SETTLE, circuit, args).await
        })
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        Box::pin(async {
            let args = Args::default().view(view);
            Ok(self.link().run(&RESTORE, circuit, args).await?.0)
        })
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        record: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        Box::pin(async move {
            let args = Args::default().override_record(record);
            Ok(self.link().run(&IMPOSE, circuit, args).await?.0)
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.link().notices.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(self.link().ping(self.link().timeout))
    }

    fn warning(&self) -> Option<String> {
        self.link().warning()
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
