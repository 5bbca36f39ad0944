//! Counters of what takes no lock and leaves no evidence, one set for each stripe.
//!
//! They belong to one [life](Life) of an engine: from when it became a circuit's to when it becomes
//! the next one's. A call of the earlier circuit can end while the engine changes hands; its count
//! carries the earlier life, and is refused.

use super::primitives::{AtomicU64, Ordering};

/// The life of an engine, as the tag of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(u64);

impl Life {
    const COUNT_BITS: u32 = 48;
    const COUNT: u64 = (1 << Self::COUNT_BITS) - 1;

    /// Returns the life that began at this epoch. Published epochs are even.
    #[inline]
    pub(super) fn born_at(epoch: u64) -> Self {
        Self((epoch >> 1) << Self::COUNT_BITS)
    }
}

/// A number: `life (16 bits) │ count (48 bits)`.
#[derive(Debug)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one, unless the life is over.
    #[inline]
    pub(super) fn add(&self, life: Life) {
        let mut seen = self.0.load(Ordering::Relaxed);
        while (seen ^ life.0) < Life::COUNT {
            match self.0.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
    }

    pub(super) fn begin(&self, life: Life) {
        // Not a store: a count that was added before is seen as such.
        self.0.swap(life.0, Ordering::AcqRel);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire) & Life::COUNT
    }
}

/// One stripe's counters.
#[derive(Debug)]
pub(super) struct Counters {
    rejected: Rejections,
    pub(super) ignored: Counter,
    pub(super) cancelled: Counter,
}

/// Calls that were rejected. Only a holder of a handle counts one, so no life can end meanwhile.
#[derive(Debug)]
struct Rejections {
    /// Written by the thread that owns the stripe alone: a locked addition costs a rejection as
    /// much again as all the rest of it.
    by_owner: AtomicU64,
    by_others: AtomicU64,
}

/// Whether a thread has a stripe for itself, or may share it with threads that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Owner,
    Other,
}

impl Counters {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            rejected: Rejections { by_owner: zero(), by_others: zero() },
            ignored: Counter::new(),
            cancelled: Counter::new(),
        }
    }

    /// Starts a life: all counters are zero.
    pub(super) fn begin(&self, life: Life) {
        self.ignored.begin(life);
        self.cancelled.begin(life);
        self.rejected.by_owner.store(0, Ordering::Release);
        self.rejected.by_others.store(0, Ordering::Release);
    }

    #[inline]
    pub(super) fn count_rejected(&self, writer: Writer) {
        let Rejections { by_owner, by_others } = &self.rejected;
        match writer {
            Writer::Owner => {
                by_owner.store(by_owner.load(Ordering::Relaxed) + 1, Ordering::Release);
            }
            Writer::Other => {
                by_others.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    pub(super) fn rejected(&self) -> u64 {
        let Rejections { by_owner, by_others } = &self.rejected;
        by_owner.load(Ordering::Acquire) + by_others.load(Ordering::Acquire)
    }
}
