//! What happens to circuits, and who is notified.
//!
//! Add an observer with [`Circuit::on_change`](crate::Circuit::on_change) for one circuit, or with
//! [`StoreBuilder::on_change`](crate::StoreBuilder::on_change) for every circuit of a store. It gets
//! an [`Event`]. [`StoreBuilder::on_backend`](crate::StoreBuilder::on_backend) reports the
//! [`BackendStatus`]. The store logs all of these as `tracing` events with the target
//! `tower_breaker`.

pub(crate) mod log;
mod status;

pub use crate::machine::{Event, Origin, Reason, Tally, Transition};
pub use status::BackendStatus;
