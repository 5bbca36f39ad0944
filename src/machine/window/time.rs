//! A time window: a ring of buckets.

use std::time::Duration;

use super::mark::{Mark, Sums};
use crate::timestamp::{Timestamp, nanos};

/// The results of the last `length`, in buckets.
///
/// The window covers the current bucket and the ones before it, so between `length` minus one
/// bucket and `length`. Buckets are counted from the moment the window was made.
#[derive(Clone, Debug)]
pub(super) struct TimeWindow {
    start: Timestamp,
    width: u64,
    /// Number of the current bucket, counted from `start`.
    current: u64,
    ring: Box<[Sums]>,
    total: Sums,
}

impl TimeWindow {
    pub(super) fn new(length: Duration, buckets: u32, start: Timestamp) -> Self {
        let width = (nanos(length) / u64::from(buckets)).max(1);
        let ring = vec![Sums::default(); buckets as usize].into();
        Self { start, width, current: 0, ring, total: Sums::default() }
    }

    /// Moves on to the bucket of `now`. A time before the current bucket belongs to the current
    /// one: the circuit has seen later times already.
    pub(super) fn slide(&mut self, now: Timestamp) {
        let bucket = now.as_nanos().saturating_sub(self.start.as_nanos()) / self.width;
        let steps = bucket.saturating_sub(self.current);
        let buckets = self.ring.len() as u64;
        for step in 1..=steps.min(buckets) {
            let position = self.position(self.current + step);
            let old = std::mem::take(&mut self.ring[position]);
            self.total.calls -= old.calls;
            self.total.failures -= old.failures;
            self.total.slow -= old.slow;
        }
        self.current += steps;
    }

    pub(super) fn push(&mut self, mark: Mark) {
        self.add(Sums { calls: 1, failures: u64::from(mark.failed), slow: u64::from(mark.slow) });
    }

    pub(super) fn successes(&mut self, n: u64) {
        self.add(Sums { calls: n, ..Sums::default() });
    }

    pub(super) fn sums(&self) -> Sums {
        self.total
    }

    pub(super) fn bucket_end(&self) -> Timestamp {
        let end = self.width.saturating_mul(self.current.saturating_add(1));
        self.start.after(Duration::from_nanos(end))
    }

    fn add(&mut self, more: Sums) {
        let position = self.position(self.current);
        for sums in [&mut self.ring[position], &mut self.total] {
            sums.calls += more.calls;
            sums.failures += more.failures;
            sums.slow += more.slow;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the number of buckets")]
    fn position(&self, bucket: u64) -> usize {
        (bucket % self.ring.len() as u64) as usize
    }
}
