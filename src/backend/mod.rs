//! What the replicas of a service share.
//!
//! A [`Backend`] stores one record per circuit, which every replica reads and writes. Each replica
//! still decides its admissions by itself, from a copy of the record; the backend makes the copies
//! agree.
//!
//! A record says which *generation* a circuit is in and what that generation is: closed (with what
//! all replicas have counted), open, or half-open. Generations only grow. Everything that a replica
//! sends names a generation. If that generation is over, the backend ignores it.
//!
//! # Absent means closed
//!
//! A circuit without a record is closed, without evidence, in generation [`FIRST`](View::FIRST).
//! That is so for a circuit that never opened, and for one whose record the backend has lost, for
//! example because it was emptied. Every later generation is larger than `FIRST`, so a replica that
//! remembers one sees that the record was lost, and [restores](Backend::restore) it.

mod error;
#[cfg(feature = "test-util")]
mod memory;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod view;

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::broadcast;

pub use error::BackendError;
#[cfg(feature = "test-util")]
pub use memory::MemoryBackend;
#[cfg(feature = "redis")]
pub(crate) use redis::Part as RedisPart;
#[cfg(feature = "redis")]
pub use redis::{RedisBackend, RedisConfig, RedisConfigError};
pub(crate) use view::OverrideRecord;
pub use view::{OpenTerms, Overridden, RecordState, View};

use crate::machine::{Reason, Tally};
use crate::name::CircuitName;
use crate::policy::{Policy, Window};

/// The future that a backend's operation returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// A store of circuit records that replicas share.
///
/// `RedisBackend` (feature `redis`) and `MemoryBackend` (feature `test-util`) implement it. To
/// share circuits through another database, implement it yourself, and test the implementation
/// against the laws below, as `tests/it/cluster/laws` in the repository does.
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
///    says how long something still lasts, never when it ends. The clocks of replicas are never
///    compared.
/// 3. **The past is fenced.** An operation that names another generation than the record's changes
///    nothing.
/// 4. **Generations grow.** The generation of a transition is the larger of the last one plus one
///    and the backend's time in milliseconds since 1970. So it grows even if the record was lost.
///    Within a generation, the revision grows with every other change of the view, except of its
///    evidence.
/// 5. **Counted once.** A report that is sent again adds nothing.
/// 6. **Leases are bounded, and expire.** As long as the record exists, no more leases are out than
///    the open terms allow. A lease that is never settled expires after its own length, whatever
///    else happens to the circuit.
/// 7. **A failed probe ends its round.** No circuit closes in a generation in which a failed probe
///    was settled.
/// 8. **Changes are published.** Every new generation, every change of an override, and every lease
///    that is returned is sent to all [subscribers](Self::subscribe).
///
/// # Errors
///
/// Every operation returns [`BackendError::unavailable`] if the backend does not answer in time,
/// and [`BackendError::refused`] if it answers but will not do this.
///
/// # Cancellation
///
/// A returned future may be dropped at any time. The operation then happened once, or not at all.
/// It must not happen much later: the caller has decided without it.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Reads the record of a circuit, and returns its current view.
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View>;

    /// Adds what a replica has counted since its last report, if the record is still closed and in
    /// the generation of the report. Returns what all replicas have counted.
    ///
    /// A report on an absent record in the [first](View::FIRST) generation creates the record.
    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View>;

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
    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)>;

    /// Records how a probe ended, and ends its lease. Changes nothing if the lease is over.
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
    /// Remaining times are at most the interval.
    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View>;

    /// Sets an override for all replicas. `None` ends the override, and closes the circuit in a new
    /// generation. The backend must keep an override for as long as it lasts, even if it forgets
    /// the record of the circuit.
    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        record: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View>;

    /// Returns a receiver of everything that is published from now on. A receiver that lags has
    /// missed something; its replica then loads everything again.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;

    /// Resolves if the backend can be reached. While it cannot, a replica sends nothing else.
    fn ping(&self) -> Answer<'_, ()>;

    /// Returns a problem that an operator should fix although the backend answers; the replica logs
    /// it. Called at the start and after each [gap](Notice::Gap). It must not block.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Closes connections and ends tasks. Later operations fail.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a replica has counted since its last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The replica that reports. Unique for each start of a process.
    pub replica: String,
    /// The number of the report, from 1, among those of this replica on this circuit. A number that
    /// is not larger than the last one adds nothing. Zero adds nothing either; it only reads.
    pub seq: u64,
    /// The generation in which it was counted.
    pub generation: u64,
    /// What was counted.
    pub delta: Delta,
    /// The window in which the backend counts it. `None`: only the consecutive failures.
    pub window: Option<Geometry>,
    /// Votes for opening the cluster's circuit, because this replica's own evidence has opened its
    /// own. The vote lasts for this long; `None` withdraws it.
    pub vote: Option<Duration>,
    /// Whether the backend counts each replica apart too, and returns that in [`View::shares`]. For
    /// policies with a [quorum](crate::policy::PolicyBuilder::quorum).
    pub shares: bool,
}

/// Evidence, as a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Calls that ended.
    pub calls: u64,
    /// How many of these calls failed.
    pub failures: u64,
    /// How many of these calls were slow.
    pub slow_calls: u64,
    /// Failures after the last success. The backend adds them to the cluster's streak.
    pub streak: u64,
    /// Whether at least one call succeeded. If no failure came after it, it ends the cluster's
    /// streak.
    ///
    /// If failures came after it, they are *added* to the streak: otherwise the streaks of many
    /// replicas, each with an occasional success, would never add up.
    pub succeeded: bool,
}

/// The window in which a backend counts: `millis` milliseconds, in `buckets` buckets.
///
/// Circuits whose policies differ in this are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// How far back evidence goes, in milliseconds.
    pub millis: u64,
    /// The number of its buckets: 1 to [`MAX_BUCKETS`](Self::MAX_BUCKETS).
    pub buckets: u32,
}

impl Geometry {
    /// The most buckets of a window. A backend stores all buckets in one field, and reads and
    /// writes them as a whole.
    pub const MAX_BUCKETS: u32 = 60;

    /// Returns the window of a policy as a backend can count it. A count window has no order over
    /// replicas.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        match policy.window() {
            Window::Time { length, buckets } => Some(Self {
                millis: u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1),
                buckets: buckets.min(Self::MAX_BUCKETS),
            }),
            Window::Count { .. } | Window::None => None,
        }
    }

    /// Returns how long a bucket lasts, in milliseconds: at least one.
    #[must_use]
    pub fn bucket_millis(&self) -> u64 {
        (self.millis / u64::from(self.buckets.max(1))).max(1)
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

/// Permission for one probe, with an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The half-open generation that it belongs to.
    pub generation: u64,
    /// The nonce of the request that acquired it.
    pub nonce: u64,
    /// How long it still lasts.
    pub remaining: Duration,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A circuit has changed.
    View(CircuitName, Box<View>),
    /// Some notices may be missing: the replica must load everything again.
    Gap,
}
