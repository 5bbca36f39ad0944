//! What circuits count: [`Totals`], in [`Snapshot::totals`](crate::circuit::Snapshot::totals); and
//! how long calls take: [`Latency`], in [`Snapshot::latency`](crate::circuit::Snapshot::latency).
//!
//! A circuit counts on the path of its calls, in counters of each thread. Nothing is published: a
//! caller that wants the numbers reads them, and no call waits for a reader.

mod by_kind;
mod by_state;
mod latency;
mod totals;

pub use by_kind::ByKind;
pub use by_state::ByState;
pub use latency::Latency;
pub(crate) use latency::{Bucket, DURATION_BOUNDS, Durations, Sample};
pub use totals::{Totals, TransitionTotal};
