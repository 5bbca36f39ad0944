//! Keeps circuits and backend in agreement.
//!
//! TODO

mod circuit;
mod directory;
mod group;
mod handle;
mod host;
mod inbound;
mod judge;
#[cfg(all(test, feature = "test-util", not(breaker_loom)))]
mod model;
mod node;
mod outbound;
mod replicator;
mod scheduler;
mod unreported;

pub(crate) use circuit::{
    Acknowledgement, CircuitSync, Command, Context, Effects, Input, Pace,
    Totals,
};
pub(crate) use group::NodeId;
pub(crate) use handle::{BackendObserver, Handle, SyncSettings};
pub(crate) use inbound::Unclaimed;
pub(crate) use node::{LeaseRequest, Node, Then};
pub(crate) use outbound::Agenda;
pub(crate) use scheduler::Class;
