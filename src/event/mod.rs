//! What happens to circuits, and how to observe it.
//!
//! [`Circuit::on_change`](crate::Circuit::on_change) adds an observer to one circuit, and
//! [`StoreBuilder::on_change`](crate::StoreBuilder::on_change) to every circuit of a store.
//! Observers get an [`Event`]. [`StoreBuilder::on_backend`](crate::StoreBuilder::on_backend)
//! observes the [`BackendStatus`].
//!
//! The store also logs all of these as `tracing` events with the target `tower_breaker`. Warnings
//! are for circuits that open and for problems that an operator should fix; everything else is
//! logged at level info.

pub(crate) mod log;
mod status;
#[cfg(test)]
mod tests;

pub use crate::machine::{Event, Origin, Reason, Tally, Transition};
pub use status::BackendStatus;
