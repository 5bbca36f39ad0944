//! How long calls took, by a sample.
//!
//! Measuring a call takes two reads of the exact clock, as much as all else that a call costs. So
//! only one call in some is measured. A countdown says which: each service has one, which costs its
//! calls less than a nanosecond; calls that are made without a service share one of their stripe.
//! The intervals vary, so that a service that calls two things in turn does not measure the same one
//! each time.
//!
//! Laws:
//!
//! 1. The counters are samples, not evidence: a count that two threads race for, or that arrives
//!    while a stripe starts a new minute, may be left out. No decision depends on them.
//! 2. Recent calls are counted by the minute, in two sets that take turns. A set that is a minute
//!    too old is cleared by the first call of its next minute, so nothing is due at a time.
//! 3. A thread allocates its counters when it measures its first call, and never again.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::stripes::thread_number;
use crate::stats::{Bucket, DURATION_BOUNDS, Durations, Sample};
use crate::timestamp::{Timestamp, nanos};

const MINUTE: u64 = 60_000_000_000;

/// Whether it is measured how long a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    Yes,
    No,
}

/// How many calls a service makes until it measures one. Zero: the stripe is asked, as by the first
/// call of a service, which may be the only one.
#[derive(Debug, Default)]
pub(crate) struct Countdown(u32);

impl Countdown {
    /// Counts a call, and returns whether it is measured.
    #[inline]
    pub(super) fn next(&mut self, samplers: &OnceLock<Samplers>) -> Sampled {
        if self.0 > 1 {
            self.0 -= 1;
            return Sampled::No;
        }
        self.ask(samplers)
    }

    // Apart: inlined, it makes the grant travel through memory.
    #[inline(never)]
    fn ask(&mut self, samplers: &OnceLock<Samplers>) -> Sampled {
        let Some(samplers) = samplers.get() else {
            self.0 = u32::MAX;
            return Sampled::No;
        };
        if self.0 == 1 {
            self.0 = samplers.interval();
            return Sampled::Yes;
        }
        self.0 = samplers.one_in();
        samplers.next(thread_number())
    }
}

/// The samplers of a circuit, one for each stripe.
#[derive(Debug)]
pub(super) struct Samplers {
    /// One call in so many is measured.
    one_in: AtomicU32,
    stripes: Box<[Stripe]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    left: AtomicU32,
    counters: OnceLock<Box<Counters>>,
}

#[derive(Debug)]
struct Counters {
    /// By [`DURATION_BOUNDS`], and what is longer.
    all: [AtomicU64; DURATION_BOUNDS.len() + 1],
    nanos: AtomicU64,
    recent: [Recent; 2],
}

/// The calls of one minute.
#[derive(Debug)]
struct Recent {
    minute: AtomicU64,
    calls: [AtomicU32; Bucket::NUMBER],
}

impl Samplers {
    pub(super) fn new(stripes: usize) -> Self {
        let stripes = (0..stripes).map(|_| Stripe::default()).collect();
        Self { one_in: AtomicU32::new(1), stripes }
    }

    /// Starts anew, with this rate.
    pub(super) fn begin(&self, one_in: NonZeroU32) {
        self.one_in.store(one_in.get(), Ordering::Relaxed);
        for stripe in &self.stripes {
            stripe.left.store(0, Ordering::Relaxed);
            stripe.counters.get().into_iter().for_each(|counters| counters.clear());
        }
    }

    /// Counts a call of this stripe, and returns whether it is measured.
    pub(super) fn next(&self, stripe: usize) -> Sampled {
        let left = &self.stripe(stripe).left;
        let calls = left.load(Ordering::Relaxed);
        let (left_after, sampled) =
            if calls > 1 { (calls - 1, Sampled::No) } else { (self.interval(), Sampled::Yes) };
        left.store(left_after, Ordering::Relaxed);
        sampled
    }

    fn one_in(&self) -> u32 {
        self.one_in.load(Ordering::Relaxed)
    }

    /// Returns the number of the next call that is measured.
    #[cold]
    fn interval(&self) -> u32 {
        fastrand::u32(1..self.one_in().saturating_mul(2))
    }

    fn stripe(&self, stripe: usize) -> &Stripe {
        // The number of stripes is a power of two.
        &self.stripes[stripe & (self.stripes.len() - 1)]
    }

    pub(super) fn add(&self, stripe: usize, started: Timestamp, now: Timestamp) {
        let counters = self.stripe(stripe).counters.get_or_init(|| Box::new(Counters::new()));
        counters.add(now.since(started), minute(now));
    }

    /// Returns the calls of this minute and the one before.
    pub(super) fn recent(&self, now: Timestamp) -> Sample {
        let mut sample = Sample::EMPTY;
        let recent = self.counters().flat_map(|counters| &counters.recent);
        for Recent { calls, .. } in recent.filter(|recent| recent.age(minute(now)) <= 1) {
            for (sum, calls) in sample.0.iter_mut().zip(calls) {
                *sum += u64::from(calls.load(Ordering::Relaxed));
            }
        }
        sample
    }

    /// Returns all calls since the circuit was made.
    pub(super) fn all(&self) -> Durations {
        let mut all = Durations::default();
        for counters in self.counters() {
            for (sum, calls) in all.calls.iter_mut().zip(&counters.all) {
                *sum += calls.load(Ordering::Relaxed);
            }
            all.sum += Duration::from_nanos(counters.nanos.load(Ordering::Relaxed));
        }
        all
    }

    fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.stripes.iter().filter_map(|stripe| Some(&**stripe.counters.get()?))
    }
}

impl Counters {
    fn new() -> Self {
        Self {
            all: std::array::from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
            recent: std::array::from_fn(|_| Recent {
                minute: AtomicU64::new(0),
                calls: std::array::from_fn(|_| AtomicU32::new(0)),
            }),
        }
    }

    fn clear(&self) {
        let Self { all, nanos, recent } = self;
        all.iter().chain([nanos]).for_each(|count| count.store(0, Ordering::Relaxed));
        for recent in recent {
            recent.start(0);
        }
    }

    fn add(&self, took: Duration, minute: u64) {
        let bound = DURATION_BOUNDS.partition_point(|bound| *bound < took);
        self.all[bound].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos(took), Ordering::Relaxed);
        self.recent[usize::from(minute % 2 == 1)].add(took, minute);
    }
}

impl Recent {
    fn add(&self, took: Duration, minute: u64) {
        if self.minute.load(Ordering::Relaxed) != minute {
            self.start(minute);
        }
        self.calls[Bucket::of(nanos(took)).0].fetch_add(1, Ordering::Relaxed);
    }

    fn start(&self, minute: u64) {
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.calls.iter().for_each(|calls| calls.store(0, Ordering::Relaxed));
        }
    }

    fn age(&self, minute: u64) -> u64 {
        minute.saturating_sub(self.minute.load(Ordering::Relaxed))
    }
}

/// Minutes count from one: zero is before all.
fn minute(now: Timestamp) -> u64 {
    now.as_nanos() / MINUTE + 2
}
