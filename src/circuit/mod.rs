//! One circuit in this process: permits, snapshots and errors, beside [`Circuit`], [`Error`] and
//! [`Rejected`] themselves.

// `handle` is the handle of a circuit. Behind it, `engine` decides from a few atomics, and takes
// the lock to ask the machine, which has the rules, only where they matter.
mod admission;
mod cause;
mod counted;
mod counters;
mod engine;
pub(crate) mod error;
mod execute;
mod failure;
mod grant;
pub(crate) mod handle;
mod history;
mod link;
mod locked;
pub(crate) mod overrides;
mod past;
mod peek;
mod permit;
mod pool;
mod primitives;
mod refusal;
pub(crate) mod rejected;
mod results;
mod running;
mod snapshot;
mod stripes;
mod synced;
mod syncing;
mod trace;
mod tracer;
mod word;

#[cfg(all(test, breaker_loom))]
mod races;

pub use crate::name::CircuitNameError;
pub(crate) use error::Error;
pub use execute::Unserved;
pub(crate) use grant::Grant;
pub(crate) use handle::{Circuit, Held};
pub use history::History;
pub(crate) use link::{Link, Wait};
pub(crate) use locked::Observer;
#[cfg(feature = "replay")]
pub(crate) use locked::{WORTH_A_WARNING, most_cancelled};
pub(crate) use peek::Peek;
pub use permit::Permit;
pub(crate) use permit::{Attempt, CallGuard};
pub(crate) use refusal::{Refusal, Rejection};
pub(crate) use rejected::Rejected;
#[cfg(feature = "replay")]
pub(crate) use running::{Running, Watch, overdue};
pub use snapshot::Snapshot;
pub(crate) use stripes::Width;
#[cfg(feature = "replay")]
pub(crate) use tracer::{Traced, Tracer};
