//! The metrics of a store as observable instruments of OpenTelemetry.
//!
//! ```sh
//! cargo run --example otel
//! ```
//!
//! At once: some calls succeed, some fail until the circuit opens, and some are rejected. Expect two
//! exports, before the failures and after them: one line for each series that is not zero. They are
//! printed; for a collector, replace `Printed` by the exporter of `opentelemetry-otlp`.
//!
//! The crate has no feature for OpenTelemetry, because each of its minor versions is incompatible with
//! the last one. [`instruments`] is all that you need; copy it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tower_breaker::metrics::{Family, Kind};
use tower_breaker::{Outcome, Store};

/// Makes an instrument for each metric of the store. The SDK reads them when it exports: nothing is
/// done on the path of calls, and a circuit that is gone has no series any more.
///
/// Names are those of Prometheus without `_total`, which exporters to Prometheus append to counters.
fn instruments(store: &Store, meter: &Meter) {
    let families = Arc::new(Mutex::new(Vec::new()));
    for (number, family) in store.metrics().into_iter().enumerate() {
        let Family { name, help, kind, .. } = family;
        let (store, families) = (store.clone(), families.clone());
        let observe = move |instrument: &dyn AsyncInstrument<f64>| {
            let mut families = families.lock().unwrap_or_else(PoisonError::into_inner);
            // The SDK calls these in the order in which the instruments were made. The first one
            // reads the store for all, so that an export is of one moment.
            if number == 0 {
                *families = store.metrics();
            }
            for family in families.iter().filter(|family| family.name == name) {
                for sample in &family.samples {
                    let labels = sample.labels.iter();
                    let labels = labels.map(|(key, value)| KeyValue::new(*key, value.clone()));
                    instrument.observe(sample.value, &labels.collect::<Vec<_>>());
                }
            }
        };
        let name = name.strip_suffix("_total").unwrap_or(name);
        match kind {
            Kind::Counter => {
                let builder = meter.f64_observable_counter(name).with_description(help);
                builder.with_callback(observe).build();
            }
            Kind::Gauge => {
                let builder = meter.f64_observable_gauge(name).with_description(help);
                builder.with_callback(observe).build();
            }
            // Histograms: OpenTelemetry has none that it reads. `Sample::buckets` has their counts,
            // for an exporter or a `MetricProducer` of your own.
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::in_memory();
    let reader = PeriodicReader::builder(Printed).with_interval(Duration::from_secs(60)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    instruments(&store, &provider.meter("tower_breaker"));

    let payments = store.circuit("payments");
    for _ in 0..20 {
        payments.try_acquire()?.settle(Outcome::Success);
    }
    println!("20 calls succeeded:");
    provider.force_flush()?;

    let (mut failed, mut rejected) = (0, 0);
    for _ in 0..20 {
        match payments.try_acquire() {
            Ok(permit) => {
                permit.settle(Outcome::failure());
                failed += 1;
            }
            Err(_) => rejected += 1,
        }
    }
    println!("\n{failed} more failed, and {rejected} were rejected:");
    provider.shutdown()?; // exports for the last time
    Ok(())
}

/// Prints what is exported, in the order of names, without series that are zero.
struct Printed;

impl PushMetricExporter for Printed {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut series = BTreeMap::new();
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            let mut add = |attributes: Vec<String>, value: f64| {
                series.insert(format!("{}{{{}}}", metric.name(), attributes.join(", ")), value);
            };
            match metric.data() {
                AggregatedMetrics::F64(MetricData::Sum(sum)) => {
                    sum.data_points()
                        .for_each(|point| add(shown(point.attributes()), point.value()));
                }
                AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                    let points = gauge.data_points();
                    points.for_each(|point| add(shown(point.attributes()), point.value()));
                }
                _ => {}
            }
        }
        for (name, value) in series.into_iter().filter(|(_, value)| *value != 0.0) {
            println!("  {name} {value}");
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn shown<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Vec<String> {
    attributes.map(|attribute| format!("{}={}", attribute.key, attribute.value)).collect()
}
