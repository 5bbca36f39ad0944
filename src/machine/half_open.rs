//! A half-open round: its leases, and how it goes.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// What a half-open phase remembers.
///
/// In a round of the cluster this is a part: the leases that this replica was granted. The backend
/// has the whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    leases: Vec<Lease>,
    granted: u64,
    /// Probes that succeeded. One failure ends the round, so they are always consecutive.
    passed: u64,
    /// Until then the backend need not be asked again.
    refused_until: Timestamp,
}

/// Names a lease within its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) u64);

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: LeaseId,
    expires: Timestamp,
    /// When the call was made, if it was. A lease that expires before its service is called says
    /// nothing about the upstream.
    begun: Option<Timestamp>,
    /// The backend granted it, and no call has taken it yet.
    spare: bool,
}

/// How a lease was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returned {
    InTime,
    /// Its call outlived it.
    Late,
    /// It expired before a call was made.
    Unused,
}

impl Round {
    /// Returns since when a call has outlived its lease; the earliest, if there are several.
    pub(super) fn hung_since(&self, now: Timestamp) -> Option<Timestamp> {
        let begun = self.leases.iter().filter(|lease| lease.begun.is_some());
        begun.map(|lease| lease.expires).min().filter(|expires| *expires <= now)
    }

    /// Takes a probe slot, if one is free.
    pub(super) fn lease(
        &mut self,
        making: bool,
        slots: u64,
        now: Timestamp,
        length: Duration,
    ) -> Option<LeaseId> {
        self.leases.retain(|lease| lease.begun.is_some() || lease.expires > now);
        if self.leases.len() as u64 >= slots {
            return None;
        }
        let id = LeaseId(self.granted);
        self.granted += 1;
        let begun = making.then_some(now);
        self.leases.push(Lease { id, expires: now.after(length), begun, spare: false });
        Some(id)
    }

    /// Stores a lease that the backend granted, for the next call.
    pub(super) fn store_lease(&mut self, id: LeaseId, expires: Timestamp) {
        self.leases.push(Lease { id, expires, begun: None, spare: true });
    }

    /// Takes a lease that the backend granted and no call has taken yet.
    pub(super) fn take(&mut self, making: bool, now: Timestamp) -> Option<LeaseId> {
        let lease = self.leases.iter_mut().find(|lease| lease.spare && lease.expires > now)?;
        lease.spare = false;
        lease.begun = making.then_some(now);
        Some(lease.id)
    }

    /// Takes the lease `id`, if no call has taken it yet.
    pub(super) fn claim_lease(&mut self, id: LeaseId) -> bool {
        let lease = self.leases.iter_mut().find(|lease| lease.id == id && lease.spare);
        lease.map(|lease| lease.spare = false).is_some()
    }

    /// Drops the leases that no call has taken.
    pub(super) fn drop_spare(&mut self) {
        self.leases.retain(|lease| !lease.spare);
    }

    pub(super) fn has_spare(&self) -> bool {
        self.leases.iter().any(|lease| lease.spare)
    }

    /// Removes the leases that have expired. Returns which, and whether their calls were running.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Vec<(LeaseId, bool)> {
        let over = |lease: &Lease| lease.expires <= now;
        let gone = self.leases.iter().filter(|lease| over(lease));
        let gone = gone.map(|lease| (lease.id, lease.begun.is_some())).collect();
        self.leases.retain(|lease| !over(lease));
        gone
    }

    pub(super) fn refused_until(&self) -> Timestamp {
        self.refused_until
    }

    /// Applies what the backend reports of the round: how many probes have passed, and until when
    /// it would refuse a lease.
    pub(super) fn update(&mut self, passed: u64, refused_until: Timestamp) {
        (self.passed, self.refused_until) = (passed, refused_until);
    }

    /// Starts the lease's call, and its time anew if a length is given. Returns false if the lease
    /// has expired.
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

    /// Returns for how long the lease's call has been running.
    pub(super) fn ran(&self, id: LeaseId, now: Timestamp) -> Duration {
        let lease = self.leases.iter().find(|lease| lease.id == id);
        lease.and_then(|lease| lease.begun).map_or(Duration::ZERO, |begun| now.since(begun))
    }

    /// Frees the probe slot. Returns `None` if the lease is not known.
    pub(super) fn return_lease(&mut self, id: LeaseId, now: Timestamp) -> Option<Returned> {
        let at = self.leases.iter().position(|lease| lease.id == id)?;
        let lease = self.leases.swap_remove(at);
        Some(if lease.expires > now {
            Returned::InTime
        } else if lease.begun.is_some() {
            Returned::Late
        } else {
            Returned::Unused
        })
    }

    /// Counts a probe that succeeded. Returns whether it was the last one needed.
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

    /// Returns when the next lease expires.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.leases.iter().map(|lease| lease.expires).min()
    }
}
