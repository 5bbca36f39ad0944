//! What is done once for each connection: to subscribe, and to check what the server can do.

use std::collections::HashMap;

use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::Value;
use fred::types::config::Options;

use super::fault;
use super::link::{Link, PATIENCE, Status};
use super::pushing::{Pushing, Watching};
use super::scripts::CHECK;
use crate::backend::BackendError;

/// A change of the subscription that failed, or whose caller no longer waits: the next one begins
/// again.
struct Unconfirmed<'a>(Option<&'a Pushing>);

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if let Some(pushing) = self.0 {
            pushing.not_listening();
        }
    }
}

impl Link {
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

    /// Subscribes to changes, and publishes `hello` there: only receiving it proves the
    /// subscription. The client does not wait for the server's answer, and a denial may go
    /// unnoticed.
    pub(super) async fn subscribe(&self, hello: &str) -> Result<(), BackendError> {
        // A server that answers everything with an error would answer this so, too. It is asked
        // again, on this connection.
        if !self.ping(PATIENCE).await? {
            return Err(fault::silent());
        }
        let channel = self.keys.changes();
        let options = Options { timeout: Some(PATIENCE), ..Options::default() };
        let client = self.client.with_options(&options);
        let said = async {
            client.subscribe(channel.as_str()).await?;
            self.publish(&channel, hello, PATIENCE).await
        };
        said.await.map_err(|error| {
            if !fault::unanswered(&error) {
                // This may be the answer to SUBSCRIBE. The client does not expect one there, and
                // takes it for the next command's, and so on from there.
                self.reconnect();
            }
            fault::fault(&error)
        })
    }

    /// Listens to what replicas say of their circuits while this process watches the cluster.
    pub(super) async fn follow_watching(&self) -> Result<(), BackendError> {
        let Some(change) = self.pushing.watching() else { return Ok(()) };
        let channel = self.keys.circuits();
        let options = Options { timeout: Some(PATIENCE), ..Options::default() };
        let client = self.client.with_options(&options);
        let said = async {
            match change {
                Watching::Begin => {
                    // A user who may not subscribe may not publish here either, and only this is
                    // answered in order.
                    self.publish(&channel, "", PATIENCE).await?;
                    client.subscribe(channel.as_str()).await?;
                    // What is answered after it on this connection confirms it.
                    self.send::<Value>("PING", self.own_slot(), Vec::new(), PATIENCE).await?;
                    Ok(())
                }
                Watching::End => client.unsubscribe(channel.as_str()).await,
            }
        };
        let mut unconfirmed = Unconfirmed(Some(&self.pushing));
        said.await.map_err(|error| self.fault(&error))?;
        unconfirmed.0 = None;
        Ok(())
    }

    /// Checks how the server evicts when it is full, if the user may know.
    pub(super) async fn look_at_eviction(&self) {
        let args = vec!["memory".to_owned()];
        let info = self.send::<String>("INFO", self.own_slot(), args, PATIENCE).await;
        self.pushing.evicts(info.ok().and_then(|info| fault::eviction(&info)));
    }

    /// Checks that the server is new enough, and that the user has the permissions that are needed.
    pub(super) async fn check(&self) -> Result<(), BackendError> {
        if !self.ping(PATIENCE).await? {
            return Err(fault::silent());
        }
        let hello = self.send::<HashMap<String, Value>>("HELLO", self.own_slot(), vec![], PATIENCE);
        let hello = hello.await.map_err(|error| self.fault(&error))?;
        let version = hello.get("version").and_then(Value::as_string).unwrap_or_default();
        fault::check_version(&version)?;

        let [group, replicas] = self.keys.unused();
        // Both ways to run a script: without the first, the failure would show only when the server
        // has forgotten its scripts.
        for (command, script, key) in [
            ("EVAL", CHECK.body, &group),
            ("EVALSHA", CHECK.hash.as_str(), &group),
            ("EVAL", CHECK.body, &replicas),
        ] {
            let args = [script, "1", key, &self.keys.changes(), &self.keys.circuits()];
            let args = args.map(str::to_owned).to_vec();
            let failed = self.send::<Vec<String>>(command, self.slot_of(key), args, PATIENCE).await;
            fault::check_permissions(&failed.map_err(|error| self.fault(&error))?)?;
        }
        Ok(())
    }
}
