//! One start of one process of the service, and the facts that the backend cannot see.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower_breaker::backend::{RecordState, View};
use tower_breaker::event::Origin;
use tower_breaker::{Circuit, State, Store};

use super::REJOINING;
use crate::support::faulty::Faulty;
use crate::support::outage::HasCircuit;
use crate::support::{network, now};

pub(crate) struct Replica {
    pub(crate) line: Faulty,
    pub(super) store: Store,
    pub(crate) circuit: Circuit,
    pub(super) seen: Arc<Seen>,
    pub(super) callers: Vec<AbortHandle>,
    /// The policy has a quorum: opening by its own evidence is only a vote.
    pub(super) votes: bool,
}

/// What has really happened in a replica.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) generation: AtomicU64,
    /// Calls that it admitted while its circuit was closed.
    pub(super) calls: AtomicU64,
    /// Those of them that failed.
    pub(super) failures: AtomicU64,
    /// Calls that it admitted while its circuit was not closed, and that succeeded.
    pub(super) passed: AtomicU64,
    /// When the backend answered again, or for the first time.
    pub(super) connected: Mutex<Option<Instant>>,
    /// Its own path to the upstream is broken.
    pub(super) broken: AtomicBool,
}

impl Replica {
    /// Ends the replica without a last message to the backend.
    pub(crate) fn crash(self) {
        self.line.kill();
        for caller in &self.callers {
            caller.abort();
        }
    }

    pub(crate) fn brief(&self) -> String {
        let snapshot = self.circuit.snapshot();
        let (state, generation, origin) = (snapshot.state, snapshot.generation, snapshot.origin);
        format!("{} {state} {generation} {origin:?} {}", self.seen.name, self.store.backend())
    }

    /// Calls that it admitted while its circuit was closed, and how many of them failed.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let Seen { calls, failures, .. } = &*self.seen;
        (calls.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
    }

    pub(crate) fn break_path(&self) {
        self.seen.broken.store(true, Ordering::Relaxed);
    }

    /// Whether its circuit is in the state that the backend describes.
    pub(crate) fn agrees(&self, view: &View) -> bool {
        let snapshot = self.circuit.snapshot();
        if let Some(record) = &view.overridden.record {
            return snapshot.state == record.state.state();
        }
        // A replica keeps what it opened by its own evidence, while the backend has nothing against
        // it.
        let local = snapshot.origin == Origin::Local && snapshot.state != State::Closed;
        let voting = self.votes && local && view.state == RecordState::Closed;
        // The generations of a replica that opened while it was detached may be ahead.
        let there = view.generation == View::FIRST || snapshot.generation >= view.generation;
        voting || (there && snapshot.state == network::state_of(view))
    }
}

impl HasCircuit for Replica {
    fn circuit(&self) -> &Circuit {
        &self.circuit
    }
}

impl Seen {
    pub(super) fn connect(&self) {
        *self.connected.lock().unwrap() = Some(now());
    }

    pub(super) fn is_rejoining(&self) -> bool {
        self.connected.lock().unwrap().is_some_and(|since| since.elapsed() < REJOINING)
    }
}
