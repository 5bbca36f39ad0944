//! The connection: what is sent, what is received, and what happens when there is no answer.
//!
//! While there is no connection, or the server hangs, the client queues without a bound, and a
//! queued command may run long after its caller has gone. So commands in flight are counted, none
//! is sent while there is no connection, each has the client's own timeout, and each script carries
//! the server's time after which it must not act.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::config::Options;
use fred::types::{ClusterHash, CustomCommand, FromValue, Value};
use fred::util::redis_keyslot;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::clocks::{self, Clocks, micros};
use super::codec::{Keys, Reply, late};
use super::config::RedisConfig;
use super::fault;
use super::pushing::Pushing;
use super::scripts::Script;
use crate::backend::{BackendError, Notice};

/// Enough for a burst; commands beyond it would only wait.
const MOST_IN_FLIGHT: usize = 256;

/// The timeout of commands of the link itself.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// After this many heartbeats and pings without an answer, a connection that seems alive is
/// replaced.
const LOST_PINGS: u32 = 4;

/// Enough for a busy replica to catch up.
const NOTICES: usize = 1024;

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) status: watch::Sender<Status>,
    pub(super) clocks: Clocks,
    pub(super) pushing: Pushing,
    pub(super) tls: bool,
    /// What a call waits for.
    pub(super) timeout: Duration,
    /// What background tasks wait for.
    pub(super) background_timeout: Duration,
    clustered: bool,
    in_flight: AtomicUsize,
    sent: AtomicU64,
    lost: AtomicU32,
    /// A heartbeat was answered since the listener last looked.
    heard: AtomicBool,
}

#[derive(Clone, Debug)]
pub(super) enum Status {
    Connecting,
    Broken(BackendError),
    Subscribed,
}

/// A script with its arguments.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) keys: Vec<String>,
    pub(super) request: String,
    pub(super) timeout: Duration,
}

impl Link {
    pub(super) fn new(client: Client, config: &RedisConfig) -> Self {
        Self {
            keys: Keys::new(&config.prefix),
            notices: broadcast::channel(NOTICES).0,
            status: watch::channel(Status::Connecting).0,
            clocks: Clocks::default(),
            pushing: Pushing::default(),
            tls: config.tls,
            timeout: config.command_timeout,
            background_timeout: config.background_timeout(),
            clustered: client.is_clustered(),
            client,
            in_flight: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU32::new(0),
            heard: AtomicBool::new(false),
        }
    }

    /// Runs an operation that must not happen after its caller has gone.
    pub(super) async fn run(&self, call: &Call) -> Result<Reply, BackendError> {
        self.try_run(call).await.map_err(|failure| self.explain(failure))
    }

    /// Runs a heartbeat, which shows whether the connection is alive.
    pub(super) async fn run_heartbeat(&self, call: &Call) -> Result<Reply, BackendError> {
        let answer = self.try_run(call).await;
        match &answer {
            Ok(_) => {
                self.heard.store(true, Ordering::Relaxed);
                self.answered(Ok(()));
            }
            Err(Failure::Sent(error)) => self.answered(Err(error)),
            Err(Failure::Said(_)) => {}
        }
        answer.map_err(|failure| self.explain(failure))
    }

    async fn try_run(&self, call: &Call) -> Result<Reply, Failure> {
        let _in_flight = self.begin_command()?;
        let (slot, began) = (self.slot(call), clocks::now());
        for _ in 0..2 {
            if self.clocks.at(slot, began).is_none() {
                self.learn(slot, call.timeout).await?;
            }
            let bound = clocks::now() + micros(call.timeout);
            let not_after = self.clocks.at(slot, bound).ok_or_else(late)?;
            let reply = self.ask(call, slot, began, not_after).await?;
            if !reply.is_late() {
                return Ok(reply.accepted()?);
            }
            // Its clock was not where we thought; now we know where it is.
        }
        Err(late().into())
    }

    /// Runs an operation that is as right late as now.
    pub(super) async fn run_whenever(&self, call: &Call) -> Result<Reply, BackendError> {
        let _in_flight = self.begin_command()?;
        let reply = self.ask(call, self.slot(call), clocks::now(), 0).await;
        reply.map_err(|failure| self.explain(failure))?.accepted()
    }

    async fn ask(
        &self,
        call: &Call,
        slot: u16,
        began: u64,
        not_after: u64,
    ) -> Result<Reply, Failure> {
        let id = self.sent.fetch_add(1, Ordering::Relaxed);
        let started = self.clocks.at(slot, began).unwrap_or(0);
        let args = [
            self.keys.changes(),
            not_after.to_string(),
            started.to_string(),
            id.to_string(),
            call.request.clone(),
        ];
        let all = std::iter::once(call.keys.len().to_string())
            .chain(call.keys.iter().cloned())
            .chain(args)
            .collect();
        let sent = clocks::now();
        let answer = self.eval(call.script, slot, all, call.timeout).await?;
        let reply = Reply::parse(&answer.as_str_lossy().unwrap_or_default())?;
        if reply.id != id {
            // After an error that the client did not expect, it gives each command the answer to
            // another one.
            self.reconnect();
            return Err(BackendError::unavailable("redis's answer is to another command").into());
        }
        if reply.is_late() {
            self.clocks.jumped(slot, sent, reply.now);
        } else {
            self.clocks.found(slot, sent, reply.now);
        }
        match &reply.unpublished {
            Some(error) => self.pushing.unpublished(&fault::unpublished(error)),
            None if reply.published => self.pushing.published(),
            None => {}
        }
        Ok(reply)
    }

