//! How long calls take.

use std::time::Duration;

/// How long the calls of a circuit took in this process, by a sample of those that ended within the
/// last minute, or the last two: [`Snapshot::latency`](crate::circuit::Snapshot::latency).
///
/// Only calls that succeeded or failed are sampled, except for probes and for calls whose result was
/// [stale](super::Totals::stale). A percentile is the middle of
/// the bucket that it falls into. Buckets are a quarter of a power of two wide, so between 8 µs and
/// 69 s a percentile is at most 12.5 % off, besides the error of the sample. A shorter or longer
/// call counts as one of that length.
///
/// [`StoreBuilder::latency_sample`](crate::StoreBuilder::latency_sample) sets the size of the
/// sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Latency {
    /// Half of the calls took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p50_us", with = "crate::data::micros"))]
    pub p50: Duration,
    /// 95 % of the calls took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p95_us", with = "crate::data::micros"))]
    pub p95: Duration,
    /// 99 % of the calls took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p99_us", with = "crate::data::micros"))]
    pub p99: Duration,
    /// How many calls are in the sample.
    pub samples: u64,
}

impl Latency {
    /// Returns the percentiles of a sample, or `None` if it is empty.
    pub(crate) fn of(sample: &Sample) -> Option<Self> {
        let samples = sample.0.iter().sum();
        (samples > 0).then(|| Self {
            p50: sample.percentile(50, samples),
            p95: sample.percentile(95, samples),
            p99: sample.percentile(99, samples),
            samples,
        })
    }
}

/// How many calls took how long, by bucket.
#[derive(Clone, Debug)]
pub(crate) struct Sample(pub(crate) [u64; Bucket::NUMBER]);

impl Sample {
    pub(crate) const EMPTY: Self = Self([0; Bucket::NUMBER]);

    fn percentile(&self, percent: u64, samples: u64) -> Duration {
        let rank = (samples * percent).div_ceil(100);
        let mut below = 0;
        let found = self.0.iter().position(|count| {
            below += count;
            below >= rank
        });
        Bucket(found.unwrap_or_default()).middle()
    }
}

/// A range of durations: a quarter of a power of two of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket(pub(crate) usize);

impl Bucket {
    /// The first bucket begins at 2^13 ns, the last ends at 2^36 ns.
    const FIRST: u32 = 13;
    const END: u32 = 36;
    const QUARTERS: usize = 4;
    pub(crate) const NUMBER: usize = (Self::END - Self::FIRST) as usize * Self::QUARTERS;

    pub(crate) fn of(nanos: u64) -> Self {
        let nanos = nanos.clamp(1 << Self::FIRST, (1 << Self::END) - 1);
        let power = nanos.ilog2();
        let quarter = nanos >> (power - 2) & 3;
        let quarter = quarter as usize;
        Self((power - Self::FIRST) as usize * Self::QUARTERS + quarter)
    }

    fn middle(self) -> Duration {
        let power = 1 << (self.0 / Self::QUARTERS + Self::FIRST as usize);
        let eighths = 2 * (self.0 % Self::QUARTERS) as u64 + 1;
        Duration::from_nanos(power + power / 8 * eighths)
    }
}

/// The bounds of the metric `tower_breaker_call_duration_seconds`.
pub(crate) const DURATION_BOUNDS: [Duration; 13] = [
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How long all sampled calls of a circuit took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    /// How many took no longer than each bound and longer than the one before; the last: how many
    /// took longer.
    pub(crate) calls: [u64; DURATION_BOUNDS.len() + 1],
    pub(crate) sum: Duration,
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_at_most_an_eighth_off() {
        for power in 13..36 {
            for step in 0..64 {
                let nanos = (1_u64 << power) + (1 << power) / 64 * step;
                let middle = Bucket::of(nanos).middle().as_nanos().abs_diff(u128::from(nanos));
                assert!(middle * 8 <= u128::from(nanos), "{nanos} ns are off by {middle}");
            }
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_in_the_outermost_buckets() {
        assert_eq!(Bucket::of(0), Bucket(0));
        assert_eq!(Bucket::of(u64::MAX), Bucket(Bucket::NUMBER - 1));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_calls() {
        let mut sample = Sample::EMPTY;
        for millis in 1..=100_u64 {
            sample.0[Bucket::of(millis * 1_000_000).0] += 1;
        }
        let latency = Latency::of(&sample).unwrap();
        for (percentile, millis) in [(latency.p50, 50.0), (latency.p95, 95.0), (latency.p99, 99.0)]
        {
            let off = percentile.as_secs_f64() * 1e3 / millis - 1.0;
            assert!(off.abs() <= 0.125, "{percentile:?} for {millis} ms");
        }
        assert_eq!(latency.samples, 100);
        assert_eq!(Latency::of(&Sample::EMPTY), None);
    }
}
