//! What an engine grants, in two words.

use std::num::NonZeroU64;

use crate::machine::LeaseId;
use crate::timestamp::Timestamp;

/// Permission to make one call.
///
/// It is counted nowhere, so that nothing must be returned while the circuit is closed; only a
/// probe's lease is. Two words, because two words travel in registers: in a larger struct, a call
/// spent 20 ns on moving it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    /// The epoch at which it was granted; the highest bit marks a probe.
    stamp: NonZeroU64,
    /// A probe's lease, or when another call began. Never, if that does not matter.
    detail: u64,
}

const PROBE: u64 = 1 << 63;

impl Grant {
    /// Epochs start at one.
    #[inline]
    pub(super) fn call(epoch: u64, started: Timestamp) -> Self {
        Self { stamp: NonZeroU64::MIN | epoch << 1, detail: started.as_nanos() }
    }

    pub(super) fn probe(epoch: u64, LeaseId(lease): LeaseId) -> Self {
        Self { stamp: NonZeroU64::MIN | PROBE | epoch << 1, detail: lease }
    }

    #[inline]
    pub(super) fn epoch(self) -> u64 {
        (self.stamp.get() & !PROBE) >> 1
    }

    #[inline]
    pub(super) fn lease(self) -> Option<LeaseId> {
        (self.stamp.get() & PROBE != 0).then_some(LeaseId(self.detail))
    }

    /// Returns when the call began, if it is no probe.
    #[inline]
    pub(super) fn started(self) -> Timestamp {
        Timestamp::from_nanos(self.detail)
    }
}
