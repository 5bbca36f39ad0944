//! Counters that no two threads write, as a rule.
//!
//! A thread adds to a lane of its own (threads share one only where there are more of them than
//! lanes), so that counting stays as cheap under many threads as under one. Each lane is on a
//! cache line of its own.
//!
//! A tally bears the epoch it counts in. [`Lanes::drain`] moves all lanes to the next epoch and
//! takes what they held; from then on an addition that still bears the old epoch is refused. So
//! what has been drained is a consistent cut: nothing is counted twice, late, or not at all.

use super::sync::{AtomicU64, Ordering};

/// The low bits of a tally are its count, the high ones its epoch.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// More lanes than this help no machine that this was tried on, and each takes 128 bytes.
#[cfg(not(all(test, breaker_loom)))]
const MOST_LANES: usize = 32;

#[derive(Debug)]
pub(super) struct Lanes(Box<[Lane]>);

/// How many lanes a circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// One for each thread, about: for a circuit that every call goes through.
    Many,
    /// For one of the thousands that a key in a request picks: 128 bytes in place of some thousand,
    /// and two threads seldom meet in one.
    One,
}

// Two cache lines: today's processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    tally: AtomicU64,
    clones: AtomicU64,
    drops: AtomicU64,
}

impl Lanes {
    pub(super) fn new(width: Width) -> Self {
        let lane = || Lane {
            tally: AtomicU64::new(0),
            clones: AtomicU64::new(0),
            drops: AtomicU64::new(0),
        };
        let lanes = match width {
            Width::Many => number(),
            Width::One => 1,
        };
        Self((0..lanes).map(|_| lane()).collect())
    }

    pub(super) fn width(&self) -> Width {
        if self.0.len() == 1 { Width::One } else { Width::Many }
    }

    /// Adds one to the tally of `epoch`. False if that epoch is over, or its count is full: then
    /// nothing was added.
    #[inline]
    pub(super) fn add(&self, epoch: u64) -> bool {
        let tally = &self.mine().tally;
        let mut seen = tally.load(Ordering::Relaxed);
        loop {
            if seen >> COUNT_BITS != epoch & (u64::MAX >> COUNT_BITS)
                || seen & COUNT_MASK == COUNT_MASK
            {
                return false;
            }
            match tally.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Starts `epoch` in all lanes, and returns what they had counted in the one before.
    pub(super) fn drain(&self, epoch: u64) -> u64 {
        let start = epoch << COUNT_BITS;
        let lanes = self.0.iter();
        lanes.map(|lane| lane.tally.swap(start, Ordering::AcqRel) & COUNT_MASK).sum()
    }

    #[inline]
    pub(super) fn handle_cloned(&self) {
        self.mine().clones.fetch_add(1, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn handle_dropped(&self) {
        // Whoever sees this drop sees every clone that was made of the handle before.
        self.mine().drops.fetch_add(1, Ordering::AcqRel);
    }

    /// How many handles there are; at most, where others clone and drop meanwhile. What is said of
    /// none is certain, and so is one, if the asker has it: only a handle makes handles.
    ///
    /// Drops are read before clones. Suppose the sums say that none is left, and some handle is alive.
    /// Follow back from which handle each was cloned: some handle A, whose clone was counted here, made
    /// B, whose clone was not. A's drop was counted too, or the sums would differ; B was made before
    /// that drop, so reading the drop made B's clone visible to the later sum. A contradiction. The
    /// same holds for one that is left and clones nothing meanwhile.
    pub(super) fn handles(&self) -> u64 {
        let drops: u64 = self.0.iter().map(|lane| lane.drops.load(Ordering::Acquire)).sum();
        let clones: u64 = self.0.iter().map(|lane| lane.clones.load(Ordering::Acquire)).sum();
        clones - drops
    }

    #[inline]
    fn mine(&self) -> &Lane {
        // The number of lanes is a power of two.
        &self.0[thread_number() & (self.0.len() - 1)]
    }
}

#[cfg(not(all(test, breaker_loom)))]
fn number() -> usize {
    use std::sync::OnceLock;
    static NUMBER: OnceLock<usize> = OnceLock::new();
    // Twice the processors, as threads are numbered blindly and two busy ones may meet.
    *NUMBER.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (2 * cores).next_power_of_two().min(MOST_LANES)
    })
}

#[cfg(not(all(test, breaker_loom)))]
#[inline]
fn thread_number() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
        }
        number.get()
    })
}

/// In a model the two lanes take turns, whichever thread it is; each run of it starts the same.
#[cfg(all(test, breaker_loom))]
mod turns {
    use std::cell::Cell;

    thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });

    pub(super) fn number() -> usize {
        TURN.set(0);
        2
    }

    pub(super) fn thread_number() -> usize {
        TURN.replace(TURN.get() + 1)
    }
}

#[cfg(all(test, breaker_loom))]
use turns::{number, thread_number};
