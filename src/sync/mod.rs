//! Keeps circuits and backend in agreement.
//!
//! TODO

mod attach;
mod circuit;
mod commands;
mod directory;
mod group;
mod handle;
mod host;
mod inbound;
mod judge;
mod leases;
mod node;
mod outbound;
mod overrides;
mod replicator;
mod report;
mod scheduler;
mod unreported;

pub(crate) use circuit::{
    Acknowledgement, CircuitSync, Command, Context, Effects, Input, Pace,
    Totals,
};
pub(crate) use group::NodeId;
pub(crate) use handle::{BackendObserver, Handle, SyncSettings};
pub(crate) use leases::Unclaimed;
pub(crate) use node::{LeaseRequest, Node, Then};
pub(crate) use outbound::Agenda;
pub(crate) use overrides::left;
pub(crate) use report::Reported;
pub(crate) use scheduler::Class;
