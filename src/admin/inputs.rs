//! What happens, for the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{sleep, timeout};

use super::shared::{Shared, Source};
use crate::backend::{Backend, Notice, View};
use crate::clock;
use crate::event::{Event, Events, StoreEvent, Transition};
use crate::name::CircuitName;
use crate::store::{ClusterWatch, ReplicaCircuits};
use crate::timestamp::Timestamp;

/// Replicas forget after 15 seconds that they are to publish.
const RENEW: Duration = Duration::from_secs(5);

/// The longest time that a backend has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What happens.
pub(super) enum Input {
    Transition(CircuitName, Transition),
    /// A circuit of a backend has changed.
    View(CircuitName, Box<View>),
    /// A replica describes its circuits.
    Replica(ReplicaCircuits),
    /// The status of the backend has changed.
    Backend,
    /// Something was missed: everything is to be read again.
    Missed,
    /// Nothing that is shown.
    Other,
    /// There is nothing more to come.
    Over,
}

/// Where it comes from.
pub(super) enum Inputs {
    Store { events: Events, watch: Option<ClusterWatch> },
    Backend { backend: Arc<dyn Backend>, notices: broadcast::Receiver<Notice>, renew_at: Timestamp },
}

impl Inputs {
    pub(super) fn of(shared: &Shared) -> Self {
        match &shared.source {
            Source::Store(store) => Self::Store { events: store.events(), watch: store.watch() },
            Source::Backend(backend) => {
                let (backend, notices) = (backend.clone(), backend.subscribe());
                Self::Backend { backend, notices, renew_at: Timestamp::default() }
            }
        }
    }

    /// Returns what happens next. If the future is dropped, nothing is missed.
    pub(super) async fn next(&mut self) -> Input {
        match self {
            Self::Store { events, watch } => tokio::select! {
                event = events.recv() => of_store(event),
                said = said(watch) => {
                    if said.is_none() {
                        *watch = None;
                    }
                    said.map_or(Input::Other, Input::Replica)
                }
            },
            Self::Backend { backend, notices, renew_at } => tokio::select! {
                notice = notices.recv() => of_backend(notice),
                () = sleep(renew_at.since(clock::now())) => {
                    // A backend that does not answer is asked again; so it is if this is dropped.
                    let _ = timeout(ANSWER, backend.watch()).await;
                    *renew_at = clock::now().after(RENEW);
                    Input::Other
                }
            },
        }
    }
}

async fn said(watch: &mut Option<ClusterWatch>) -> Option<ReplicaCircuits> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

fn of_store(event: Option<StoreEvent>) -> Input {
    match event {
        Some(StoreEvent::Circuit { name, event: Event::Transition(transition) }) => {
            Input::Transition(name, transition)
        }
        Some(StoreEvent::Backend(_)) => Input::Backend,
        Some(StoreEvent::Missed { .. }) => Input::Missed,
        Some(
            StoreEvent::Circuit { .. }
            | StoreEvent::KeyLimitReached { .. }
            | StoreEvent::Rejections { .. },
        ) => Input::Other,
        None => Input::Over,
    }
}

fn of_backend(notice: Result<Notice, RecvError>) -> Input {
    match notice {
        Ok(Notice::Changed { circuit, view, .. }) => Input::View(circuit, view),
        Ok(Notice::Circuits { sender, circuits }) => {
            Input::Replica(ReplicaCircuits::new(sender, &circuits))
        }
        Ok(Notice::Gap) | Err(RecvError::Lagged(_)) => Input::Missed,
        Err(RecvError::Closed) => Input::Over,
    }
}
