//! What an engine grants, in two words.

use std::num::NonZeroU64;

use crate::machine::LeaseId;
use crate::timestamp::Timestamp;

/// Leave to make one call.
///
/// It is not counted anywhere, so that nothing need be given back while the circuit is closed;
/// only a probe's lease is. Two words, as two words travel in registers: in a struct of more, a
/// call spent 20 ns on moving it about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    /// The epoch at which it was given; the highest bit tells a probe.
    stamp: NonZeroU64,
    /// Of a probe its lease, of another call when it began: never, if nobody needs to know.
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

    /// When the call began, if it is no probe.
    #[inline]
    pub(super) fn started(self) -> Timestamp {
        Timestamp::from_nanos(self.detail)
    }
}
