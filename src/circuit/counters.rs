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

/// A number of which only the thread that owns the stripe counts: `life (16 bits) │ count (48 bits)`.
///
/// It needs no locked addition, which would cost a rejection as much again as all the rest of it.
/// A life may begin between the owner's load and its store, and the store then has the tag of the
/// life before. That is no count of the new life: [`count`](Self::count) reads it as zero, and the
/// owner's next addition starts at one.
#[derive(Debug)]
pub(super) struct Owned(AtomicU64);

impl Owned {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one, for a call that was admitted in this life. Only the owner may call it.
    #[inline]
    pub(super) fn add(&self, life: Life) {
        let seen = self.0.load(Ordering::Relaxed);
        let before = if (seen ^ life.0) < Life::COUNT { seen } else { life.0 };
        self.0.store(before + 1, Ordering::Release);
    }

    fn begin(&self, life: Life) {
        // A tag comes round after 65 536 lives.
        self.0.store(life.0, Ordering::Release);
    }

    pub(super) fn count(&self, life: Life) -> u64 {
        let count = self.0.load(Ordering::Acquire) ^ life.0;
        if count < Life::COUNT { count } else { 0 }
    }
}

/// One stripe's counters.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) rejected: Owned,
    pub(super) rejected_by_others: Counter,
    /// Successes that are no evidence. The tally has the others, and those of other threads.
    pub(super) succeeded: Owned,
    pub(super) ignored: Counter,
    pub(super) cancelled: Counter,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            rejected: Owned::new(),
            rejected_by_others: Counter::new(),
            succeeded: Owned::new(),
            ignored: Counter::new(),
            cancelled: Counter::new(),
        }
    }

    pub(super) fn rejections(&self, life: Life) -> u64 {
        self.rejected.count(life) + self.rejected_by_others.count()
    }

    /// Starts a life: all counters are zero.
    pub(super) fn begin(&self, life: Life) {
        let Self { rejected, rejected_by_others, succeeded, ignored, cancelled } = self;
        rejected.begin(life);
        succeeded.begin(life);
        for counter in [rejected_by_others, ignored, cancelled] {
            counter.begin(life);
        }
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_owners_late_store_of_an_earlier_life_counts_nothing() {
        let (earlier, later) = (Life::born_at(2), Life::born_at(4));
        let number = Owned::new();
        number.begin(earlier);
        number.add(earlier);
        number.begin(later);
        // The owner had read the number before.
        number.0.store(earlier.0 + 2, Ordering::Relaxed);
        assert_eq!(number.count(later), 0);
        number.add(later);
        assert_eq!(number.count(later), 1);
    }
}
