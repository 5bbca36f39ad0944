//! States that an operator sets: what is set, how it is stored, and when the cluster knows.
//!
//! [`Circuit::set_override`](crate::Circuit::set_override) takes an [`Override`] and returns a
//! [`PendingOverride`]. A [backend](crate::backend) stores it as an [`OverrideRecord`].

pub use crate::backend::OverrideRecord;
pub use crate::circuit::overrides::{Override, PendingOverride};
pub use crate::machine::OverrideState;
