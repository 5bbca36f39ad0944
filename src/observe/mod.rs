//! What others may see.

mod backend;
mod tracing;

pub use backend::BackendStatus;
pub(crate) use tracing::{
    backend, caution, no_key, no_room, refused, second_policy, trace, unknown_variable, unnamed,
};
