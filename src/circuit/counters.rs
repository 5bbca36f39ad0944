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
    pub(super) rejected: Shared,
    /// Successes that are no evidence: the tally has the others.
    pub(super) succeeded: Shared,
    pub(super) ignored: Counter,
    pub(super) cancelled: Counter,
}

/// A number that is most often counted by the thread that owns the stripe.
///
/// Law: only the owner writes `by_owner` during a life, so it needs no locked addition, which would
/// cost a rejection as much again as all the rest of it. A life may begin between the owner's load
/// and its store, and the store then has the tag of the life before. That is no count of the new
/// life: [`count`](Self::count) reads it as zero, and the owner's next addition starts at one.
#[derive(Debug)]
pub(super) struct Shared {
    by_owner: AtomicU64,
    by_others: Counter,
}

/// Whether a thread has a stripe for itself, or may share it with threads that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Owner,
    Other,
}

impl Shared {
    fn new() -> Self {
        Self { by_owner: AtomicU64::new(0), by_others: Counter::new() }
    }

    /// Adds one. The call was admitted in this life.
    #[inline]
    pub(super) fn add(&self, writer: Writer, life: Life) {
        if writer == Writer::Other {
            return self.by_others.add(life);
        }
        let seen = self.by_owner.load(Ordering::Relaxed);
        let before = if (seen ^ life.0) < Life::COUNT { seen } else { life.0 };
        self.by_owner.store(before + 1, Ordering::Release);
    }

    fn begin(&self, life: Life) {
        // A tag comes round after 65 536 lives.
        self.by_owner.store(life.0, Ordering::Release);
        self.by_others.begin(life);
    }

    /// Returns what was counted in this life.
    pub(super) fn count(&self, life: Life) -> u64 {
        let by_owner = self.by_owner.load(Ordering::Acquire) ^ life.0;
        let by_owner = if by_owner < Life::COUNT { by_owner } else { 0 };
        by_owner + self.by_others.count()
    }
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            rejected: Shared::new(),
            succeeded: Shared::new(),
            ignored: Counter::new(),
            cancelled: Counter::new(),
        }
    }

    /// Starts a life: all counters are zero.
    pub(super) fn begin(&self, life: Life) {
        let Self { rejected, succeeded, ignored, cancelled } = self;
        rejected.begin(life);
        succeeded.begin(life);
        ignored.begin(life);
        cancelled.begin(life);
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_owners_late_store_of_an_earlier_life_counts_nothing() {
        let (earlier, later) = (Life::born_at(2), Life::born_at(4));
        let number = Shared::new();
        number.begin(earlier);
        number.add(Writer::Owner, earlier);
        number.begin(later);
        // The owner had read the number before.
        number.by_owner.store(earlier.0 + 2, Ordering::Relaxed);
        assert_eq!(number.count(later), 0);
        number.add(Writer::Owner, later);
        number.add(Writer::Other, later);
        assert_eq!(number.count(later), 2);
    }
}
