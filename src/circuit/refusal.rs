//! Why a call is not admitted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use crate::machine::State;

/// The answer that is no grant, on its way from the engine to the caller.
pub(crate) enum Refusal {
    /// The circuit rejects the call.
    Rejected(Rejection),
    /// The state of the cluster is not known yet. Wait for it, then ask again.
    Unknown(Arc<dyn Link>),
    /// The call would be a probe, whose slot the cluster must lease first.
    NeedsLease(Arc<dyn Link>),
}

/// Why a call is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) retry_after: Option<Duration>,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Unknown(_) => f.write_str("Unknown"),
            Self::NeedsLease(_) => f.write_str("NeedsLease"),
        }
    }
}
