//! What a store has counted, for systems that collect metrics.
//!
//! [`Store::metrics`](crate::Store::metrics) reads the numbers when they are asked for: nothing is
//! published on the path of calls, and a circuit that is gone has no series any more. The features
//! `prometheus-client` and `metrics` pass them on; for any other system, iterate over the
//! [families](Family).
//!
//! Kinds and states have the words of resilience4j.
//!
//! | metric | type | labels | what |
//! | --- | --- | --- | --- |
//! | `tower_breaker_calls_total` | counter | `name`, `kind` | calls that ended: `successful`, `failed`, `ignored`, `cancelled`, or `stale` (the result arrived after the state had changed) |
//! | `tower_breaker_failed_calls_total` | counter | `name`, `kind` | those that failed, by what is known of the failure: `error`, `timeout`, `status_5xx`, … |
//! | `tower_breaker_slow_calls_total` | counter | `name` | calls that ran for longer than the policy's `slow_call_duration` |
//! | `tower_breaker_not_permitted_calls_total` | counter | `name` | calls that were rejected |
//! | `tower_breaker_probes_total` | counter | `name` | probes that began |
//! | `tower_breaker_would_trip_total` | counter | `name` | how often a metrics-only circuit would have opened |
//! | `tower_breaker_transitions_total` | counter | `name`, `from`, `to`, `reason`, `origin` | changes of the state |
//! | `tower_breaker_state_seconds_total` | counter | `name`, `state` | time spent in each state |
//! | `tower_breaker_call_duration_seconds` | histogram | `name` | how long calls took that succeeded or failed: a [sample](crate::StoreBuilder::latency_sample), so its count is not the number of calls; none of circuits of keys |
//! | `tower_breaker_state` | gauge | `name`, `state` | 1 for the current state, 0 for the others |
//! | `tower_breaker_failure_ratio` | gauge | `name` | the share of the calls in the window that failed, from 0 to 1; absent below the policy's `minimum_calls` |
//! | `tower_breaker_slow_call_ratio` | gauge | `name` | the same of slow calls |
//! | `tower_breaker_failure_ratio_threshold` | gauge | `name` | the failure ratio that opens the circuit |
//! | `tower_breaker_slow_call_ratio_threshold` | gauge | `name` | the slow-call ratio that opens the circuit |
//! | `tower_breaker_probe_leases` | gauge | `name` | probes of this process that are out |
//! | `tower_breaker_detached` | gauge | `name` | 1 while the circuit decides without the backend |
//! | `tower_breaker_override` | gauge | `name` | 1 while an override is in force that has no end, 0 while it has one; absent without an override |
//! | `tower_breaker_store_degraded` | gauge | | 1 while the backend does not answer |
//! | `tower_breaker_store_impaired` | gauge | | 1 while the backend works only in part |
//! | `tower_breaker_replicas` | gauge | | replicas that use the same backend, this one included |
//! | `tower_breaker_view_age_seconds` | gauge | | seconds since the last heartbeat was sent that the backend answered: this replica knows of older changes, unless the store is impaired |
//! | `tower_breaker_store_operation_duration_seconds` | histogram | `operation`, `result` | how long operations on the backend took: `heartbeat`, `sync`, `lease`, …; `ok`, `refused`, or `unavailable` (no answer) |
//!
//! # Circuits of keys
//!
//! Counters of circuits of keys are summed up by layer, under the layer's name, and stay exact when
//! circuits are evicted. A circuit of a key has gauges of its own only while it is not closed, under
//! its full name `layer:key`; at most [`MOST_KEYED`] of a store do. So the number of series does not
//! grow with the number of keys.
//!
//! ```
//! use tower_breaker::{Outcome, Store};
//!
//! let store = Store::in_memory();
//! store.circuit("payments").try_acquire()?.settle(Outcome::Success);
//! let families = store.metrics();
//! let calls = families.iter().find(|family| family.name == "tower_breaker_calls_total").unwrap();
//! let sample = &calls.samples[0];
//! assert_eq!(sample.labels, [("name", "payments".to_owned()), ("kind", "successful".to_owned())]);
//! assert_eq!(sample.value, 1.0);
//! # Ok::<(), tower_breaker::Rejected>(())
//! ```

mod collect;
#[cfg(feature = "metrics")]
mod facade;
mod family;
#[cfg(feature = "prometheus-client")]
mod prometheus;

pub use collect::MOST_KEYED;
#[cfg(feature = "metrics")]
pub use facade::publish;
pub use family::{Family, Kind, Sample};
#[cfg(feature = "prometheus-client")]
pub use prometheus::StoreCollector;
