//! What others may see.

mod tracing;

pub(crate) use tracing::{second_policy, trace};
