//! A half-open round: who probes, and how it goes.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// What a half-open phase remembers.
///
/// Of a round of the cluster's this is a part: the leases that this replica has got. The ledger has
/// the whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    leases: Vec<Lease>,
    granted: u64,
    /// Good probes so far. One bad one ends the round, so they are always in a row.
    passed: u64,
    /// The ledger need not be asked again before.
    refused_until: Timestamp,
}

/// Names a lease within its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) u64);

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: LeaseId,
    expires: Timestamp,
    /// When the call was made, if it was. A lease whose service was readied and never called says
    /// nothing about the upstream when it runs out.
    begun: Option<Timestamp>,
    /// From the ledger, and nobody has taken it yet.
    spare: bool,
}

/// How a lease came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returned {
    InTime,
    /// Its call outlived it.
    Late,
    /// It ran out, and no call was made.
    Unused,
}

impl Round {
    /// Since when a call that was made has outlived its lease; of several, the first.
    pub(super) fn hung_since(&self, now: Timestamp) -> Option<Timestamp> {
        let begun = self.leases.iter().filter(|lease| lease.begun.is_some());
        begun.map(|lease| lease.expires).min().filter(|expires| *expires <= now)
    }

    /// Takes a place, if one is free.
    pub(super) fn lease(
        &mut self,
        making: bool,
        places: u64,
        now: Timestamp,
        length: Duration,
    ) -> Option<LeaseId> {
        self.leases.retain(|lease| lease.begun.is_some() || lease.expires > now);
        if self.leases.len() as u64 >= places {
            return None;
        }
        let id = LeaseId(self.granted);
        self.granted += 1;
        let begun = making.then_some(now);
        self.leases.push(Lease { id, expires: now.after(length), begun, spare: false });
        Some(id)
    }

    /// Puts down a lease that the ledger has given, for whoever comes.
    pub(super) fn give(&mut self, id: LeaseId, expires: Timestamp) {
        self.leases.push(Lease { id, expires, begun: None, spare: true });
    }

    /// Takes a lease that the ledger has given and nobody has taken yet.
    pub(super) fn take(&mut self, making: bool, now: Timestamp) -> Option<LeaseId> {
        let lease = self.leases.iter_mut().find(|lease| lease.spare && lease.expires > now)?;
        lease.spare = false;
        lease.begun = making.then_some(now);
        Some(lease.id)
    }

    /// Takes this one.
    pub(super) fn claim(&mut self, id: LeaseId) -> bool {
        let lease = self.leases.iter_mut().find(|lease| lease.id == id && lease.spare);
        lease.map(|lease| lease.spare = false).is_some()
    }

    /// Lets go of the leases that nobody has taken.
    pub(super) fn drop_spare(&mut self) {
        self.leases.retain(|lease| !lease.spare);
    }

    pub(super) fn has_spare(&self) -> bool {
        self.leases.iter().any(|lease| lease.spare)
    }

    /// Removes the leases that have run out, and tells which, and whether a call was under way.
    pub(super) fn run_out(&mut self, now: Timestamp) -> Vec<(LeaseId, bool)> {
        let over = |lease: &Lease| lease.expires <= now;
        let gone = self.leases.iter().filter(|lease| over(lease));
        let gone = gone.map(|lease| (lease.id, lease.begun.is_some())).collect();
        self.leases.retain(|lease| !over(lease));
        gone
    }

    pub(super) fn refused_until(&self) -> Timestamp {
        self.refused_until
    }

    /// What the ledger says of the round: how many have passed, and until when asking is of no use.
    pub(super) fn heard(&mut self, passed: u64, refused_until: Timestamp) {
        (self.passed, self.refused_until) = (passed, refused_until);
    }

    /// Starts the lease's call, and its time anew, with a length for that. False if it has run out
    /// meanwhile.
    pub(super) fn begin(&mut self, id: LeaseId, now: Timestamp, anew: Option<Duration>) -> bool {
        let lease = self.leases.iter_mut().find(|lease| lease.id == id && lease.expires > now);
        if let Some(lease) = lease {
            lease.begun = Some(now);
            if let Some(length) = anew {
                lease.expires = now.after(length);
            }
            true
        } else {
            false
        }
    }

    pub(super) fn holds(&self, id: LeaseId, now: Timestamp) -> bool {
        self.leases.iter().any(|lease| lease.id == id && lease.expires > now)
    }

    /// For how long the lease's call has been under way.
    pub(super) fn ran(&self, id: LeaseId, now: Timestamp) -> Duration {
        let lease = self.leases.iter().find(|lease| lease.id == id);
        lease.and_then(|lease| lease.begun).map_or(Duration::ZERO, |begun| now.since(begun))
    }

    /// Gives the place back; `None` if the lease is not known, any more or at all.
    pub(super) fn give_back(&mut self, id: LeaseId, now: Timestamp) -> Option<Returned> {
        let place = self.leases.iter().position(|lease| lease.id == id)?;
        let lease = self.leases.swap_remove(place);
        Some(if lease.expires > now {
            Returned::InTime
        } else if lease.begun.is_some() {
            Returned::Late
        } else {
            Returned::Unused
        })
    }

    /// Counts a good probe, and tells whether it was the last one needed.
    pub(super) fn pass(&mut self, needed: u64) -> bool {
        self.passed += 1;
        self.passed >= needed
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    pub(super) fn out(&self) -> usize {
        self.leases.len()
    }

    /// When the next lease runs out.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.leases.iter().map(|lease| lease.expires).min()
    }
}
