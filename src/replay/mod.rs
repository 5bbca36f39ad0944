//! What would a policy have done? Runs the rules of this crate over a recorded trace of calls.
//!
//! To choose thresholds, record what happened and try policies on it: a [`Replay`] says when each
//! policy would have opened the circuit, how many bad calls it would have saved, and how many good
//! calls it would have rejected. It runs the same code that decides in a running service.
//!
//! ```
//! use tower_breaker::Policy;
//! use tower_breaker::replay::Replay;
//!
//! let trace = r#"
//! {"at": 0.10, "took": 0.02, "outcome": "success"}
//! {"at": 0.20, "took": 0.02, "outcome": "failure"}
//! {"at": 0.30, "took": 0.02, "outcome": "failure"}
//! {"at": 0.40, "took": 0.02, "outcome": "failure"}
//! {"at": 0.50, "took": 0.02, "outcome": "success"}
//! "#;
//! let policy = Policy::only().consecutive_failures(2).build()?;
//! let replayed = Replay::new(policy).read(trace.as_bytes())?;
//! let circuit = &replayed.policies[0].circuits[0];
//! assert_eq!(circuit.trips, 1);
//! assert_eq!((circuit.rejected.bad(), circuit.rejected.good()), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The trace
//!
//! One JSON object per line, in the order in which the calls ended:
//!
//! | field | meaning |
//! | --- | --- |
//! | `at` or `at_ms` | when the call ended, in seconds or milliseconds since any start |
//! | `took` or `took_ms` | how long it took, in seconds or milliseconds |
//! | `outcome` | `success`, `failure`, `ignored` or `cancelled` (dropped before it ended) |
//! | `circuit` | the name of the circuit, optional; calls without one share a circuit |
//!
//! Other fields are ignored, so an access log in JSON needs few changes.
//! [`Store::record`](crate::Store::record) writes such a trace from a running service.
//!
//! # What it cannot know
//!
//! - A call that the service rejected is in no trace, because its outcome is unknown.
//!   Record while circuits are in [`MetricsOnly`](crate::State::MetricsOnly), in which all calls
//!   are made.
//! - An upstream may recover sooner if a circuit spares it, and callers may retry. The trace stays
//!   as it was.
//! - There is no backend: each circuit decides by all calls of the trace.
//! - Under a slow-call rate, a call that still runs counts as slow at some moment between 1 and 1.5
//!   times the limit. The replay's moment may be another one than that of the service.
//! - Jitter counts as the mean of what it adds. `Retry-After` is not in a trace.

mod calls;
mod error;
mod grid;
mod line;
mod reader;
mod recorder;
mod report;
mod run;
mod simulated;
#[cfg(all(test, feature = "test-util", not(breaker_loom)))]
mod tests;
mod timeline;

pub use calls::Calls;
pub use error::ReplayError;
pub use grid::grid;
pub use recorder::{Recorded, Recorder};
pub(crate) use recorder::{Tape, Writing};
pub use report::{CircuitReport, PolicyReport, Replayed, TimedTransition};
pub use run::Replay;
