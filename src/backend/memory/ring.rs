//! Totals over the last buckets of a window.

use std::collections::BTreeMap;

use super::time::ago;
use crate::backend::{Count, Geometry};

/// Totals for each geometry that replicas count in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Rings(BTreeMap<(u64, u32), Ring>);

/// By the number of the bucket: calls, failures and slow calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ring(BTreeMap<u64, [u64; 3]>);

impl Rings {
    pub(super) fn add(&mut self, window: Geometry, counts: &[Count], now: u64) {
        let ring = self.0.entry((window.millis, window.buckets)).or_default();
        ring.slide(window, now);
        for count in counts {
            ring.add(window, count, now);
        }
        self.0.retain(|_, ring| !ring.0.is_empty());
    }

    /// Returns the calls, failures and slow calls of a window.
    pub(super) fn total(&self, window: Option<Geometry>, now: u64) -> [u64; 3] {
        let ring = window.and_then(|w| Some((w, self.0.get(&(w.millis, w.buckets))?)));
        ring.map(|(window, ring)| ring.total(window, now)).unwrap_or_default()
    }
}

impl Ring {
    fn add(&mut self, window: Geometry, count: &Count, now: u64) {
        let number = number(window, ago(count.age, now));
        if !covers(window, number, now) {
            return;
        }
        let bucket = self.0.entry(number).or_default();
        let more = [count.calls, count.failures, count.slow_calls];
        for (sum, more) in bucket.iter_mut().zip(more) {
            *sum = sum.saturating_add(more);
        }
        if *bucket == [0; 3] {
            self.0.remove(&number);
        }
    }

    fn slide(&mut self, window: Geometry, now: u64) {
        if self.is_ahead(window, now) {
            self.0.clear();
        }
        self.0.retain(|bucket, _| covers(window, *bucket, now));
    }

    fn total(&self, window: Geometry, now: u64) -> [u64; 3] {
        let mut total = [0_u64; 3];
        if self.is_ahead(window, now) {
            return total;
        }
        for (_, bucket) in self.0.iter().filter(|(bucket, _)| covers(window, **bucket, now)) {
            for (sum, more) in total.iter_mut().zip(bucket) {
                *sum = sum.saturating_add(*more);
            }
        }
        total
    }

    /// Whether the clock went back by more than the bucket that replicas may disagree in.
    fn is_ahead(&self, window: Geometry, now: u64) -> bool {
        self.0.last_key_value().is_some_and(|(newest, _)| *newest > number(window, now) + 1)
    }
}

/// The number of the bucket at a moment.
fn number(window: Geometry, time: u64) -> u64 {
    time / window.bucket_millis().saturating_mul(1_000)
}

fn covers(window: Geometry, bucket: u64, now: u64) -> bool {
    let buckets = window.buckets.clamp(1, Geometry::MAX_BUCKETS);
    bucket.saturating_add(u64::from(buckets)) > number(window, now)
}
