//! Calls that are still running, counted by when they started.
//!
//! Under a policy with a slow-call rate, a call that has been running for longer than the limit is
//! evidence before it ends: otherwise an upstream that never answers would never open its circuit.
//! No call has a timer or a task for that. Each stripe counts starts and ends by the slice of time
//! in which the call started; the holder of the engine's lock sums up what remains of old slices.
//!
//! Laws:
//!
//! 1. A call is counted once when it starts and taken back once when it ends, in the slice of its
//!    start, wherever it ends. The sum over all stripes is what still runs.
//! 2. Counts belong to one [watch](Watch). When a watch begins, all counts start at zero, and calls
//!    of an earlier watch are neither counted nor taken back.
//! 3. A slice is *overdue* once all of it is older than the limit. The ring covers the limit and
//!    one slice more, so what leaves the ring is overdue, and is kept as one number.
//!
//! A slice is between a sixth and a third of the limit long, a power of two of nanoseconds, so that
//! finding it takes a shift. Counts are modulo 2^20, which is right as long as fewer than half a
//! million calls run at once.

use std::time::Duration;

use super::primitives::{AtomicU64, Ordering};
use crate::timestamp::{Timestamp, nanos};

const SLICES: usize = 8;

/// Running calls are not judged more often than this, however short the limit.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// What is counted, from which epoch on, and in which slices: `epoch (56 bits) │ shift (8 bits)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch(pub(super) u64);

impl Watch {
    /// Nothing is watched.
    pub(crate) const OFF: Self = Self(u64::MAX);

    const SHIFT_BITS: u32 = 8;

    /// Slices are no shorter than 2^17 ns, or their numbers would come round within the hour.
    const LEAST_SHIFT: u32 = 17;

    /// Watches for calls that run longer than `limit`, among those admitted from `epoch` on.
    pub(crate) fn new(epoch: u64, limit: Duration) -> Self {
        let shift = (nanos(limit) / 3).max(1).ilog2().max(Self::LEAST_SHIFT);
        Self(epoch << Self::SHIFT_BITS | u64::from(shift))
    }

    /// Returns whether a call that was admitted at this epoch is counted. If the watch is off, none
    /// is.
    #[inline]
    pub(super) fn covers(self, epoch: u64) -> bool {
        epoch >= self.0 >> Self::SHIFT_BITS
    }

    /// Returns the length of a slice.
    fn slice(self) -> Duration {
        Duration::from_nanos(1 << self.shift())
    }

    /// Returns when running calls are to be judged again that are judged now.
    pub(crate) fn next_look(self, now: Timestamp) -> Timestamp {
        now.after((self.slice() / 2).max(SHORTEST_LOOK))
    }

    #[inline]
    fn shift(self) -> u64 {
        self.0 & ((1 << Self::SHIFT_BITS) - 1)
    }

    #[inline]
    fn slice_of(self, time: Timestamp) -> u64 {
        time.as_nanos() >> self.shift()
    }

    /// Distinguishes this watch's counts from those of an earlier one.
    #[inline]
    fn tag(self) -> u64 {
        // Published epochs are even.
        self.0 >> (Self::SHIFT_BITS + 1) & Count::TAG_MASK
    }
}

/// How many calls run that started in one slice: `tag (16 bits) │ slice (28 bits) │ count (20 bits)`.
///
/// The count of one stripe may be negative: a call may end on another thread than it started on.
#[derive(Clone, Copy)]
struct Count(u64);

impl Count {
    const COUNT_BITS: u32 = 20;
    const SLICE_BITS: u32 = 28;
    const COUNT_MASK: u64 = (1 << Self::COUNT_BITS) - 1;
    const SLICE_MASK: u64 = (1 << Self::SLICE_BITS) - 1;
    const TAG_MASK: u64 = 0xffff;

    const fn new(tag: u64, slice: u64, count: u64) -> Self {
        let slice = (slice & Self::SLICE_MASK) << Self::COUNT_BITS;
        Self(tag << (Self::SLICE_BITS + Self::COUNT_BITS) | slice | count & Self::COUNT_MASK)
    }

    const fn tag(self) -> u64 {
        self.0 >> (Self::SLICE_BITS + Self::COUNT_BITS)
    }

    const fn count(self) -> u64 {
        self.0 & Self::COUNT_MASK
    }

