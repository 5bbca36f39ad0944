//! What happens to circuits, and how to observe it.
//!
//! [`Circuit::on_change`](crate::Circuit::on_change) adds an observer to one circuit, and
//! [`StoreBuilder::on_change`](crate::StoreBuilder::on_change) to every circuit of a store.
//! Observers get an [`Event`]. [`StoreBuilder::on_backend`](crate::StoreBuilder::on_backend)
//! observes the [`BackendStatus`]. [`Store::events`](crate::Store::events) yields both as a stream of
//! [`StoreEvent`]s, for code that would rather await them.
//!
//! The store also logs all of these as `tracing` events with the target `tower_breaker`. Warnings
//! are for circuits that open and for problems that an operator should fix; everything else is
//! logged at level info.
//!
//! # As data
//!
//! With the feature `serde`, events, snapshots, replicas and the status of the backend can be
//! written and read, for example as JSON:
//!
//! - fields have their names in Rust, and states, reasons and variants the names that logs and
//!   metrics have, in snake case: `half_open`;
//! - a duration is a whole number of milliseconds, rounded up, in a field whose name ends in `_ms`:
//!   `retry_after_ms`;
//! - an enum with data is an object with one more field, which names the variant: `event` for an
//!   [`Event`], `status` for a [`BackendStatus`], `kind` for an
//!   [`Impairment`](crate::backend::Impairment) and a [`StoreEvent`].
//!
//! Later versions may add fields and variants. Texts from outside (names, reasons, operators) are
//! as they were given: escape them where you show them.

pub(crate) mod log;
mod status;
mod stream;
#[cfg(test)]
mod tests;

pub use crate::machine::{Event, HistoryEntry, Origin, Reason, Tally, Transition};
pub use status::BackendStatus;
pub(crate) use stream::Feed;
pub use stream::{Events, StoreEvent};
