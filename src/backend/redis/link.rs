//! The connection: what is sent, what is received, and what happens when there is no answer.
//!
//! While there is no connection, or the server hangs, the client queues without a bound, and a
//! queued command may run long after its caller has gone. So commands in flight are counted, none
//! is sent while there is no connection, each has the client's own timeout, and each script carries
//! the server's time after which it must not act.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, CustomCommand, FromValue, Value};
use fred::util::redis_keyslot;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::codec::{self, Args, Reply};
use super::config::RedisConfig;
use super::fault;
use super::scripts::{CHECK, Script};
use crate::backend::{BackendError, Notice, View};
use crate::clock;
use crate::name::CircuitName;

/// Enough for a burst; commands beyond it would only wait.
const MOST_IN_FLIGHT: usize = 256;

/// The timeout of commands that no caller waits for.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// After this many pings without an answer, a connection that seems alive is replaced.
const LOST_PINGS: u32 = 4;

/// Enough for a busy replica to catch up.
const NOTICES: usize = 1024;

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) status: watch::Sender<Status>,
    prefix: String,
    clustered: bool,
    pub(super) tls: bool,
    pub(super) timeout: Duration,
    in_flight: AtomicUsize,
    lost: AtomicU32,
    /// By slot, how far the server's clock is ahead of ours, in milliseconds. Nodes of a cluster
    /// have clocks of their own, and a slot has one node.
    ahead: Mutex<HashMap<u16, i64>>,
    caution: Mutex<Option<String>>,
}

#[derive(Clone, Debug)]
pub(super) enum Status {
    Connecting,
    Broken(BackendError),
    Subscribed,
}

impl Link {
    pub(super) fn new(client: Client, config: &RedisConfig) -> Self {
        Self {
            channel: format!("{}:views", config.prefix),
            notices: broadcast::channel(NOTICES).0,
            status: watch::channel(Status::Connecting).0,
            prefix: config.prefix.clone(),
            clustered: client.is_clustered(),
            tls: config.tls,
            timeout: config.command_timeout,
            client,
            in_flight: AtomicUsize::new(0),
            lost: AtomicU32::new(0),
            ahead: Mutex::default(),
            caution: Mutex::default(),
        }
    }

    /// Runs an operation that must not happen after its caller has gone.
    pub(super) async fn run(
        &self,
        verb: &Script,
        circuit: &CircuitName,
        args: Args,
    ) -> Result<(View, Option<Duration>), BackendError> {
        let _in_flight = self.begin_command()?;
        let key = codec::key(&self.prefix, circuit.as_str());
        let slot = self.slot(&key);
        for _ in 0..2 {
            let not_after = self.not_after(slot).await?;
            if let Some(said) = self.ask(verb, &key, circuit, not_after, &args).await? {
                return Ok(said);
            }
            // Its clock was not where we thought; now we know where it is.
        }
        Err(late())
    }

    /// Runs an operation that is as right late as now.
    pub(super) async fn run_whenever(
        &self,
        verb: &Script,
        circuit: &CircuitName,
        args: Args,
    ) -> Result<View, BackendError> {
        let _in_flight = self.begin_command()?;
        let key = codec::key(&self.prefix, circuit.as_str());
        let said = self.ask(verb, &key, circuit, 0, &args).await?;
        said.map(|(view, _)| view).ok_or_else(late)
    }

    async fn ask(
        &self,
        verb: &Script,
        key: &str,
        circuit: &CircuitName,
        not_after: u64,
        args: &Args,
    ) -> Result<Option<(View, Option<Duration>)>, BackendError> {
        let common = [
            key.to_owned(),
            format!("{key}:o"),
            circuit.to_string(),
            self.channel.clone(),
            not_after.to_string(),
        ];
        let all = common.into_iter().chain(args.0.iter().cloned()).collect();
        let slot = self.slot(key);
        let sent = now();
        let answer = self.eval(verb, slot, all).await?;
        let reply = Reply::parse(&answer)?;
        // Measured from the sending, it is too large by the time of the way there: a caller that
        // still waits is never refused, and a command whose caller has gone acts for no longer than
        // the timeout.
        self.ahead().insert(slot, reply.now.cast_signed() - sent.cast_signed());
        reply.said()
    }

