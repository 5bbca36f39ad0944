//! The rules: what each state admits, and what ends it.

mod closed;
mod half_open;
mod in_flight;
mod open;
mod overrides;
mod policy;
pub(crate) mod random_histories;
