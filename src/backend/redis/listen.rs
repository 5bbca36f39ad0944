//! The task that receives what others publish, and notices when nothing can be received.

use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{ClientLike, EventInterface};
use fred::types::Message;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::codec;
use super::fault;
use super::link::{Link, PATIENCE, Status};
use crate::backend::{BackendError, Notice};

/// A connection that only listens does not notice that the other side is gone, so it is pinged. A
/// ping without an answer is followed by the next at once, so a server that hangs is noticed within
/// two to three seconds, and one that pauses for a second is left in peace.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_WAITS: Duration = Duration::from_millis(400);
const PINGS: usize = 4;

/// The user has no permission to subscribe. It may be granted later; until then replicas must poll.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// Listens until the client is gone. Subscribes to the client's events at once, so that nothing is
/// missed between this and the first poll of the returned future.
pub(super) fn listen(link: Arc<Link>) -> impl Future<Output = ()> {
    let client = &link.client;
    let (messages, mut errors) = (client.message_rx(), client.error_rx());
    let (mut connected, mut moved) = (client.reconnect_rx(), client.cluster_change_rx());
    async move {
        let mut listener = Listener {
            link,
            messages,
            subscribed: false,
            not_before: None,
            connected_once: false,
            unconfirmed: false,
        };
        let mut tick = interval(PING_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // An error that is older than a connection must not be taken for its end.
                biased;
                error = errors.recv() => match error {
                    Ok((error, _)) => listener.failed(&error),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = connected.recv() => listener.connected().await,
                _ = moved.recv() => listener.connected().await,
                message = listener.messages.recv() => match message {
                    Ok(message) => listener.received(&message),
                    Err(RecvError::Lagged(_)) => listener.notify(Notice::Gap),
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => listener.look().await,
            }
        }
    }
}

struct Listener {
    link: Arc<Link>,
    messages: Receiver<Message>,
    subscribed: bool,
    not_before: Option<Instant>,
    connected_once: bool,
    /// The subscription was not confirmed, and a new connection was made for that. One is enough:
    /// perhaps it never will be.
    unconfirmed: bool,
}

impl Listener {
    fn received(&self, message: &Message) {
        // What is no text is no notice.
        let Some(text) = message.value.as_str() else { return };
        let link = &self.link;
        let notice = if *message.channel == *link.keys.circuits() {
            codec::circuits(&text)
        } else {
            codec::changed(&text, link.clocks.latest())
        };
        if let Some(notice) = notice {
            self.notify(notice);
        }
    }

    fn notify(&self, notice: Notice) {
        // There may be no receiver.
        let _ = self.link.notices.send(notice);
    }

    fn failed(&self, error: &fred::error::Error) {
        if !self.link.client.is_connected() {
            let why = if self.connected_once {
                fault::fault(error)
            } else {
                fault::first_connection(error, self.link.tls)
            };
            self.link.broken(why);
        }
    }

    async fn connected(&mut self) {
        self.link.clocks.forget();
        self.link.pushing.not_listening();
        (self.subscribed, self.connected_once) = (false, true);
        self.subscribe().await;
    }

    async fn subscribe(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "the task's own timer; decides nothing")]
        let now = Instant::now();
        if self.not_before.is_some_and(|moment| now < moment) {
            return;
        }
        match self.subscribe_and_confirm().await {
            Ok(()) => {
                (self.subscribed, self.not_before, self.unconfirmed) = (true, None, false);
                self.link.pushing.subscribed();
                self.link.look_at_eviction().await;
                // Before the status, so that a caller that waited for it does not take this for a
                // loss after it.
                self.notify(Notice::Gap);
                self.link.status.send_replace(Status::Subscribed);
            }
            Err(error) => {
                if !error.is_unavailable() {
                    self.not_before = Some(now + REFUSED_FOR);
                }
                if self.link.client.is_connected() {
                    self.link.pushing.unsubscribed(&error);
                }
                self.link.status.send_replace(Status::Broken(error));
            }
        }
    }

    async fn subscribe_and_confirm(&mut self) -> Result<(), BackendError> {
        let hello = format!(r#"{{"hello":"{}"}}"#, self.link.client.id());
        self.link.subscribe(&hello).await?;
        let confirmed = async {
            loop {
                match self.messages.recv().await {
                    Ok(message) if message.value.as_str().as_deref() == Some(&hello) => return,
                    Ok(message) => self.received(&message),
                    // A gap is published at the end in any case.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        timeout(PATIENCE, confirmed).await.map_err(|_| {
            // SUBSCRIBE may have been denied, and another command have been given that for its
            // answer.
            if !std::mem::replace(&mut self.unconfirmed, true) {
                self.link.reconnect();
            }
            BackendError::unavailable(
                "published messages do not arrive: grant SUBSCRIBE, as docs/redis.md lists under \
                 \"Permissions\"",
            )
        })
    }

    async fn look(&mut self) {
        if !self.link.client.is_connected() {
            return;
        }
        if !self.subscribed {
            self.subscribe().await;
            return;
        }
        // A heartbeat is as good as a ping: only without one is the server asked.
        let pings = if self.link.was_heard() { 0 } else { PINGS };
        for _ in 0..pings {
            // After the last of them, `ping` has the connection made anew.
            if !matches!(self.link.ping(PING_WAITS).await, Ok(false)) {
                break;
            }
        }
        // Tried again at the next look.
        let _ = self.link.follow_watching().await;
    }
}