    async fn eval(
        &self,
        script: &Script,
        slot: u16,
        args: Vec<String>,
    ) -> Result<String, BackendError> {
        let with = |script: &str| -> Vec<String> {
            [script.to_owned(), "2".to_owned()].into_iter().chain(args.iter().cloned()).collect()
        };
        match self.send("EVALSHA", slot, with(&script.hash), self.timeout).await {
            // Only to the node that needs it: the client's own method loads scripts on all nodes,
            // and one that hangs would delay all.
            Err(error) if error.details().contains("NOSCRIPT") => {
                self.send("EVAL", slot, with(script.body), self.timeout).await
            }
            answer => answer,
        }
        .map_err(|error| self.fault(&error))
    }

    async fn send<T: FromValue>(
        &self,
        command: &'static str,
        slot: u16,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<T, Error> {
        // `evalsha` of the client forgets its options; `custom` keeps them.
        let options = Options { fail_fast: true, timeout: Some(timeout), ..Options::default() };
        let command = CustomCommand::new_static(command, ClusterHash::Custom(slot), false);
        self.client.with_options(&options).custom(command, args).await
    }

    /// Returns the server's time at which a command that is sent now will have timed out. If the
    /// server's clock is unknown, reads it first: no command goes without a bound.
    async fn not_after(&self, slot: u16) -> Result<u64, BackendError> {
        let known = self.ahead().get(&slot).copied();
        let ahead = match known {
            Some(ahead) => ahead,
            None => self.learn(slot).await?,
        };
        let bound = now().cast_signed() + ahead + millis(self.timeout).cast_signed();
        Ok(bound.max(1).cast_unsigned())
    }

    async fn learn(&self, slot: u16) -> Result<i64, BackendError> {
        let sent = now();
        let time: Result<(u64, u64), Error> =
            self.send("TIME", slot, Vec::new(), self.timeout).await;
        let (seconds, micros) = time.map_err(|error| self.fault(&error))?;
        let ahead = (seconds * 1000 + micros / 1000).cast_signed() - sent.cast_signed();
        self.ahead().insert(slot, ahead);
        Ok(ahead)
    }

    /// Another server may answer now, with another clock.
    pub(super) fn forget_clocks(&self) {
        self.ahead().clear();
    }

    fn ahead(&self) -> MutexGuard<'_, HashMap<u16, i64>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: &str) -> u16 {
        if self.clustered { redis_keyslot(key.as_bytes()) } else { 0 }
    }

    fn begin_command(&self) -> Result<InFlight<'_>, BackendError> {
        if !self.client.is_connected() {
            return Err(self.why());
        }
        let command = InFlight(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < MOST_IN_FLIGHT {
            Ok(command)
        } else {
            Err(BackendError::unavailable("too many commands in flight"))
        }
    }

    /// Waits until this connection receives what is published, or the reason is known why it
    /// cannot.
    pub(super) async fn subscribed(&self) -> Result<(), BackendError> {
        let mut status = self.status.subscribe();
        loop {
            match &*status.borrow_and_update() {
                Status::Subscribed => return Ok(()),
                // A server that cannot be reached is tried again.
                Status::Broken(why) if !why.is_unavailable() => return Err(why.clone()),
                Status::Broken(_) | Status::Connecting => {}
            }
            if status.changed().await.is_err() {
                return Err(self.why());
            }
        }
    }

    /// Returns why there is no connection.
    pub(super) fn why(&self) -> BackendError {
        match &*self.status.borrow() {
            Status::Broken(why) => why.clone(),
            _ => BackendError::unavailable("not connected to redis"),
        }
    }

    fn fault(&self, error: &Error) -> BackendError {
        if self.client.is_connected() { fault::fault(error) } else { self.why() }
    }

    pub(super) fn broken(&self, why: BackendError) {
        self.status.send_replace(Status::Broken(why));
    }

