//! Keeps circuits and backend in agreement.
//!
//! TODO

mod circuit;
mod inbound;
mod judge;
mod outbound;
mod scheduler;
mod unreported;

use std::time::Duration;

pub(crate) use circuit::{
    Acknowledgement, CircuitSync, Command, Confirmation, Context, Detached, Effects, Input, Pace, Settled, SyncState,
    Totals,
};
pub(crate) use inbound::Unclaimed;
pub(crate) use outbound::Agenda;
pub(crate) use scheduler::Class;

/// A circuit that the backend refuses is tried again after about so long.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
