//! Leases of probes, as the backend grants or refuses them.

use std::time::Duration;

use super::circuit::CircuitSync;
use crate::backend::{Lease, RecordState, View};
use crate::machine::{LeaseId, Machine};
use crate::timestamp::Timestamp;

/// A replica counts its lease as over a little before the backend does, so that it can still
/// report the probe as failed.
const LEASE_MARGIN: Duration = Duration::from_millis(250);

/// A refused request for a lease is repeated so long after the next lease expires, by a share of
/// it, so that replicas do not ask in step.
const ASK_SPREAD: f64 = 0.2;

/// Which lease answers the request of a caller that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    GiveBack,
    /// The next caller takes it.
    Keep,
}

impl CircuitSync {
    /// The backend granted a lease, some time after it was `asked` for. Returns it, if it is for
    /// the caller and not for the next one.
    pub(crate) fn granted(
        &mut self,
        lease: Lease,
        unclaimed: Unclaimed,
        asked: Timestamp,
        machine: &mut Machine,
    ) -> Option<LeaseId> {
        self.refusals = 0;
        let id = LeaseId(lease.nonce);
        let current = self.followed.generation == lease.generation;
        let ours = lease.remaining.saturating_sub((lease.remaining / 10).min(LEASE_MARGIN));
        if !current || !machine.store_lease(id, asked.after(ours)) {
            // Of a round that is over, or of one in which an operator has acted: the slot is free
            // again when the lease expires.
            return None;
        }
        (unclaimed == Unclaimed::GiveBack && machine.claim_lease(id)).then_some(id)
    }

    /// The backend granted no lease. Returns whether its view says when to ask again.
    pub(crate) fn refused(&mut self, view: &View, machine: &mut Machine, now: Timestamp) -> bool {
        self.refusals = 0;
        let other = view.generation != self.followed.generation;
        if other || !self.is_synced() || machine.state().is_overridden() {
            return false;
        }
        match view.state {
            RecordState::Open { .. } => {
                (self.followed.state, self.followed_at) = (view.state, now);
                self.update(Timestamp::default(), machine);
            }
            RecordState::HalfOpen { next_expiry, .. } => {
                let wait = next_expiry.unwrap_or_default();
                self.update(now.after(wait.mul_f64(1.0 + ASK_SPREAD * fastrand::f64())), machine);
            }
            RecordState::Closed => {}
        }
        true
    }
}
