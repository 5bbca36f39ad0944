//! The machine as the copy of a record that replicas share: laws 6 to 9.

use std::time::Duration;

use super::Machine;
use super::half_open::{LeaseId, Round};
use super::phase::{Origin, Phase, State};
use super::transition::{Reason, Transition};
use super::window::Evidence;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// Whether there is a ledger to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// The circuit belongs to this process alone.
    None,
    Reachable,
    Lost,
}

/// A state of the ledger's, in this process's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Closed,
    Open { until: Timestamp, reopenings: u32 },
    HalfOpen { reopenings: u32, passed: u64 },
}

/// How a probe of the cluster's went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed { reason: Reason, hint: Option<Duration> },
    Released,
}

impl Machine {
    /// Whether there is a ledger, and whether it can be asked.
    pub(crate) fn set_ledger(&mut self, ledger: Ledger) {
        self.ledger = ledger;
        if let (Phase::HalfOpen(round), Ledger::Lost) = (&mut self.phase, ledger) {
            round.drop_spare();
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Takes on a new generation of the ledger's. It ends what was in force.
    ///
    /// There is nothing to tell where the state stays what it was, and only who says so, and until
    /// when, is new; but an open circuit of the cluster's that is open anew has been probed by others.
    pub(crate) fn adopt(
        &mut self,
        shared: Shared,
        generation: u64,
        reason: Reason,
        now: Timestamp,
        policy: &Policy,
    ) -> Option<Transition> {
        let (from, by) = (self.state(), self.origin);
        self.origin = Origin::Cluster;
        let (phase, reopenings, open_for) = match shared {
            Shared::Closed => (Phase::Closed(Evidence::new(policy.window(), now)), 0, None),
            Shared::Open { until, reopenings } => {
                (Phase::Open { until }, reopenings, Some(until.since(now)))
            }
            Shared::HalfOpen { reopenings, passed } => {
                let mut round = Round::default();
                round.heard(passed, Timestamp::default());
                (Phase::HalfOpen(round), reopenings, None)
            }
        };
        self.reopenings = reopenings;
        // One less, as `enter` counts; and never back, whatever this process has counted alone.
        self.generation = self.generation.max(generation - 1);
        let transition = self.enter(phase, reason);
        let news = from != self.state() || (from == State::Open && by == Origin::Cluster);
        news.then_some(Transition { open_for, ..transition })
    }

    /// Hears what has changed within a generation of the ledger's.
    pub(crate) fn hear(&mut self, shared: Shared, refused_until: Timestamp) {
        match (&mut self.phase, shared) {
            (Phase::Open { until }, Shared::Open { until: later, .. })
                if self.origin == Origin::Cluster =>
            {
                *until = later;
            }
            (Phase::HalfOpen(round), Shared::HalfOpen { passed, .. })
                if self.origin == Origin::Cluster =>
            {
                round.heard(passed, refused_until);
            }
            _ => {}
        }
    }

    /// Puts down a lease of the ledger's. False where it is of no use any more.
    pub(crate) fn give(&mut self, lease: LeaseId, expires: Timestamp) -> bool {
        let asks = self.asks();
        match &mut self.phase {
            Phase::HalfOpen(round) if asks => {
                round.give(lease, expires);
                true
            }
            _ => false,
        }
    }

    /// Takes a lease that was put down.
    pub(crate) fn claim(&mut self, lease: LeaseId) -> bool {
        match &mut self.phase {
            Phase::HalfOpen(round) => round.claim(lease),
            _ => false,
        }
    }

    /// Takes back the leases of the ledger's that have run out. One whose call is still under way
    /// has failed; one that was not used is free again by itself.
    pub(crate) fn run_out(&mut self, now: Timestamp) -> Vec<LeaseId> {
        let asks = self.asks();
        match &mut self.phase {
            Phase::HalfOpen(round) if asks => {
                let gone = round.run_out(now);
                gone.into_iter().filter_map(|(lease, begun)| begun.then_some(lease)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// When the next lease of the ledger's runs out.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::HalfOpen(round) if self.asks() => round.next_expiry(),
            _ => None,
        }
    }

    /// Whether the ledger decides who probes, and what comes of it.
    pub(crate) fn asks(&self) -> bool {
        self.ledger == Ledger::Reachable && self.origin == Origin::Cluster
    }

    /// How many probes of our own may be out at once.
    pub(super) fn places(&self, policy: &Policy) -> u64 {
        // The ledger is what counts the places of a cluster. Without it each replica takes one.
        if self.ledger == Ledger::Lost { 1 } else { policy.probes() }
    }
}
