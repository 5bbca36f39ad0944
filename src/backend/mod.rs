//! What replicas share.
//!
//! A [`Backend`] is a ledger: one record per circuit, which every replica of a service reads and
//! writes. Each replica goes on deciding its admissions alone, from a copy; the ledger makes the
//! copies agree.
//!
//! A record says which *generation* the circuit is in, and what that generation is: closed (with
//! what all replicas have counted in it), open, or half-open. Generations only grow. Everything that
//! is sent to the ledger names the generation it is about; if that is over, it changes nothing.
//!
//! **Absent is closed.** A circuit that nobody has ever tripped is closed, in generation
//! [`FIRST`](View::FIRST), without evidence; and so is one whose record is lost. No generation that
//! anybody has moved to can be as low as that, so whoever still knows better sees at once that the
//! ledger has forgotten, and [restores](Backend::restore) it.

mod error;
#[cfg(feature = "test-util")]
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod view;

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
pub use view::{OpenTerms, Overridden, OverrideRecord, RecordState, View};

use crate::machine::{Reason, Tally};
use crate::name::CircuitName;
use crate::policy::{Policy, Window};

/// The future of a backend's answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// A ledger of circuits that replicas share.
///
/// A backend adds, compares and tells; it does not judge evidence. The replica that reads a [`View`]
/// judges it by its policy, and proposes what follows with [`transition`](Self::transition). The one
/// thing a backend decides is a half-open round, as that must be atomic over all replicas: how many
/// probes are out, and whether the next result ends the round.
///
/// `RedisBackend` (feature `redis`) is one. To share circuits through something else, write
/// another, and hold it to the laws as `tests/it/backend_laws.rs` does.
///
/// # Laws
///
/// 1. **One at a time.** Operations on one circuit behave as if they ran in some order. Losing a
///    race is no error: the view shows what has happened instead.
/// 2. **One clock.** The backend tells the time, with a resolution of a millisecond. A view says
///    how long something still lasts, never when it ends; no replica's clock is compared with
///    another's.
/// 3. **The past is fenced.** What bears another generation than the record's changes nothing.
/// 4. **Generations grow.** A transition's generation is the larger of the last one plus one and the
///    backend's time in milliseconds since 1970, so that it grows even if the record was lost. Within
///    a generation the revision grows with whatever else a view shows, evidence excepted.
/// 5. **Counted once.** A report that is sent again adds nothing.
/// 6. **Probes are few, and come back.** While nothing is lost, no more leases are out than the
///    opening allows. A lease that nobody settles is free again after its own length, whatever else
///    happens to the circuit.
/// 7. **A failed probe ends its round.** No circuit closes in a generation in which the ledger was
///    told of one.
/// 8. **Told to all.** Every new generation, every change of a setting, and every lease that comes
///    back, is sent to all [subscribers](Self::subscribe).
///
/// # Cancellation
///
/// A returned future may be dropped at any time. The operation then happened once, or not at all. It
/// must not happen much later: a caller that has gone has decided without it.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Reads a circuit.
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View>;

    /// Adds what a replica has counted since its last report, if its generation is still the
    /// record's and that is closed; and returns what all have counted.
    ///
    /// A report on an absent record in the [first](View::FIRST) generation makes one.
    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View>;

    /// Moves the circuit on from generation `from`, unless somebody else already has.
    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View>;

    /// Asks for leave to make one probe in `generation`, which is open or half-open.
    ///
    /// An open generation whose interval is over moves to a half-open one first, and the lease is of
    /// that one. There is no lease while the interval lasts, while all places are taken, or where
    /// the generation is over; the view tells which. Asked again with the same `nonce`, it answers
    /// with the same lease, for as long as that is out.
    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)>;

    /// Says how a probe went. Ends its lease; if that is over already, changes nothing.
    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View>;

    /// Tells a ledger that has forgotten. The view is written where the record is absent or older,
    /// by generation and revision; its setting likewise, by version. What was half-open becomes open
    /// with its interval over, in the same generation: who was probing is not known any more, so the
    /// next probe starts a new round. Remaining times are cut down to the interval.
    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View>;

    /// Sets a state by hand, for all replicas; `None` ends one, and closes the circuit in a new
    /// generation. A setting does not end by being forgotten: it is kept for as long as it says.
    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        setting: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View>;

    /// What becomes known from now on. A receiver that lags has missed something; a replica then
    /// loads everything again.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;

    /// Whether the ledger can be reached. While it cannot, this is all that a replica asks.
    fn ping(&self) -> Answer<'_, ()>;

    /// What an operator should mend although the ledger answers; it goes to the log. Asked at the
    /// start and after each [gap](Notice::Gap), and must not wait.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Lets go of connections and tasks. Later operations fail.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a replica has counted since its last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who reports. Unique for each start of a process.
    pub replica: String,
    /// The number of the report, from 1 on, among this replica's on this circuit. A number that is
    /// not above the last one adds nothing. Zero adds nothing either: it only asks.
    pub seq: u64,
    /// The generation in which it was counted.
    pub generation: u64,
    /// What was counted.
    pub delta: Delta,
    /// The window in which the ledger is to count it; `None`: only the streak.
    pub window: Option<Geometry>,
    /// This replica's own evidence has opened its circuit: it votes for opening the cluster's. The
    /// vote counts for so long; `None` withdraws it.
    pub vote: Option<Duration>,
    /// Whether the ledger is to keep count of each replica too, and to tell it
    /// ([`View::shares`]). For policies with a quorum.
    pub shares: bool,
}

