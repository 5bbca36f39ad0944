//! Overrides: states that an operator sets, how they are stored, and when the backend has stored
//! them.
//!
//! [`Circuit::set_override`](crate::Circuit::set_override) takes an [`Override`] and returns a
//! [`PendingOverride`]. A [backend](crate::backend) stores it as an [`OverrideRecord`].

pub use crate::backend::view::OverrideRecord;
pub use crate::circuit::overrides::{Override, PendingOverride};
pub use crate::machine::OverrideState;
