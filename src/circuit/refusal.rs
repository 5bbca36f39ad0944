//! Why a call is not admitted.

use std::time::Duration;

use crate::machine::State;

/// Why a call is not admitted, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Rejected(Rejection),
    /// The cluster's state is not known yet.
    Unknown,
    /// The ledger is to be asked for a probe's lease.
    Ask,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) retry_after: Option<Duration>,
}
