//! What a replica sends about its circuits, and what the backend answers.

use std::time::Duration;

use super::BackendError;
use super::view::View;
use crate::name::CircuitName;
use crate::policy::{Policy, Window};

/// A replica, as it signs what it sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The name that the replica keeps over restarts. It bears votes and shares, so that a replica
    /// that restarts again and again is still one voter.
    pub name: String,
    /// Unique for each start of a process. It bears the numbers of batches and heartbeats.
    pub id: String,
}

/// What a replica sends about one group of circuits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The replica that sends it.
    pub sender: Sender,
    /// The number of the batch, from 1, among those of this [start](Sender::id) in this group. The
    /// reports of a number that is not larger than the last one add nothing, because they have
    /// been added before.
    pub seq: u64,
    /// Changes after this point are to be returned.
    pub since: Cursor,
    /// The replica has seen every change of the group up to this version, pushed ones included, and
    /// has answered every roll call in it: what it had counted then is in this batch or an earlier
    /// one. Zero: it does not say.
    pub seen: u64,
    /// Evidence, at most one report for each circuit.
    pub reports: Vec<Report>,
    /// Circuits whose views are to be returned even if they have not changed, besides those of the
    /// reports.
    pub circuits: Vec<CircuitName>,
}

impl Batch {
    /// Makes all reports [older](Report::grow_older).
    pub(crate) fn grow_older(&mut self, by: Duration) {
        for report in &mut self.reports {
            report.grow_older(by);
        }
    }
}

/// How far a replica has read the changes of a group. The default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Changes when the backend has lost the group.
    pub epoch: u64,
    /// Grows with every change in the group.
    pub version: u64,
}

/// The answer to a [`Batch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// How far the views of this answer go. The next batch continues from here.
    pub cursor: Cursor,
    /// The answer starts at the beginning, because the batch did, or because the backend does not
    /// know its cursor. Then these views, with those of the following answers until one has no
    /// [`more`](Self::more), are all that there are: every other circuit of the group is closed,
    /// without a record.
    pub restarted: bool,
    /// There are more changes than one answer holds; ask again from its cursor.
    pub more: bool,
    /// The circuits that have changed, and those of the batch.
    pub views: Vec<(CircuitName, View)>,
    /// Circuits of the batch, or that have changed, whose records cannot be read or written. The
    /// others are not concerned.
    pub refused: Vec<(CircuitName, BackendError)>,
}

/// What a replica has counted on a closed circuit since its last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The circuit.
    pub circuit: CircuitName,
    /// The generation in which it was counted. A report on another generation than the record's
    /// adds nothing.
    pub generation: u64,
    /// The window in which the backend counts. `None`: only the consecutive failures.
    pub window: Option<Geometry>,
    /// What was counted, by age, in no order. Empty without a window.
    ///
    /// While a circuit is [quiet](View::suspect), replicas report only calls that failed or were
    /// slow, and these add up to no rate.
    pub counts: Vec<Count>,
    /// Failures after the last success of this replica, by age, that were not reported before.
    pub failures: Vec<Failures>,
    /// How long ago the last success was, if there was one since the last report. It ends the
    /// streak of the cluster: failures before it no longer count as consecutive.
    pub last_success: Option<Duration>,
    /// Votes for opening, because this replica's own evidence has opened its own circuit. The vote
    /// lasts for this long; `None` withdraws it.
    pub vote: Option<Duration>,
    /// Whether replicas are also counted apart.
    pub shares: Shares,
    /// A change of how closely replicas watch the circuit.
    pub attention: Option<Attention>,
}

/// Whether the backend counts each replica apart, for policies with a
/// [quorum](crate::policy::PolicyBuilder::quorum).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shares {
    /// Only together.
    #[default]
    None,
    /// Also apart.
    Count,
    /// Also apart, and [returned](View::shares): all replicas of the group, so not with each
    /// report.
    Return,
}

/// A proposal to change how closely replicas watch a closed circuit.
///
/// It names the [roll call](super::Roll) that the proposer knows, zero if there is none, and
/// changes nothing if there has been another one since. So of many replicas that propose the same,
/// one succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Makes the circuit suspect, and calls the roll: every replica is to report what it has. Its
    /// id is the larger of the backend's time in milliseconds and `after` plus one.
    RollCall {
        /// The roll call that is known.
        after: u64,
    },
    /// Makes the circuit quiet: replicas report only calls that failed or were slow.
    Quiet {
        /// The roll call that is known.
        after: u64,
    },
}

/// Calls that ended at about the same time.
///
/// Ages count from the moment the operation began. A backend that knows how long the operation was
/// on its way adds that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How long ago they ended. What is older than the window adds nothing.
    pub age: Duration,
    /// Calls that ended.
    pub calls: u64,
    /// How many of these calls failed.
    pub failures: u64,
    /// How many of these calls were slow.
    pub slow_calls: u64,
}

/// Consecutive failures that ended at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How long ago they ended; if at different times, the first of them.
    pub age: Duration,
    /// How many there were.
    pub number: u64,
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

impl Report {
    /// How far back consecutive failures go where there is no window.
    pub const HORIZON: Duration = Duration::from_secs(60);

    /// Returns how far back this evidence goes: the window, or [`HORIZON`](Self::HORIZON). What is
    /// older adds nothing.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.window.map_or(Self::HORIZON, |window| Duration::from_millis(window.millis))
    }

    /// Makes everything in the report older, because it was on its way, or waited, for so long.
    /// Drops what is now older than the [horizon](Self::horizon).
    pub fn grow_older(&mut self, by: Duration) {
        let horizon = self.horizon();
        for count in &mut self.counts {
            count.age = count.age.saturating_add(by);
        }
        for failures in &mut self.failures {
            failures.age = failures.age.saturating_add(by);
        }
        self.last_success = self.last_success.map(|age| age.saturating_add(by));
        self.counts.retain(|count| count.age < horizon);
        self.failures.retain(|failures| failures.age < horizon);
    }
}