    /// Pings on the connection that receives what is published. A server that answers with an error
    /// cannot be used now, and a new connection would not change that: only pings without an answer
    /// lead to one.
    pub(super) async fn ping(&self, patience: Duration) -> Result<(), BackendError> {
        if !self.client.is_connected() {
            return Err(self.why());
        }
        match self.send::<Value>("PING", self.own_slot(), Vec::new(), patience).await {
            Ok(_) => {
                self.lost.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                if !fault::unanswered(&error) {
                    self.lost.store(0, Ordering::Relaxed);
                } else if self.lost.fetch_add(1, Ordering::Relaxed) + 1 >= LOST_PINGS {
                    self.lost.store(0, Ordering::Relaxed);
                    self.reconnect();
                }
                Err(self.fault(&error))
            }
        }
    }

    /// In a task, because it may wait for a connection that hangs.
    pub(super) fn reconnect(&self) {
        let client = self.client.clone();
        tokio::spawn(async move { timeout(PATIENCE * 4, client.force_reconnection()).await });
    }

    /// Subscribes, and publishes `hello` on the channel: only receiving it proves the subscription.
    /// The client does not wait for the server's answer, and a denial may go unnoticed.
    pub(super) async fn subscribe(&self, hello: &str) -> Result<(), BackendError> {
        // A server that answers everything with an error would answer this so, too. It is asked
        // again, on this connection.
        self.ping(PATIENCE).await?;
        let options = Options { timeout: Some(PATIENCE), ..Options::default() };
        let client = self.client.with_options(&options);
        let hash = ClusterHash::Custom(self.own_slot());
        let publish = CustomCommand::new_static("PUBLISH", hash, false);
        let args = vec![self.channel.clone(), hello.to_owned()];
        let said = async {
            client.subscribe(self.channel.as_str()).await?;
            client.custom::<Value, _>(publish, args).await
        };
        said.await.map(drop).map_err(|error| {
            if !fault::unanswered(&error) {
                // This may be the answer to SUBSCRIBE. The client does not expect one there, and
                // takes it for the next command's, and so on from there.
                self.reconnect();
            }
            fault::fault(&error)
        })
    }

    /// Returns the slot to whose node the client sends its subscription in a cluster.
    fn own_slot(&self) -> u16 {
        redis_keyslot(self.client.id().as_bytes())
    }

    pub(super) fn warning(&self) -> Option<String> {
        self.caution.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks how the server evicts when it is full, if the user may know.
    pub(super) async fn look_at_eviction(&self) {
        let args = vec!["memory".to_owned()];
        let info = self.send::<String>("INFO", self.own_slot(), args, PATIENCE).await;
        let caution = info.ok().and_then(|info| fault::eviction(&info));
        *self.caution.lock().unwrap_or_else(PoisonError::into_inner) = caution;
    }

    /// Checks that the server is new enough, and that the user has the permissions that are needed.
    pub(super) async fn check(&self) -> Result<(), BackendError> {
        self.ping(PATIENCE).await?;
        let hello = self.send::<HashMap<String, Value>>("HELLO", self.own_slot(), vec![], PATIENCE);
        let hello = hello.await.map_err(|error| self.fault(&error))?;
        let version = hello.get("version").and_then(Value::as_string).unwrap_or_default();
        fault::check_version(&version)?;

        let key = codec::key(&self.prefix, "");
        let slot = self.slot(&key);
        // Both ways to run a script: without the first, the failure would show only when the server
        // has lost its scripts.
        for (command, script) in [("EVAL", CHECK.body), ("EVALSHA", &CHECK.hash)] {
            let args = [script, "2", &key, &format!("{key}:o"), &self.channel];
            let args = args.map(str::to_owned).to_vec();
            let failed = self.send::<Vec<String>>(command, slot, args, PATIENCE).await;
            fault::check_permissions(&failed.map_err(|error| self.fault(&error))?)?;
        }
        Ok(())
    }
}

/// A command in flight. Dropping it, with its future too, ends the count.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn late() -> BackendError {
    BackendError::unavailable("redis ran the command too late, or its clock jumped")
}

fn now() -> u64 {
    clock::now().as_nanos() / 1_000_000
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
