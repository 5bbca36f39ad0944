//! Counters that, as a rule, no two threads write.
//!
//! A thread adds to a stripe of its own (threads share one only if there are more of them than
//! stripes), so that counting stays as cheap under many threads as under one. Each stripe is on a
//! cache line of its own.
//!
//! A stripe's tally is one word: `epoch (32 bits) │ done │ run (7 bits) │ successes (24 bits)`. It
//! carries the epoch that it counts in. [`Stripes::drain`] moves all stripes to the next epoch and
//! takes what they held; from then on an addition with the old epoch is refused. So what was
//! drained is a consistent cut: nothing is counted twice, late, or not at all. Totals of what is no
//! evidence need no cut: they are in [`Counters`].
//!
//! The *run* of a stripe is the number of calls that were cancelled since the last one that
//! completed: a success, or an ignored result, of which `done` is all that is counted. The order of
//! what two stripes count is not known, so [`drain`](Stripes::drain) returns the longest run over
//! all threads that is certain. On one thread it is the true one.

use std::time::Duration;

use super::counters::{Counters, Life};
use super::primitives::{AtomicU32, AtomicU64, Ordering};
use super::running::{self, Running, Watch};
use crate::stats::Totals;
use crate::timestamp::Timestamp;

const COUNT_BITS: u32 = 24;
const RUN_BITS: u32 = 7;
const DONE: u64 = 1 << (COUNT_BITS + RUN_BITS);
const EPOCH_SHIFT: u32 = COUNT_BITS + RUN_BITS + 1;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const RUN_MASK: u64 = ((1 << RUN_BITS) - 1) << COUNT_BITS;

/// All but the epoch.
const HELD: u64 = COUNT_MASK | RUN_MASK | DONE;

/// The longest run that a stripe can count.
pub(super) const MOST_CANCELLED: u64 = RUN_MASK >> COUNT_BITS;

/// More stripes than this helped no machine that this was tried on, and each takes 128 bytes.
#[cfg(not(all(test, breaker_loom)))]
const MOST_STRIPES: usize = 32;

#[derive(Debug)]
pub(super) struct Stripes(Box<[Stripe]>);

/// How many stripes a circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// About one for each thread: for a circuit that every call goes through.
    Many,
    /// One, for a circuit of a key, of which there may be thousands: 128 bytes instead of some
    /// thousand, and two threads seldom meet in one.
    One,
}

// Two cache lines, and no more: today's processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    tally: AtomicU64,
    running: Running,
    /// Modulo 2^32: fewer handles are alive.
    clones: AtomicU32,
    drops: AtomicU32,
    counters: Counters,
}

// Each circuit of a key has a stripe.
#[cfg(not(all(test, breaker_loom)))]
const _: () = assert!(size_of::<Stripe>() == 128);

/// What was counted outside the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    pub(super) successes: u64,
    /// Whether a call has completed: with a success, or a result that is ignored.
    pub(super) done: bool,
    /// At least this many calls were cancelled after the last that completed; if none has, in all.
    pub(super) run: u64,
}

impl Stripes {
    pub(super) fn new(width: Width) -> Self {
        let stripe = || Stripe {
            tally: AtomicU64::new(0),
            running: Running::new(),
            clones: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            counters: Counters::new(),
        };
        let stripes = match width {
            Width::Many => number(),
            Width::One => 1,
        };
        Self((0..stripes).map(|_| stripe()).collect())
    }

    #[inline]
    pub(super) fn width(&self) -> Width {
        if self.0.len() == 1 { Width::One } else { Width::Many }
    }

    /// Returns the number of stripes, as a power of two.
    pub(super) fn log2(&self) -> u32 {
        self.0.len().ilog2()
    }

