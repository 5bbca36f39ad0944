//! How the circuits of a store are, for the probes of an orchestrator and for people.
//!
//! [`Store::health`] reads it. It changes nothing and runs no user code, so a probe may read it at
//! any rate.
//!
//! # Which probe gets what
//!
//! | probe | answer |
//! | --- | --- |
//! | liveness | do not ask the store: an open circuit is no reason to restart a process |
//! | readiness | [`Health::is_ready`]: false only while a [critical](crate::StoreBuilder::critical) circuit rejects calls |
//! | people, dashboards | everything; the status is [`Degraded`](Status::Degraded) as soon as anything is not as it should be |
//!
//! A replica that is not ready gets no calls, and a circuit without calls makes no probes. So a
//! critical circuit counts as rejecting only while it would reject the next call: when its open
//! interval is over, the replica is ready again, and the next call is the probe.
//!
//! ```
//! use tower_breaker::health::Status;
//! use tower_breaker::Store;
//!
//! let store = Store::builder().critical("database").build();
//! let search = store.circuit("search");
//! search.force_open("maintenance");
//! let health = store.health();
//! assert_eq!(health.status, Status::Degraded);
//! assert!(health.is_ready());
//!
//! store.circuit("database").force_open("maintenance");
//! assert_eq!(store.health().status, Status::Unready);
//! ```

use std::time::Duration;

use crate::circuit::{Circuit, Snapshot};
use crate::event::BackendStatus;
use crate::machine::State;
use crate::name::CircuitName;
use crate::store::Store;

/// The health of a store. [`Store::health`] returns it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Health {
    /// The worst of what follows.
    pub status: Status,
    /// The backend.
    pub backend: BackendStatus,
    /// What is wrong comes first: circuits that reject calls, then those in any state but closed,
    /// then the others; each in the order of names. Circuits of keys are listed only if they are
    /// not closed. There are at most [`MOST_CIRCUITS`](Self::MOST_CIRCUITS).
    pub circuits: Vec<CircuitHealth>,
    /// How many circuits are not listed.
    pub omitted: usize,
}

/// How a store is, as one word. A later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Status {
    /// Every circuit is closed, and the backend works, if there is one.
    Healthy,
    /// A circuit is not closed, or the backend works in part or not at all. The replica does its
    /// work: this is no reason to stop it or to send it no calls.
    Degraded,
    /// A [critical](crate::StoreBuilder::critical) circuit rejects calls: other replicas may do
    /// better.
    Unready,
}

/// The health of a circuit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitHealth {
    /// The name of the circuit.
    pub name: CircuitName,
    /// The state.
    pub state: State,
    /// How long the state has lasted.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", with = "crate::data::millis"))]
    pub since: Duration,
    /// Whether the next call would probably be rejected. An open circuit whose interval is over
    /// rejects nothing: the next call is a probe.
    pub rejects: bool,
    /// Whether the store cannot do its work without the circuit.
    pub critical: bool,
    /// The calls in the window.
    pub calls: u64,
    /// The share of them that failed, from 0 to 1. `None` while there are fewer calls than the
    /// policy needs to judge a rate, or if it judges none.
    pub failure_ratio: Option<f64>,
    /// The failure ratio that opens the circuit.
    pub failure_ratio_threshold: Option<f64>,
    /// How long until an open circuit admits a probe. `None` in other states.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "retry_after_ms", with = "crate::data::millis_if_any")
    )]
    pub retry_after: Option<Duration>,
    /// Whether the circuit decides without the backend.
    pub detached: bool,
    /// Why an operator has set the override in force.
    pub override_reason: Option<String>,
}

impl Store {
    /// Returns the health of the store: its backend and its circuits, what is wrong first.
    ///
    /// # Cost
    ///
    /// It reads each circuit under its lock, one after the other.
    #[must_use]
    pub fn health(&self) -> Health {
        let all = self.circuits();
        let total = all.len();
        let listed = |circuit: &Circuit| !circuit.is_keyed() || circuit.state() != State::Closed;
        let read = |circuit: Circuit| CircuitHealth::of(&circuit, self.is_critical(circuit.name()));
        let mut circuits: Vec<_> = all.into_iter().filter(listed).map(read).collect();
        circuits.sort_by_key(|circuit| (!circuit.rejects, circuit.state == State::Closed));
        let omitted = total - circuits.len();
        Health::new(self.backend(), circuits, omitted)
    }
}

impl Health {
    /// The most circuits that are listed.
    pub const MOST_CIRCUITS: usize = 1_000;

    /// Returns the health of these circuits, which are sorted, and of `omitted` others.
    pub(crate) fn new(
        backend: BackendStatus,
        mut circuits: Vec<CircuitHealth>,
        omitted: usize,
    ) -> Self {
        let works = matches!(backend, BackendStatus::None | BackendStatus::Connected);
        let worst = circuits.iter().map(CircuitHealth::status).max().unwrap_or(Status::Healthy);
        let status = if works { worst } else { worst.max(Status::Degraded) };
        let listed = circuits.len();
        circuits.truncate(Self::MOST_CIRCUITS);
        let omitted = omitted + listed - circuits.len();
        Self { status, backend, circuits, omitted }
    }

    /// Returns whether the replica should get calls.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status < Status::Unready
    }

    /// Returns the status of an HTTP response for a readiness probe: 200, or 503 if the replica is
    /// not ready.
    #[must_use]
    pub fn http_status(&self) -> http::StatusCode {
        if self.is_ready() { http::StatusCode::OK } else { http::StatusCode::SERVICE_UNAVAILABLE }
    }
}

impl CircuitHealth {
    fn of(circuit: &Circuit, critical: bool) -> Self {
        let rejects = !circuit.is_available();
        let Snapshot { name, state, since, tally, retry_after, detached, override_reason, .. } =
            circuit.snapshot();
        let policy = circuit.policy();
        let judged = policy.failure_rate().filter(|_| tally.calls >= policy.minimum_calls());
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people and dashboards")]
        let failure_ratio = judged.map(|_| tally.failures as f64 / tally.calls.max(1) as f64);
        Self {
            name,
            state,
            since,
            rejects,
            critical,
            calls: tally.calls,
            failure_ratio,
            failure_ratio_threshold: policy.failure_rate(),
            retry_after,
            detached,
            override_reason,
        }
    }

    /// Returns what the circuit alone makes of the store.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.rejects, self.critical, self.state) {
            (true, true, _) => Status::Unready,
            (false, _, State::Closed) => Status::Healthy,
            _ => Status::Degraded,
        }
    }
}
