//! What the replicas of a service share.
//!
//! A [`Backend`] stores one record per circuit, which every replica reads and writes. Each replica
//! still decides its admissions by itself, from a copy of the record; the backend makes the copies
//! agree.
//!
//! A record says which *generation* a circuit is in and what that generation is: closed (with what
//! replicas have reported), open, or half-open. Generations only grow. Everything that a replica
//! sends names a generation. If that generation is over, the backend ignores it.
//!
//! # Absent means closed
//!
//! A circuit without a record is closed, without evidence, in generation [`FIRST`](View::FIRST).
//! That is so for a circuit that never opened, for one whose evidence is too old, and for one whose
//! record the backend has lost, for example because it was emptied. A replica that remembers an
//! open circuit notices the loss, and [restores](Backend::restore) the record.
//!
//! # Quiet and suspect
//!
//! A closed circuit is *quiet* until failures add up. Replicas then report only calls that failed
//! or were slow, and a healthy circuit sends nothing. When the reported failures reach half of what
//! could open the circuit, the replica that reads them makes it *suspect*, with a [roll
//! call](Roll): every replica reports what it holds, successes included, by age. From then on the
//! totals are whole, but for a bounded lag, and replicas judge them.
//!
//! # A backend of your own
//!
//! [docs/backends.md] explains what [`Backend`] asks of an implementation, and how to run its laws
//! against one.
//!
//! [docs/backends.md]: https://github.com/tower-breaker/tower-breaker/blob/main/docs/backends.md

mod error;
mod group;
mod impairment;
mod list;
#[cfg(feature = "test-util")]
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod replica;
mod report;
pub(crate) mod view;

use std::fmt::Debug;
use std::pin::Pin;

use tokio::sync::broadcast;

pub use error::BackendError;
pub use group::Group;
pub use impairment::Impairment;
pub use list::{Listing, list, read};
#[cfg(feature = "test-util")]
pub use memory::MemoryBackend;
#[cfg(all(test, feature = "test-util", not(breaker_loom)))]
pub(crate) use memory::Records;
#[cfg(feature = "redis")]
pub(crate) use redis::Part as RedisPart;
#[cfg(feature = "redis")]
pub use redis::{RedisBackend, RedisConfig, RedisConfigError};
pub use replica::{Heartbeat, ReplicaInfo, Roster};
pub use report::{
    Attention, Batch, Changes, Count, Cursor, Failures, Geometry, Report, Sender, Shares,
};
pub(crate) use view::OverrideRecord;
pub use view::{OpenTerms, Overridden, RecordState, Roll, View};

use crate::machine::{HistoryEntry, Reason, Tally};
use crate::name::CircuitName;