    /// Counts a success in `epoch`. Returns false, and counts nothing, if that epoch is over or its
    /// count is full.
    #[inline]
    pub(super) fn succeed(&self, epoch: u64) -> bool {
        let tally = &self.mine().tally;
        let start = epoch << EPOCH_SHIFT;
        let mut seen = tally.load(Ordering::Relaxed);
        loop {
            // Of another epoch more remains, and so does of one with a run.
            let mut count = seen ^ start;
            if count >= COUNT_MASK {
                count &= !(RUN_MASK | DONE);
                if count >= COUNT_MASK {
                    return false;
                }
            }
            let new = start | (count + 1);
            match tally.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Records a call that has completed and counts nothing: it ends the stripe's run. Returns
    /// false if that epoch is over.
    pub(super) fn complete(&self, epoch: u64) -> bool {
        let tally = &self.mine().tally;
        let start = epoch << EPOCH_SHIFT;
        let mut seen = tally.load(Ordering::Relaxed);
        while (seen ^ start) >> EPOCH_SHIFT == 0 {
            let new = (seen | DONE) & !RUN_MASK;
            if new == seen {
                return true;
            }
            match tally.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }

    /// Returns whether some stripe has counted cancelled calls since the last that completed.
    pub(super) fn has_run(&self) -> bool {
        self.0.iter().any(|stripe| run(stripe.tally.load(Ordering::Relaxed)) > 0)
    }

    /// Counts a cancelled call in `epoch`. Returns false, and counts nothing, if that epoch is
    /// over, or if this stripe's run has `most` calls, which is at most [`MOST_CANCELLED`].
    pub(super) fn cancel(&self, epoch: u64, most: u64) -> bool {
        let tally = &self.mine().tally;
        let start = epoch << EPOCH_SHIFT;
        let mut seen = tally.load(Ordering::Relaxed);
        while (seen ^ start) >> EPOCH_SHIFT == 0 && run(seen) < most {
            let new = seen + (1 << COUNT_BITS);
            match tally.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }

    /// Starts `epoch` in all stripes, and returns what they had counted in the one before.
    pub(super) fn drain(&self, epoch: u64) -> Drained {
        let (mut successes, mut cancelled, mut certain) = (0, 0, None);
        for stripe in &self.0 {
            let tally = stripe.tally.swap(epoch << EPOCH_SHIFT, Ordering::AcqRel);
            // Most are empty, if every call takes the lock.
            if tally & HELD != 0 {
                successes += tally & COUNT_MASK;
                cancelled += run(tally);
                if tally & (COUNT_MASK | DONE) != 0 {
                    // The last completion of all is the last one of a stripe.
                    certain = Some(run(tally).min(certain.unwrap_or(u64::MAX)));
                }
            }
        }
        Drained { successes, done: certain.is_some(), run: certain.unwrap_or(cancelled) }
    }

    /// Starts the counters anew, at zero.
    pub(super) fn begin(&self, life: Life) {
        self.0.iter().for_each(|stripe| stripe.counters.begin(life));
    }

    /// Returns the counters of this thread.
    #[inline]
    pub(super) fn counters(&self) -> &Counters {
        &self.mine().counters
    }

    /// Counts a rejected call. The caller has a handle.
    #[inline]
    pub(super) fn count_rejected(&self, life: Life) {
        let (counters, owns) = self.mine_to_write();
        if owns {
            counters.rejected.add(life);
        } else {
            counters.rejected_by_others.add(life);
        }
    }

    /// Counts a success that is no evidence, of a call that was admitted in this life. Returns
    /// false, and counts nothing, if the thread shares its stripe.
    #[inline]
    pub(super) fn count_succeeded(&self, life: Life) -> bool {
        let (counters, owns) = self.mine_to_write();
        if owns {
            counters.succeeded.add(life);
        }
        owns
    }

    /// Returns this thread's counters, and whether the thread owns the stripe.
    #[inline]
    fn mine_to_write(&self) -> (&Counters, bool) {
        let number = thread_number();
        let stripe = &self.0[number & (self.0.len() - 1)];
        // Numbers are given once: of all threads that write here, one has the number of the stripe.
        (&stripe.counters, number < self.0.len() && cfg!(not(all(test, breaker_loom))))
    }

    /// Adds what is counted here to the totals of what has been drained. The caller holds the
    /// engine's lock: without it, successes could be drained meanwhile.
    pub(super) fn add_to(&self, totals: &mut Totals, life: Life) {
        for Stripe { tally, counters, .. } in &self.0 {
            totals.succeeded += tally.load(Ordering::Acquire) & COUNT_MASK;
            totals.succeeded += counters.succeeded.count(life);
            totals.rejected += counters.rejections(life);
            totals.ignored += counters.ignored.count();
            totals.cancelled += counters.cancelled.count();
        }
    }

    /// Returns how many calls were rejected.
    pub(super) fn rejections(&self, life: Life) -> u64 {
        self.0.iter().map(|stripe| stripe.counters.rejections(life)).sum()
    }

    /// Counts a call that starts, if running calls are watched. Returns false if the watch is over.
    #[inline]
    pub(super) fn start(&self, watch: Watch, started: Timestamp) -> bool {
        self.mine().running.start(watch, started)
    }

    /// Takes back a call that has ended.
    #[inline]
    pub(super) fn end(&self, watch: Watch, started: Timestamp) {
        self.mine().running.end(watch, started);
    }

    /// Starts a watch.
    pub(super) fn watch(&self, watch: Watch, now: Timestamp) {
        self.0.iter().for_each(|stripe| stripe.running.reset(watch, now));
    }

    /// Returns how many calls have been running for longer than `limit`.
    pub(super) fn overdue(&self, watch: Watch, limit: Duration, now: Timestamp) -> u64 {
        running::overdue(self.0.iter().map(|stripe| &stripe.running), watch, limit, now)
    }

    #[inline]
    pub(super) fn handle_cloned(&self) {
        self.mine().clones.fetch_add(1, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn handle_dropped(&self) {
        // A thread that sees this drop sees every clone that was made of the handle before.
        self.mine().drops.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many handles there are; at most, if others clone and drop meanwhile. Zero is
    /// certain, and so is one if the caller holds it: only a handle makes handles.
    ///
    /// Drops are read before clones. Suppose the sums say that none remains, and some handle is
    /// alive. Follow back from which handle each was cloned: some handle A, whose clone was counted
    /// here, made B, whose clone was not. A's drop was counted too, or the sums would differ; B was
    /// made before that drop, so reading the drop made B's clone visible to the later sum. A
    /// contradiction. The same holds for one that remains and clones nothing meanwhile.
    pub(super) fn handles(&self) -> u32 {
        let drops = self.0.iter().map(|stripe| stripe.drops.load(Ordering::Acquire));
        let drops = drops.fold(0, u32::wrapping_add);
        let clones = self.0.iter().map(|stripe| stripe.clones.load(Ordering::Acquire));
        clones.fold(0, u32::wrapping_add).wrapping_sub(drops)
    }

    #[inline]
    fn mine(&self) -> &Stripe {
        // The number of stripes is a power of two.
        &self.0[thread_number() & (self.0.len() - 1)]
    }

    /// Returns the number of stripes.
    pub(super) fn number(&self) -> usize {
        self.0.len()
    }
}

const fn run(tally: u64) -> u64 {
    (tally & RUN_MASK) >> COUNT_BITS
}

#[cfg(not(all(test, breaker_loom)))]
fn number() -> usize {
    use std::sync::OnceLock;
    static NUMBER: OnceLock<usize> = OnceLock::new();
    // Twice the processors, because threads are numbered blindly and two busy ones may meet.
    *NUMBER.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (2 * cores).next_power_of_two().min(MOST_STRIPES)
    })
}

/// Returns the number of this thread, from which its stripe follows.
#[cfg(not(all(test, breaker_loom)))]
#[inline]
pub(super) fn thread_number() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    #[cold]
    fn first() -> usize {
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
        NUMBER.get()
    }
    match NUMBER.get() {
        usize::MAX => first(),
        number => number,
    }
}

/// In a model the two stripes take turns, whichever thread it is; each run of it starts the same.
#[cfg(all(test, breaker_loom))]
mod turns {
    use std::cell::Cell;

    thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });

    pub(super) fn number() -> usize {
        TURN.set(0);
        2
    }

    pub(in crate::circuit) fn thread_number() -> usize {
        TURN.replace(TURN.get() + 1)
    }
}

#[cfg(all(test, breaker_loom))]
use turns::number;
#[cfg(all(test, breaker_loom))]
pub(super) use turns::thread_number;
