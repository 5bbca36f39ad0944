//! Metrics for the crate `metrics`.

use std::time::Duration;

use metrics::{Label, counter, gauge};

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
/// that crate are whole numbers: `tower_breaker_state_seconds_total` is rounded down. It cannot
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
    loop {
        for family in families(&store, Keyed::Sums) {
            pass_on(family);
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn pass_on(family: Family) {
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
        }
    }
}