/// Evidence, as a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Calls that ended.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow.
    pub slow_calls: u64,
    /// Failures after the last success. They are added to the cluster's streak.
    pub streak: u64,
    /// At least one call succeeded. Unless failures came after it, it ends the cluster's streak.
    ///
    /// A streak that a success has interrupted *adds* what came after: the streaks of many replicas,
    /// each with a good call now and then, would otherwise never add up.
    pub succeeded: bool,
}

/// The window in which a ledger counts: `length`, in `buckets` slices.
///
/// Circuits whose policies differ in this are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// How far back evidence goes, in milliseconds.
    pub millis: u64,
    /// In how many slices it slides: 1 to [`MAX_BUCKETS`](Self::MAX_BUCKETS).
    pub buckets: u32,
}

impl Geometry {
    /// A ledger packs all buckets in one field, and reads and writes that as a whole.
    pub const MAX_BUCKETS: u32 = 60;

    /// The window of a policy, as a ledger can count it. A count window has no order over replicas.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        match policy.window() {
            Window::Time { length, buckets } => Some(Self {
                millis: u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1),
                buckets: buckets.min(Self::MAX_BUCKETS),
            }),
            Window::Count { .. } | Window::None => None,
        }
    }

    /// How long a bucket lasts: at least a millisecond.
    #[must_use]
    pub fn bucket_millis(&self) -> u64 {
        (self.millis / u64::from(self.buckets.max(1))).max(1)
    }
}

/// What a replica proposes to move to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// To open.
    Open {
        /// What the open phase and its probes shall obey.
        terms: OpenTerms,
        /// Why.
        reason: Reason,
        /// What had been counted.
        tally: Tally,
    },
    /// To closed.
    Closed {
        /// Why.
        reason: Reason,
    },
}

/// Leave for one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The half-open generation that it belongs to.
    pub generation: u64,
    /// What its owner asked with.
    pub nonce: u64,
    /// For how long.
    pub remaining: Duration,
}

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It succeeded: one more towards closing. The one that completes
    /// [`successes_to_close`](OpenTerms::successes_to_close) closes the circuit.
    Passed,
    /// It failed: the circuit opens again.
    Failed {
        /// What the next open phase shall obey.
        terms: OpenTerms,
        /// [`Reason::ProbeFailed`], [`Reason::ProbeSlow`] or [`Reason::ProbeExpired`].
        reason: Reason,
    },
    /// It was not made, or says nothing: only its place is free again.
    Released,
}

/// What a backend tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A circuit has changed.
    View(CircuitName, Box<View>),
    /// Something may have been missed: everything is to be loaded again.
    Gap,
}
