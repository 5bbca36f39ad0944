//! The machine as the copy of a record that replicas share: laws 9 to 12.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::half_open::{LeaseId, Round};
use super::phase::{Origin, Phase, State};
use super::reason::Reason;
use super::transition::Transition;
use super::window::{Evidence, Tally};
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// Whether there is a backend, and whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// The circuit belongs to this process alone.
    None,
    Attached,
    Detached,
}

/// A state of the record, in this process's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Closed,
    Open { until: Timestamp, reopenings: u32 },
    HalfOpen { reopenings: u32, passed: u64 },
}

/// Why a generation of the record began.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) reason: Reason,
    /// What all replicas had counted when the circuit opened.
    pub(crate) tally: Tally,
    /// The names of the replicas that had reported failures.
    pub(crate) contributors: Arc<[String]>,
    /// The last failure before the circuit opened.
    pub(crate) last_error: Option<Arc<str>>,
}

/// How a probe of the cluster went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed { reason: Reason, hint: Option<Duration> },
    Released,
}

impl Machine {
    /// Sets whether there is a backend, and whether it answers.
    pub(crate) fn set_backing(&mut self, backing: Backing) {
        self.backing = backing;
        if let (Phase::HalfOpen(round), Backing::Detached) = (&mut self.phase, backing) {
            round.drop_spare();
        }
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Applies a new generation of the record. It ends what was in force, an override included.
    ///
    /// Returns `None` if nothing visible changes: the state is the same, and only its generation,
    /// its origin or its end are new. There is one exception. If an open circuit of the cluster is
    /// open again with more reopenings, other replicas have probed it, and their probes failed.
    pub(crate) fn apply(
        &mut self,
        shared: Shared,
        generation: u64,
        why: Why,
        now: Timestamp,
        policy: &Policy,
    ) -> Option<Transition> {
        let before = (self.state(), self.origin, self.reopenings);
        self.origin = Origin::Cluster;
        let (phase, reopenings, open_for) = match shared {
            Shared::Closed => (Phase::Closed(Evidence::new(policy.window(), now)), 0, None),
            Shared::Open { until, reopenings } => {
                (Phase::Open { until }, reopenings, Some(until.since(now)))
            }
            Shared::HalfOpen { reopenings, passed } => {
                let mut round = Round::default();
                round.update(passed, Timestamp::default());
                (Phase::HalfOpen(round), reopenings, None)
            }
        };
        self.reopenings = reopenings;
        // One less, as `enter` counts; and never back, whatever this process counted while it was
        // detached.
        self.generation = self.generation.max(generation.saturating_sub(1));
        let transition = self.enter(phase, why.reason);
        let probed = matches!(before, (State::Open, Origin::Cluster, known) if reopenings > known);
        let visible = transition.from != transition.to || (probed && transition.to == State::Open);
        // What a closed record has counted belongs to the phase that begins.
        let counted = transition.to != State::Closed && why.tally != Tally::default();
        let tally = if counted { why.tally } else { transition.tally };
        let contributors = why.contributors;
        let last_error = why.last_error.filter(|_| transition.to == State::Open);
        visible.then_some(Transition { tally, open_for, contributors, last_error, ..transition })
    }

    /// Applies what has changed within a generation of the record.
    pub(crate) fn update(&mut self, shared: Shared, refused_until: Timestamp) {
        match (&mut self.phase, shared) {
            (Phase::Open { until }, Shared::Open { until: later, .. })
                if self.origin == Origin::Cluster =>
            {
                *until = later;
            }
            (Phase::HalfOpen(round), Shared::HalfOpen { passed, .. })
                if self.origin == Origin::Cluster =>
            {
                round.update(passed, refused_until);
            }
            _ => {}
        }
    }

    /// Stores a lease that the backend granted. Returns false if the round it belongs to is over.
    pub(crate) fn store_lease(&mut self, lease: LeaseId, expires: Timestamp) -> bool {
        let asks = self.asks_backend();
        match &mut self.phase {
            Phase::HalfOpen(round) if asks => {
                round.store_lease(lease, expires);
                true
            }
            _ => false,
        }
    }

    /// Takes a lease that was stored.
    pub(crate) fn claim_lease(&mut self, lease: LeaseId) -> bool {
        match &mut self.phase {
            Phase::HalfOpen(round) => round.claim_lease(lease),
            _ => false,
        }
    }

    /// Takes back the backend's leases that have expired. Returns those whose calls still run:
    /// these probes have failed. An unused lease expires at the backend by itself.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Vec<LeaseId> {
        let asks = self.asks_backend();
        match &mut self.phase {
            Phase::HalfOpen(round) if asks => {
                let gone = round.take_expired(now);
                gone.into_iter().filter_map(|(lease, begun)| begun.then_some(lease)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns when the next lease of the backend expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::HalfOpen(round) if self.asks_backend() => round.next_expiry(),
            _ => None,
        }
    }

    /// Returns whether the backend decides which calls probe, and what follows.
    pub(crate) fn asks_backend(&self) -> bool {
        self.backing == Backing::Attached && self.origin == Origin::Cluster
    }

    /// Returns how many of our own probes may be out at once.
    pub(super) fn slots(&self, policy: &Policy) -> u64 {
        // The backend counts the probe slots of a cluster. Without it, each replica takes one.
        if self.backing == Backing::Detached { 1 } else { policy.probes() }
    }
}