/// The future that a backend's operation returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// A store of circuit records that replicas share.
///
/// `RedisBackend` (feature `redis`) and `MemoryBackend` (feature `test-util`) implement it. To
/// share circuits through another database, implement it yourself, and test the implementation
/// against the laws below, as `tests/it/cluster/laws` in the repository does. [docs/backends.md]
/// explains how.
///
/// [docs/backends.md]: https://github.com/tower-breaker/tower-breaker/blob/main/docs/backends.md
///
/// A backend adds, compares and publishes. It does not judge evidence: the replica that reads a
/// [`View`] judges it by its policy, and proposes what follows with
/// [`transition`](Self::transition). A backend decides only half-open rounds, which must be atomic
/// over all replicas: how many probes are out, and whether the next result ends the round.
///
/// # Laws
///
/// 1. **One at a time.** Operations on one circuit behave as if they ran in some order. Losing a
///    race is not an error: the view shows what has happened instead.
/// 2. **One clock.** Only the backend's clock counts, with a resolution of a millisecond. A view
///    says how long something still lasts, never when it ends, and never longer than it can last:
///    if the clock goes back, what remains is cut to its own length. The clocks of replicas are
///    never compared.
/// 3. **The past is fenced.** An operation that names another generation than the record's changes
///    nothing.
/// 4. **Generations grow.** The generation of a transition is the larger of the last one plus one
///    and the backend's time in milliseconds since 1970. So it grows even if the record was lost.
///    Within a generation, the revision grows with every other change of the view, except of its
///    evidence.
/// 5. **Counted once, by age.** The reports of a batch that is sent again add nothing. Evidence
///    counts at the moment it is from, not when it arrives; what is older than its window adds
///    nothing.
/// 6. **Leases are bounded, and expire.** As long as the record exists, no more leases are out than
///    the open terms allow. A lease that is never settled expires after its own length, whatever
///    else happens to the circuit.
/// 7. **A failed probe ends its round.** Also one whose lease has expired. No circuit closes in a
///    generation in which a failed probe was settled.
/// 8. **Changes are versioned and published.** Every new generation, every change of an override,
///    every roll call, every circuit that becomes quiet, and every lease that is returned gets a
///    new version of its [`Group`], and is sent to all [subscribers](Self::subscribe). A
///    [`sync`](Self::sync) returns all changes after its cursor, whatever was lost on the way.
/// 9. **What is plain vanishes.** The record of a circuit that is closed, quiet and not overridden
///    expires: with its window, and not before the open interval that it ended would have.
///
/// # Errors
///
/// Every operation returns [`BackendError::unavailable`] if the backend does not answer in time,
/// and [`BackendError::refused`] if it answers but will not do this.
///
/// # Cancellation
///
/// A returned future may be dropped at any time. The operation then happened once, or not at all.
/// It must not happen much later: the caller has decided without it. Only
/// [`settle_probe`](Self::settle_probe) may, because the result of a probe is valid whenever it
/// arrives.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Adds the reports of a batch, and returns what has changed in a group of circuits.
    ///
    /// A report counts if the record is still closed and in the generation of the report. On an
    /// absent record, in the [first](View::FIRST) generation, it creates the record, unless there
    /// is nothing in it. The view of a circuit in the batch has the totals of the report's window.
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes>;

    /// Moves the circuit on from generation `from`. Changes nothing if another replica has already
    /// done so.
    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View>;

    /// Asks for a lease for one probe in `generation`, which is open or half-open.
    ///
    /// If an open generation's interval is over, the circuit first moves to a half-open generation,
    /// and the lease belongs to that one. There is no lease while the interval lasts, while all
    /// probe slots are taken, or if the generation is over; the view shows which. A second request
    /// with the same `nonce` returns the same lease while that is out.
    ///
    /// A call waits for this operation; for the others only background tasks do.
    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)>;

    /// Records how a probe ended, and ends its lease.
    ///
    /// Changes nothing if the round is over. If only the lease is over, a failure still ends the
    /// round, and everything else changes nothing.
    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View>;

    /// Writes back a view that the backend has lost.
    ///
    /// The view is written if the record is absent or older, by generation and revision; its
    /// override likewise, by version. A half-open view is written as open with its interval over,
    /// in the same generation: its leases are unknown, so the next probe starts a new round.
    /// Remaining times are at most the interval. A generation or a version that is more than a day
    /// ahead of the backend's clock is refused.
    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View>;

    /// Changes the override of a circuit for all replicas. The backend must keep an override for as
    /// long as it lasts, even if it forgets the record of the circuit.
    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View>;

    /// Returns the last transitions of a circuit, the newest last, or `None` if the backend keeps
    /// none, as by default. Only pages and programs ask for it.
    ///
    /// A backend that keeps them notes one entry whenever an operation changes the generation or
    /// the override of a circuit, in the same atomic step: what [`View::transition_since`] returns
    /// for the views before and after it. It keeps the last [`HistoryEntry::MOST`] of each circuit
    /// for [`HistoryEntry::KEPT_FOR`], also if the record has vanished meanwhile.
    fn history<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, Option<Vec<HistoryEntry>>> {
        let _ = circuit;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Records that a replica runs, and returns how many do. If this fails for two seconds, all
    /// circuits of the replica are detached, and it sends nothing but heartbeats. So a heartbeat
    /// should write: a backend that can only be read then counts as one that does not answer.
    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster>;

    /// Returns the replicas that have sent a heartbeat within [`Roster::FORGET`].
    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>>;

    /// Asks all replicas to [publish](Self::publish) their circuits for the next 15 seconds: the
    /// answers to their heartbeats say so. A program that watches the cluster calls it again and
    /// again.
    fn watch(&self) -> Answer<'_, ()>;

    /// Sends a replica's description of its circuits to all subscribers that watch the cluster. One
    /// of more than 64 KiB is refused.
    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()>;

    /// Returns a receiver of everything that is published from now on. If a receiver lags, it has
    /// missed something, and its replica reads everything again.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;

    /// Returns the ways in which the backend itself works only in part. It must not block.
    fn impairments(&self) -> Vec<Impairment> {
        Vec::new()
    }

    /// Closes connections and ends tasks. Later operations fail.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A transition that a replica proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// To open.
    Open {
        /// The terms of the open phase and of its probes.
        terms: OpenTerms,
        /// Why it opens.
        reason: Reason,
        /// What was counted before.
        tally: Tally,
    },
    /// To closed.
    Closed {
        /// Why it closes.
        reason: Reason,
    },
}

/// A change of a circuit's override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideChange {
    /// Sets an override.
    Set(OverrideRecord),
    /// Ends the override. The state beneath it, which the record still has, is in force again.
    Clear,
    /// Ends the override, and closes the circuit in a new generation.
    Reset,
}

/// Permission for one probe, with an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The half-open generation that it belongs to.
    pub generation: u64,
    /// The nonce of the request that acquired it.
    pub nonce: u64,
    /// How long it still lasts.
    pub remaining: std::time::Duration,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It succeeded. When [`successes_to_close`](OpenTerms::successes_to_close) probes have, the
    /// circuit closes.
    Passed,
    /// It failed: the circuit opens again.
    Failed {
        /// The terms of the next open phase.
        terms: OpenTerms,
        /// [`Reason::ProbeFailed`], [`Reason::ProbeSlow`] or [`Reason::ProbeExpired`].
        reason: Reason,
    },
    /// It was not made, or says nothing about the upstream. Its slot is free again.
    Released,
}

/// What a backend publishes.
///
/// A replica takes a notice for a hint: it acts on it at once, confirms it with its next command,
/// and never writes it back. So a forged notice does no lasting harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A circuit has changed.
    Changed {
        /// The circuit.
        circuit: CircuitName,
        /// Its view. It has no totals.
        view: Box<View>,
        /// The version of the group before this change. A replica whose own is another one has
        /// missed something.
        previous: u64,
        /// The version of the group since this change.
        version: u64,
    },
    /// A replica describes its circuits, because a program [watches](Backend::watch) the cluster.
    Circuits {
        /// The replica.
        sender: Sender,
        /// What it has published.
        circuits: String,
    },
    /// Some notices may be missing: the replica must read everything again.
    Gap,
}
