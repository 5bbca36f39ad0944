//! A ledger in Redis. What is kept there, and what it guarantees: `docs/redis.md`.

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

/// The most that [`RedisBackend::connect`] waits.
const CONNECT: Duration = Duration::from_secs(2);

/// The most that saying goodbye may take.
const QUIT: Duration = Duration::from_millis(500);

/// A ledger in Redis 6.2 or later, or Valkey: one server, one behind Sentinel, or a Cluster.
///
/// One connection (in a Cluster, one per node) does everything. Clones share it, and when the last
/// one is dropped it is closed.
///
/// A circuit is one hash, and beside it one more if a hand has set its state; each operation is one
/// script on those. Redis holds no rules but those of a half-open round, as the trait says.
///
/// # When Redis does not answer
///
/// No operation takes longer than its commands' [timeout](RedisConfig::command_timeout), of which
/// there is mostly one and never more than five; while there is no connection, each fails at once,
/// with the reason. The connection is made anew for as long as it takes, and a
/// [gap](Notice::Gap) is told when it is back. At most 256 operations are under way; more fail at
/// once.
///
/// # Cancellation
///
/// What was sent for a caller that has gone since, by a timeout or by dropping the future, has no
/// effect when the server gets to it only later: each command bears the server's time until which it
/// may act, at most two timeouts from when it was sent. The result of a probe bears none: it is right
/// whenever it comes.
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
    /// Connects, and fails if that cannot be done within two seconds: for services that would rather
    /// not start than start alone.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, does not let us in, is too old, or does not permit what is
    /// needed. The message says which.
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

    /// Starts to connect, in the background, for as long as it takes: for services that would rather
    /// start alone than not start. Until then operations fail, and [`ping`](Backend::ping) tells why.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(config: &RedisConfig) -> Result<Self, BackendError> {
        let client = client::client(config)?;
        let link = Arc::new(Link::new(client, config));
        let listener = tokio::spawn(listen::listen(link.clone())).abort_handle();
        let connection = link.client.connect().abort_handle();
        let running = Running { link, runtime: Handle::current(), listener, connection };
        Ok(Self { running: Arc::new(running) })
    }

    /// Waits until there is a connection, but no longer than `within`; tells whether there is one.
    ///
    /// A store that is built before that starts alone, so that the first call of its first circuits may
    /// pass although the cluster has opened them.
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
        // The client does not stop by being dropped. Without the runtime it has stopped already.
        self.runtime.spawn(quit(self.link.client.clone(), self.connection.clone()));
    }
}

async fn quit(client: Client, connection: AbortHandle) {
    // Whether or not the server hears it: the connection ends with the task.
    let _ = timeout(QUIT, client.quit()).await;
    connection.abort();
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.link().status.borrow().clone();
        f.debug_struct("RedisBackend").field("status", &status).finish_non_exhaustive()
    }
}
