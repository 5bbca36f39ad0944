//! A circuit's part in a cluster: what it knows of the ledger, and what the ledger is to be told.
//!
//! All of it is behind the engine's lock, and none of it waits. A [`Link`] is told when there is
//! something to do; whoever is behind it takes the [`Work`], does it, and comes back with views.
//!
//! Laws:
//!
//! 1. Views come in any order, late and twice. The newest generation and revision known is in force;
//!    settings have an order of their own.
//! 2. A new generation ends what this replica has found out alone. A view of the generation that is
//!    known already does not: least of all does "closed" end what this replica has opened.
//! 3. Every result is in one delta, or of a generation that is over.
//! 4. Only an answer shows that the ledger has forgotten: what is pushed may just be late.

mod hand;
mod hear;
mod lost;
mod tell;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Circuit, Held};
use crate::backend::{
    BackendError, Delta, Geometry, Lease, Move, OverrideRecord, Probed, RecordState, View,
};
use crate::machine::{Evidence, Mark, Shared, Tally, Verdict};
use crate::policy::{Policy, Window};
use crate::timestamp::Timestamp;

/// A future that is kept in a service.
pub(crate) type Wait<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// Whoever keeps a circuit in agreement with the ledger.
pub(crate) trait Link: Send + Sync {
    /// There is [`Work`] that cannot wait for the next look. Called without a lock.
    fn wake(&self);

    /// Until the ledger's state is known, or has been given up.
    fn known(&self) -> Wait<()>;

    /// Asks the backend for a probe's lease.
    fn ask(&self, circuit: Circuit, unclaimed: Unclaimed) -> Wait<Option<Held>>;
}

/// What becomes of a lease that arrives when its caller has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    GiveBack,
    /// The next caller takes it.
    Keep,
}

/// How a view arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Answered,
    Pushed,
}

/// What a report takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    All,
    Nothing,
}

/// Tells whether everybody knows what a hand has set.
pub(super) type Told = oneshot::Receiver<Result<(), BackendError>>;

/// What the ledger is to be told.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) settled: Vec<Settled>,
    pub(crate) wish: Option<Wish>,
    /// The ledger has forgotten this.
    pub(crate) restore: Option<View>,
    /// Proposed, in this generation.
    pub(crate) proposal: Option<(u64, Move)>,
    pub(crate) news: News,
    /// Of failures, when the first of them was.
    pub(crate) failing_since: Option<Timestamp>,
    /// When a lease runs out whose call may still be under way.
    pub(crate) next_expiry: Option<Timestamp>,
    /// Whether the ledger's state passes calls: then there is no hurry to hear of a change.
    pub(crate) closed: bool,
}

impl Work {
    /// Whether there is nothing to tell but reports.
    pub(crate) fn is_empty(&self) -> bool {
        self.settled.is_empty()
            && self.wish.is_none()
            && self.restore.is_none()
            && self.proposal.is_none()
    }
}

/// How much there is to report, and how soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    #[default]
    None,
    Successes,
    Failures,
    /// Others should know at once.
    Alarm,
}

/// A probe of the cluster's that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    pub(crate) probed: Probed,
    verdict: Verdict,
}

/// A state set by hand here, of which the ledger does not know yet.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) setting: Option<OverrideRecord>,
    /// When it was wished: what remains of its time counts from here.
    pub(crate) at: Timestamp,
    /// The version that was known then. One that is newer holds.
    version: u64,
    /// Who waits to hear that everybody knows.
    pub(crate) told: Option<oneshot::Sender<Result<(), BackendError>>>,
}

/// A report, but for who sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) generation: u64,
    pub(crate) delta: Delta,
    pub(crate) window: Option<Geometry>,
    pub(crate) vote: Option<Duration>,
    pub(crate) shares: bool,
}

/// How long a vote counts where the policy has no time window.
const VOTE: Duration = Duration::from_secs(60);

