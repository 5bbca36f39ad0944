//! Keeps circuits and backend in agreement.
//!
//! ```text
//!        circuit                     store                          backend
//!  (behind the engine's lock)  (one task, the replicator)      (memory or Redis)
//!
//!   results, trips, ended      agenda     scheduler: what goes next, and when
//!   probes, overrides ───────► ───────►   ├─ commands of one circuit ──────►  adds, compares,
//!   CircuitSync: the outbox               ├─ batches of a group      ──────►  writes records
//!                                         ├─ requests for leases     ──────►        │
//!                                         └─ heartbeats              ──────►        │
//!   machine ◄── CircuitSync ◄── input ◄───── answers ◄──────────────────────────────┤
//!           a new phase                ◄──── pushes (hints) ◄───────────────────────┘
//! ```
//!
//! Each circuit has a [`CircuitSync`] beside its machine: a pure reducer, which knows the newest
//! view of the backend and what waits to be sent. It neither waits nor reads a clock. One
//! [`Handle`] for each store owns the task that sends and receives, the
//! [replicator](replicator::Replicator). A circuit costs no task.
//!
//! # From a failure to the rejection on another replica
//!
//! 1. A call fails. Under the engine's lock, the machine counts it, and so does the circuit's
//!    [unreported evidence](unreported), with its age. If this replica's own evidence meets a
//!    condition, the machine opens the circuit here, at once. With a quorum of one, the reducer
//!    then has a transition to propose, and step 6 follows; with more, its next report votes.
//! 2. Otherwise the circuit wants to [report](report): at once when a streak of failures becomes
//!    alarming, and calls the roll with that; within the report interval when it is near a
//!    threshold; within the far interval (300 ms and 30 ms for each replica) when it is far.
//! 3. The [scheduler](scheduler) lets the circuit's [group](group) send a batch: the reports of all
//!    its circuits, one command. The backend adds them, at the moments the calls ended.
//! 4. The answer has the totals of all replicas. The reducer [judges](judge) them. When they are at
//!    half of what could trip, it has the backend call the roll: the circuit is *suspect*, and
//!    every replica reports what it holds.
//! 5. When every live replica has answered the roll call, the totals are whole. After the settling
//!    time they are judged as they are: a replica that is late counts as having nothing more. If
//!    they meet a condition, the reducer proposes to open.
//! 6. The backend moves the record to a new generation, and publishes its view. The other replicas
//!    follow it at once: their machines open, and the next call is rejected. A batch confirms what
//!    was published.
//!
//! # Laws
//!
//! 1. Nothing that a call waits for takes longer than the deadline: a probe's lease, and the first
//!    view of a new circuit.
//! 2. Every command has its price, and the scheduler exempts none. What a store sends is bounded,
//!    whatever its circuits do.
//! 3. Totals decide only after a roll call. This replica's own evidence is always whole.
//! 4. A closed circuit reports no success until it is suspect, and then with its failures, unless it
//!    is near a threshold. Without failures it sends nothing.
//! 5. Answers are the truth, pushes are hints ([`circuit`]).
//! 6. When heartbeats have failed for two seconds, counted from the sending of the first one that
//!    failed, every circuit is detached: it decides without the backend, and the store sends
//!    nothing but heartbeats. The same holds for the circuits of one group whose batches are not
//!    answered.
//! 7. No observer runs in the replicator's task, and no user code under a lock. An operation of a
//!    backend that panics is one without an answer.
//! 8. What is kept is bounded by the circuits that exist, and what the backend lists.

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
mod measured;
#[cfg(all(test, feature = "test-util", not(breaker_loom)))]
mod model;
mod node;
mod outbound;
mod overrides;
mod replicator;
mod report;
mod scheduler;
mod start;
mod unreported;

pub(crate) use circuit::{
    Acknowledgement, CircuitSync, Command, Context, Effects, Input, Pace, Totals,
};
pub(crate) use group::NodeId;
pub(crate) use handle::{BackendObserver, Handle, SyncSettings};
pub(crate) use host::replica_name;
pub(crate) use leases::Unclaimed;
pub(crate) use measured::Durations;
pub(crate) use node::{LeaseRequest, Node, Then};
pub(crate) use outbound::Agenda;
pub(crate) use overrides::left;
pub(crate) use report::Reported;
pub(crate) use scheduler::Class;
pub(crate) use start::start;