    const fn with_count(self, count: u64) -> Self {
        Self(self.0 & !Self::COUNT_MASK | count & Self::COUNT_MASK)
    }

    /// Returns how many slices lie from this one to `slice`; negative if that is earlier.
    const fn slices_to(self, slice: u64) -> i64 {
        let unused = u64::BITS - Self::SLICE_BITS;
        (slice.wrapping_sub(self.0 >> Self::COUNT_BITS) << unused).cast_signed() >> unused
    }
}

/// One call more, and one call less.
const MORE: u64 = 1;
const LESS: u64 = u64::MAX;

/// One stripe's counts.
#[derive(Debug)]
pub(crate) struct Running {
    ring: [AtomicU64; SLICES],
    /// What has left the ring. Its slice has no meaning.
    older: AtomicU64,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self { ring: std::array::from_fn(|_| AtomicU64::new(0)), older: AtomicU64::new(0) }
    }

    /// Starts a watch.
    pub(crate) fn reset(&self, watch: Watch, now: Timestamp) {
        // Before any slice in which a call can start.
        let before = watch.slice_of(now).wrapping_sub(SLICES as u64);
        for word in self.ring.iter().chain([&self.older]) {
            word.store(Count::new(watch.tag(), before, 0).0, Ordering::Release);
        }
    }

    /// Counts a call that starts. Returns false, and counts nothing, if the watch is over.
    #[inline]
    pub(crate) fn start(&self, watch: Watch, started: Timestamp) -> bool {
        self.change(watch, started, MORE)
    }

    /// Takes back a call that has ended.
    #[inline]
    pub(crate) fn end(&self, watch: Watch, started: Timestamp) {
        self.change(watch, started, LESS);
    }

    /// Returns how many calls have been running for longer than `limit`, by this stripe's count.
    fn overdue(&self, watch: Watch, limit: Duration, now: Timestamp) -> u64 {
        let not_yet = watch
            .slice_of(Timestamp::default().after(now.since(Timestamp::default().after(limit))));
        for word in &self.ring {
            let mut seen = Count(word.load(Ordering::Acquire));
            while seen.count() != 0 && seen.slices_to(not_yet) > 0 {
                let new = seen.with_count(0);
                match swap(word, seen, new) {
                    Ok(()) => {
                        self.add_older(watch, seen.count());
                        break;
                    }
                    Err(newer) => seen = newer,
                }
            }
        }
        Count(self.older.load(Ordering::Acquire)).count()
    }

    #[inline]
    fn change(&self, watch: Watch, started: Timestamp, change: u64) -> bool {
        let slice = watch.slice_of(started);
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of 8")]
        let word = &self.ring[slice as usize % SLICES];
        let mut seen = Count(word.load(Ordering::Relaxed));
        loop {
            if seen.tag() != watch.tag() {
                return false;
            }
            let after = seen.slices_to(slice);
            let (new, leaves) = if after == 0 {
                (seen.with_count(seen.count().wrapping_add(change)), 0)
            } else if after > 0 || seen.count() == 0 {
                (Count::new(watch.tag(), slice, change), seen.count())
            } else {
                return self.add_older(watch, change);
            };
            match swap(word, seen, new) {
                Ok(()) => {
                    if leaves != 0 {
                        self.add_older(watch, leaves);
                    }
                    return true;
                }
                Err(newer) => seen = newer,
            }
        }
    }

    #[cold]
    fn add_older(&self, watch: Watch, change: u64) -> bool {
        let mut seen = Count(self.older.load(Ordering::Relaxed));
        while seen.tag() == watch.tag() {
            match swap(&self.older, seen, seen.with_count(seen.count().wrapping_add(change))) {
                Ok(()) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }
}

/// Returns how many calls have been running for longer than `limit`, by all stripes.
pub(crate) fn overdue<'a>(
    stripes: impl Iterator<Item = &'a Running>,
    watch: Watch,
    limit: Duration,
    now: Timestamp,
) -> u64 {
    let each = stripes.map(|running| running.overdue(watch, limit, now));
    let sum = each.fold(0, u64::wrapping_add) & Count::COUNT_MASK;
    // An end may be seen before its start: less than none is none.
    if sum > Count::COUNT_MASK / 2 { 0 } else { sum }
}

#[inline]
fn swap(word: &AtomicU64, seen: Count, new: Count) -> Result<(), Count> {
    word.compare_exchange_weak(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
        .map(|_| ())
        .map_err(Count)
}