/// A replica that was refused asks again after so long, however long the leases of others are: they
/// may come back any time.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A replica counts its lease as over a little before the ledger does, so that it can still say so.
const LEASE_MARGIN: Duration = Duration::from_millis(250);

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Member {
    link: Arc<dyn Link>,
    /// The ledger's state, or that it cannot be had.
    known: bool,
    /// The ledger has been heard of at all.
    heard: bool,
    /// The newest that is known of the ledger; its times count from `at`, its setting's from
    /// `imposed_at`.
    view: View,
    at: Timestamp,
    imposed_at: Timestamp,
    /// The ledger has forgotten it.
    restore: bool,
    /// Counted in the ledger's generation, and not reported.
    unreported: Evidence,
    succeeded: bool,
    news: News,
    failing_since: Option<Timestamp>,
    /// Opened on this replica's own evidence, in the ledger's generation.
    trip: Option<Move>,
    voted: bool,
    settled: Vec<Settled>,
    wish: Option<Wish>,
    /// The ledger is being told of an earlier wish.
    imposing: bool,
    proposal: Option<Move>,
    asking: bool,
    /// The link is to be woken, and has not been since it last took the work.
    ring: Ring,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ring {
    #[default]
    Silent,
    Due,
    Rung,
}

impl Member {
    pub(super) fn new(link: Arc<dyn Link>, policy: &Policy, now: Timestamp) -> Self {
        Self {
            link,
            known: false,
            heard: false,
            view: View::default(),
            at: now,
            imposed_at: now,
            restore: false,
            unreported: unreported(policy, now),
            succeeded: false,
            news: News::None,
            failing_since: None,
            trip: None,
            voted: false,
            settled: Vec::new(),
            wish: None,
            imposing: false,
            proposal: None,
            asking: false,
            ring: Ring::Silent,
        }
    }

    pub(super) fn link(&self) -> &Arc<dyn Link> {
        &self.link
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// The link, if it is to be woken.
    pub(super) fn ring(&mut self) -> Option<Arc<dyn Link>> {
        let due = self.ring == Ring::Due;
        due.then(|| {
            self.ring = Ring::Rung;
            self.link.clone()
        })
    }

    pub(super) fn successes(&mut self, n: u64) {
        if n > 0 {
            self.unreported.successes(n);
            self.succeeded = true;
            self.news = self.news.max(News::Successes);
        }
    }

    pub(super) fn record(&mut self, mark: Mark, now: Timestamp) {
        self.unreported.slide(now);
        self.unreported.record(mark);
        self.succeeded |= !mark.failed;
        if mark.failed || mark.slow {
            self.failing_since.get_or_insert(now);
            self.heed(News::Failures);
        } else {
            self.heed(News::Successes);
        }
    }

    pub(super) fn alarm(&mut self) {
        self.heed(News::Alarm);
    }

    pub(super) fn reshape(&mut self, policy: &Policy, now: Timestamp) {
        self.unreported = unreported(policy, now);
        (self.succeeded, self.news, self.failing_since) = (false, News::None, None);
    }

    fn heed(&mut self, news: News) {
        if news > self.news && news >= News::Failures {
            self.hurry();
        }
        self.news = self.news.max(news);
    }

    fn hurry(&mut self) {
        if self.ring == Ring::Silent {
            self.ring = Ring::Due;
        }
    }

    fn delta(&mut self, now: Timestamp) -> Delta {
        self.unreported.slide(now);
        let Tally { calls, failures, slow_calls, consecutive_failures: streak, .. } =
            self.unreported.tally();
        Delta { calls, failures, slow_calls, streak, succeeded: self.succeeded }
    }

    /// The view as it would be told now.
    fn current(&self, now: Timestamp) -> View {
        let mut view = self.view.clone();
        let passed = now.since(self.at);
        if let RecordState::Open { remaining, .. } = &mut view.state {
            *remaining = remaining.saturating_sub(passed);
        }
        let remaining = view.overridden.record.as_mut().and_then(|s| s.remaining.as_mut());
        if let Some(remaining) = remaining {
            *remaining = remaining.saturating_sub(now.since(self.imposed_at));
        }
        view
    }

    /// The ledger's state in this process's time.
    fn shared(&self) -> Shared {
        match self.view.state {
            RecordState::Closed => Shared::Closed,
            RecordState::Open { terms, remaining } => {
                Shared::Open { until: self.at.after(remaining), reopenings: terms.reopenings }
            }
            RecordState::HalfOpen { terms, passed, .. } => {
                Shared::HalfOpen { reopenings: terms.reopenings, passed }
            }
        }
    }
}

/// Evidence of what is shared: a time window, and the streak. Other windows have no order over
/// replicas.
fn unreported(policy: &Policy, now: Timestamp) -> Evidence {
    let shape = match Geometry::of(policy) {
        Some(Geometry { millis, buckets }) => {
            Window::Time { length: Duration::from_millis(millis), buckets }
        }
        None => Window::None,
    };
    Evidence::new(shape, now)
}