    async fn eval(
        &self,
        script: &Script,
        slot: u16,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let with = |script: &str| -> Vec<String> {
            std::iter::once(script.to_owned()).chain(args.iter().cloned()).collect()
        };
        match self.send("EVALSHA", slot, with(&script.hash), timeout).await {
            // Only to the node that needs it: the client's own method loads scripts on all nodes,
            // and one that hangs would delay all.
            Err(error) if error.details().contains("NOSCRIPT") => {
                self.send("EVAL", slot, with(script.body), timeout).await
            }
            answer => answer,
        }
    }

    pub(super) async fn send<T: FromValue>(
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

    /// Reads the server's time: no command goes without a bound.
    async fn learn(&self, slot: u16, timeout: Duration) -> Result<(), Error> {
        let sent = clocks::now();
        let (seconds, micros): (u64, u64) = self.send("TIME", slot, Vec::new(), timeout).await?;
        self.clocks.found(slot, sent, seconds.saturating_mul(1_000_000).saturating_add(micros));
        Ok(())
    }

    fn slot(&self, call: &Call) -> u16 {
        call.keys.first().map_or(0, |key| self.slot_of(key))
    }

    pub(super) fn slot_of(&self, key: &str) -> u16 {
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

    /// Returns why there is no connection.
    pub(super) fn why(&self) -> BackendError {
        match &*self.status.borrow() {
            Status::Broken(why) => why.clone(),
            _ => BackendError::unavailable("not connected to redis"),
        }
    }

    pub(super) fn fault(&self, error: &Error) -> BackendError {
        if self.client.is_connected() { fault::fault(error) } else { self.why() }
    }

    fn explain(&self, failure: Failure) -> BackendError {
        match failure {
            Failure::Sent(error) => self.fault(&error),
            Failure::Said(error) => error,
        }
    }

    pub(super) fn broken(&self, why: BackendError) {
        self.status.send_replace(Status::Broken(why));
    }

    /// Returns whether a heartbeat has shown, since the last call of this, that the connection is
    /// alive that receives what is published. In a Cluster the two are on different nodes.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) && !self.clustered
    }

    /// Pings on the connection that receives what is published. Returns whether there was an
    /// answer.
    pub(super) async fn ping(&self, patience: Duration) -> Result<bool, BackendError> {
        if !self.client.is_connected() {
            return Err(self.why());
        }
        let answer = self.send::<Value>("PING", self.own_slot(), Vec::new(), patience).await;
        self.answered(answer.as_ref().map(|_| ()));
        match answer {
            Ok(_) => Ok(true),
            Err(error) if fault::unanswered(&error) => Ok(false),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Counts what was not answered in a row. A server that answers with an error cannot be used
    /// now, and a new connection would not change that: only silence leads to one.
    fn answered(&self, answer: Result<(), &Error>) {
        if answer.err().is_none_or(|error| !fault::unanswered(error)) {
            self.lost.store(0, Ordering::Relaxed);
        } else if self.lost.fetch_add(1, Ordering::Relaxed) + 1 >= LOST_PINGS {
            self.lost.store(0, Ordering::Relaxed);
            self.reconnect();
        }
    }

    /// In a task, because it may wait for a connection that hangs.
    pub(super) fn reconnect(&self) {
        let client = self.client.clone();
        tokio::spawn(async move { timeout(PATIENCE * 4, client.force_reconnection()).await });
    }

    pub(super) async fn publish_circuits(&self, message: &str) -> Result<(), BackendError> {
        let _in_flight = self.begin_command()?;
        let said = self.publish(&self.keys.circuits(), message, self.background_timeout).await;
        said.map_err(|error| self.fault(&error))
    }

    pub(super) async fn publish(
        &self,
        channel: &str,
        text: &str,
        timeout: Duration,
    ) -> Result<(), Error> {
        let args = vec![channel.to_owned(), text.to_owned()];
        self.send::<Value>("PUBLISH", self.own_slot(), args, timeout).await.map(drop)
    }

    /// Returns the slot to whose node the client sends its subscription in a cluster.
    pub(super) fn own_slot(&self) -> u16 {
        redis_keyslot(self.client.id().as_bytes())
    }
}

/// Why there is no answer: an error of the client, or one that is explained.
enum Failure {
    Sent(Error),
    Said(BackendError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sent(error)
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Said(error)
    }
}

/// A command in flight. Dropping it, with its future too, ends the count.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
