//! What works only in part: whether changes are pushed, and whether the server keeps what it has.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clocks::{self, micros};
use crate::backend::{BackendError, Impairment};

/// How long a replica listens to what others say of their circuits, after it was last asked to.
const WATCH: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct Pushing(Mutex<State>);

#[derive(Default)]
struct State {
    unpublished: Option<String>,
    unsubscribed: Option<String>,
    evicts: Option<String>,
    /// Our time in microseconds until which this process watches the cluster.
    watched_until: Option<u64>,
    listens_to_circuits: bool,
}

/// A change of the subscription to what replicas say of their circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    Begin,
    End,
}

impl Pushing {
    pub(super) fn published(&self) {
        self.lock().unpublished = None;
    }

    pub(super) fn unpublished(&self, error: &BackendError) {
        self.lock().unpublished = Some(format!("PUBLISH on the channel fails: {error}"));
    }

    pub(super) fn subscribed(&self) {
        self.lock().unsubscribed = None;
    }

    pub(super) fn unsubscribed(&self, error: &BackendError) {
        let cause = format!("SUBSCRIBE and PUBLISH on the channel do not work: {error}");
        self.lock().unsubscribed = Some(cause);
    }

    pub(super) fn evicts(&self, caution: Option<String>) {
        self.lock().evicts = caution;
    }

    pub(super) fn watch(&self) {
        self.lock().watched_until = Some(clocks::now() + micros(WATCH));
    }

    /// Returns how the subscription has to change, and notes that it does.
    pub(super) fn watching(&self) -> Option<Watching> {
        let mut state = self.lock();
        let watched = state.watched_until.is_some_and(|until| clocks::now() < until);
        if watched == state.listens_to_circuits {
            return None;
        }
        state.listens_to_circuits = watched;
        Some(if watched { Watching::Begin } else { Watching::End })
    }

    /// On a new connection, or if the change failed, there is no subscription.
    pub(super) fn not_listening(&self) {
        self.lock().listens_to_circuits = false;
    }

    pub(super) fn impairments(&self, connected: bool) -> Vec<Impairment> {
        let state = self.lock();
        // Without a connection, everything is impaired.
        let cause = state.unsubscribed.as_ref().or(state.unpublished.as_ref());
        let cause = cause.filter(|_| connected).cloned();
        let pushed = cause.map(|cause| Impairment::NotPushed { cause });
        let evicts = state.evicts.clone().map(|cause| Impairment::Unsafe { cause });
        pushed.into_iter().chain(evicts).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
