//! Metrics for the crate `prometheus-client`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::family::{Family, Kind};
use crate::store::Store;

/// Reads the [metrics](crate::metrics) of a store at each scrape.
///
/// ```
/// use prometheus_client::encoding::text::encode;
/// use prometheus_client::registry::Registry;
/// use tower_breaker::{Store, metrics::StoreCollector};
///
/// let store = Store::in_memory();
/// store.circuit("payments");
///
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(StoreCollector::new(&store)));
/// let mut text = String::new();
/// encode(&mut text, &registry)?;
/// assert!(text.contains("tower_breaker_state{name=\"payments\",state=\"closed\"} 1"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
///
/// Register it in a registry without a prefix: the names have one. If a service has several stores,
/// register one collector for each in a
/// [sub-registry with a label](prometheus_client::registry::Registry::sub_registry_with_label).
///
/// # Cost
///
/// That of [`Store::metrics`], at each scrape. The collector keeps the store alive.
pub struct StoreCollector {
    store: Store,
}

impl StoreCollector {
    /// Returns a collector of this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // A family without a series would be described and then missing.
        for family in self.store.metrics().iter().filter(|family| !family.samples.is_empty()) {
            write(family, &mut encoder)?;
        }
        Ok(())
    }
}

fn write(family: &Family, encoder: &mut DescriptorEncoder) -> fmt::Result {
    // The client adds the suffix, and a full stop to the help.
    let name = family.name.strip_suffix("_total").unwrap_or(family.name);
    let metric_type = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(name, family.help, None, metric_type)?;
    for sample in &family.samples {
        let labels: Vec<(&str, &str)> =
            sample.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let mut one = metric.encode_family(&labels)?;
        match family.kind {
            Kind::Counter => ConstCounter::new(sample.value).encode(one)?,
            Kind::Gauge => ConstGauge::new(sample.value).encode(one)?,
            Kind::Histogram => {
                let count = sample.buckets.iter().map(|(_, n)| n).sum();
                one.encode_histogram::<NoLabelSet>(sample.value, count, &sample.buckets, None)?;
            }
        }
    }
    Ok(())
}

impl fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCollector").finish_non_exhaustive()
    }
}
