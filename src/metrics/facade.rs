//! Metrics for the crate `metrics`.

use std::collections::HashMap;
use std::time::Duration;

use metrics::{Label, counter, gauge, histogram};

use super::collect::{Keyed, families};
use super::family::{Family, Kind};
use crate::store::Store;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// Passes the [metrics](crate::metrics) of a store on to the recorder of the crate `metrics`, once a
/// second. The future never ends, and keeps the store alive: spawn it, and abort its task to let go of
/// the store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = tower_breaker::Store::in_memory();
/// tokio::spawn(tower_breaker::metrics::publish(store));
/// # }
/// ```
///
/// Counters are set with `Counter::absolute`, so a second that is missed loses nothing. Counters of
/// that crate are whole numbers: `tower_breaker_state_seconds_total` is rounded down. Of a histogram,
/// each observation is recorded as the upper bound of its bucket. It cannot
/// remove a series, so circuits of keys have no gauges here, and a ratio that is absent keeps its
/// last value.
///
/// # Cancellation
///
/// Dropping the future, or aborting its task, ends the publishing.
///
/// # Panics
///
/// Panics when it is polled outside of a tokio runtime with its timers enabled.
pub async fn publish(store: Store) {
    let mut passed = Passed::new();
    loop {
        for family in families(&store, Keyed::Sums) {
            pass_on(family, &mut passed);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What was passed on of histograms: the buckets of each series.
type Passed = HashMap<(&'static str, Vec<Label>), Vec<(f64, u64)>>;

fn pass_on(family: Family, passed: &mut Passed) {
    for sample in family.samples {
        let labels = sample.labels.into_iter().map(|(key, value)| Label::new(key, value));
        let labels: Vec<Label> = labels.collect();
        match family.kind {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, or seconds"
            )]
            Kind::Counter => counter!(family.name, labels).absolute(sample.value as u64),
            Kind::Gauge => gauge!(family.name, labels).set(sample.value),
            Kind::Histogram => {
                let known = passed.entry((family.name, labels.clone())).or_default();
                let histogram = histogram!(family.name, labels);
                for (n, (bound, count)) in sample.buckets.iter().enumerate() {
                    let before = known.get(n).map_or(0, |(_, count)| *count);
                    let new = usize::try_from(count.saturating_sub(before)).unwrap_or(usize::MAX);
                    if new > 0 {
                        // What has no bound was longer than the one before.
                        let last = n.checked_sub(1).map_or(0.0, |n| sample.buckets[n].0);
                        let value = if bound.is_finite() { *bound } else { last };
                        histogram.record_many(value, new);
                    }
                }
                *known = sample.buckets;
            }
        }
    }
}
