//! What an engine grants, in two words.

use std::num::NonZeroU64;

use crate::machine::LeaseId;
use crate::outcome::FailureKind;
use crate::timestamp::Timestamp;

/// Permission to make one call.
///
/// It is counted nowhere, so that nothing must be returned while the circuit is closed; only a
/// probe's lease is. Two words, because two words travel in registers: in a larger struct, a call
/// spent 20 ns on moving it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    /// `probe (1 bit) │ kind (7 bits) │ sampled (1 bit) │ … │ epoch (48 bits) │ 1`: the epoch at which
    /// it was granted, and the kind of failure that its call ended with, if it has.
    stamp: NonZeroU64,
    /// A probe's lease, or when another call began. Never, if that does not matter.
    detail: u64,
}

const PROBE: u64 = 1 << 63;
const KIND_SHIFT: u32 = 56;
const SAMPLED: u64 = 1 << 55;
const EPOCH: u64 = (1 << 49) - 1;

impl Grant {
    /// Epochs start at one.
    #[inline]
    pub(super) fn call(epoch: u64, started: Timestamp) -> Self {
        Self { stamp: NonZeroU64::MIN | epoch << 1, detail: started.as_nanos() }
    }

    /// A call that has begun. If it is sampled, it is measured how long it takes.
    pub(super) fn started(epoch: u64, at: Timestamp, sampled: bool) -> Self {
        let Self { stamp, detail } = Self::call(epoch, at);
        Self { stamp: if sampled { stamp | SAMPLED } else { stamp }, detail }
    }

    #[inline]
    pub(super) fn is_sampled(self) -> bool {
        self.stamp.get() & SAMPLED != 0
    }

    pub(super) fn probe(epoch: u64, LeaseId(lease): LeaseId) -> Self {
        Self { stamp: NonZeroU64::MIN | PROBE | epoch << 1, detail: lease }
    }

    #[inline]
    pub(super) fn epoch(self) -> u64 {
        (self.stamp.get() & EPOCH) >> 1
    }

    #[inline]
    pub(super) fn lease(self) -> Option<LeaseId> {
        (self.stamp.get() & PROBE != 0).then_some(LeaseId(self.detail))
    }

    /// Returns the grant of a call that failed in this way, if it failed.
    #[inline]
    pub(super) fn failed_as(self, kind: FailureKind) -> Self {
        // Not zero: the lowest bit is set.
        let stamp = self.stamp.get() & (PROBE | SAMPLED | EPOCH) | (kind as u64) << KIND_SHIFT;
        Self { stamp: NonZeroU64::MIN | stamp, ..self }
    }

    pub(super) fn kind(self) -> FailureKind {
        let code = (self.stamp.get() & !PROBE) >> KIND_SHIFT;
        FailureKind::ALL.get(code as usize).copied().unwrap_or_default()
    }

    /// Returns when the call began, if it is no probe.
    #[inline]
    pub(super) fn began(self) -> Timestamp {
        Timestamp::from_nanos(self.detail)
    }
}
