//! One group of circuits, as the replicator syncs it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::scheduler::{Class, spread};
use crate::backend::{Batch, Changes, Cursor};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// Names a circuit in one replicator.
pub(crate) type NodeId = u64;

/// How often a group is read in which nothing happens, in case a push was lost.
const POLL_PLAIN: Duration = Duration::from_secs(20);

/// The same, if some circuit of the store is suspect or not closed.
const POLL_ACTIVE: Duration = Duration::from_secs(6);

/// The same, if changes are not pushed.
const POLL_UNPUSHED: Duration = Duration::from_secs(1);

/// After an error the group is read so long after the last time, then after twice as long, up to the
/// longest. A missing answer takes longer than the first of these, so it costs no more time.
const AGAIN: Duration = Duration::from_millis(250);
const LONGEST_AGAIN: Duration = Duration::from_secs(2);

/// How urgently a group must be read when nothing is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polls {
    Plain,
    Active,
    Unpushed,
}

/// Whether other replicas have seen changes that this one has not: what is pushed may not reach it.
#[derive(Debug, Default)]
pub(super) struct Missed {
    suspected: u64,
    checked: u64,
}

impl Missed {
    /// Compares the newest version that any replica has seen with the newest that this one has.
    /// Returns whether to read all groups.
    ///
    /// One heartbeat is no proof: the push may still be on its way. And each version is worth one
    /// look, since it may be forged.
    pub(super) fn compare(&mut self, newest: u64, seen: u64) -> bool {
        let missed = newest > seen.max(self.checked);
        let again = missed && self.suspected > seen;
        self.suspected = if missed && !again { newest } else { 0 };
        if again {
            self.checked = newest;
        }
        again
    }
}

/// The state of a group.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    pub(super) nodes: BTreeSet<NodeId>,
    /// The nodes that want to report, with when.
    pub(super) reports: BTreeMap<NodeId, (Class, Timestamp)>,
    pub(super) cursor: Cursor,
    /// The version up to which every change was seen, pushed ones included.
    pub(super) seen: u64,
    /// When a push last moved that on.
    pub(super) pushed: Timestamp,
    pub(super) seq: u64,
    pub(super) in_flight: bool,
    /// A batch without an answer, and when it was made: it is sent again as it is.
    pub(super) unanswered: Option<(Batch, Timestamp)>,
    /// The circuits seen since the group was read from its beginning, until it is read to its end.
    pub(super) listing: Option<HashSet<CircuitName>>,
    /// It is to be read from its beginning, whatever an answer says that is under way.
    pub(super) restarts: bool,
    /// The last circuit that a poll has asked for. The next one goes on behind it.
    pub(super) polled: NodeId,
    /// Circuits without a view.
    pub(super) unknown: BTreeSet<NodeId>,
    /// The version up to which the backend knows this replica's evidence to be complete.
    pub(super) acknowledged: u64,
    /// A roll call, or a gap in what was pushed, wants a batch.
    pub(super) due: Option<(Class, Timestamp)>,
    /// The last batch with an answer.
    pub(super) answered: Option<Timestamp>,
    pub(super) failing: Option<Failing>,
    /// Of the poll interval, drawn anew each time.
    pub(super) draw: u64,
}

/// A group without answers.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) since: Timestamp,
    pub(super) times: u32,
    pub(super) cause: String,
    pub(super) again: Timestamp,
    /// Its circuits are detached.
    pub(super) is_unreachable: bool,
}

impl GroupSync {
    /// When the group wants to be synced.
    pub(super) fn wants(&self, now: Timestamp, polls: Polls) -> Option<(Class, Timestamp)> {
        if self.in_flight || self.nodes.is_empty() && self.due.is_none() {
            return None;
        }
        if let Some(failing) = &self.failing {
            return Some((Class::Failures, failing.again));
        }
        let reports = self.reports.values().copied();
        let all = reports.chain(self.due).chain([self.poll(polls)]);
        let mut earliest: Option<(Class, Timestamp)> = None;
        let mut urgent: Option<Class> = None;
        for (class, due) in all {
            if due <= now {
                urgent = Some(urgent.map_or(class, |urgent| urgent.min(class)));
            }
            if earliest.is_none_or(|(_, first)| due < first) {
                earliest = Some((class, due));
            }
        }
        urgent.map(|class| (class, now)).or(earliest)
    }

    fn poll(&self, polls: Polls) -> (Class, Timestamp) {
        let interval = match polls {
            Polls::Plain => POLL_PLAIN,
            Polls::Active => POLL_ACTIVE,
            Polls::Unpushed => POLL_UNPUSHED,
        };
        let Some(answered) = self.answered else { return (Class::Probe, Timestamp::default()) };
        // From three quarters to five quarters of the interval.
        (Class::Poll, spread(answered.after(interval * 3 / 4), interval / 2, self.draw))
    }

    /// Wants a batch by then, if not earlier.
    pub(super) fn hurry(&mut self, class: Class, due: Timestamp) {
        self.due = Some(self.due.map_or((class, due), |(c, d)| (c.min(class), d.min(due))));
    }

    /// There was no answer to what was sent at `asked`.
    pub(super) fn failed(&mut self, cause: String, asked: Timestamp, now: Timestamp, draw: u64) {
        let (since, times, was) = match &self.failing {
            Some(failing) => (failing.since, failing.times + 1, failing.is_unreachable),
            None => (asked, 0, false),
        };
        let wait = (AGAIN * (1 << times.min(4))).min(LONGEST_AGAIN);
        let again = spread(asked.after(wait / 2), wait, draw).max(now);
        self.failing = Some(Failing { since, times, cause, again, is_unreachable: was });
    }

    /// Something may have been missed: the group is to be read from its beginning.
    pub(super) fn restart(&mut self, class: Class, due: Timestamp) {
        self.restarts = true;
        self.hurry(class, due);
    }

    /// Where the next batch begins to read.
    pub(super) fn begin(&mut self) -> Cursor {
        if std::mem::take(&mut self.restarts) {
            (self.cursor, self.seen, self.acknowledged) = (Cursor::default(), 0, 0);
            self.listing = None;
        }
        self.cursor
    }

    /// Moves on to where the answer ends to what was sent at `asked`.
    pub(super) fn advance(&mut self, changes: &Changes, asked: Timestamp) {
        if changes.restarted {
            (self.seen, self.acknowledged) = (0, 0);
            self.listing = Some(HashSet::new());
        } else if asked > self.pushed && !changes.more {
            // What was pushed before is in the answer, unless it was forged.
            self.seen = 0;
        }
        self.cursor = changes.cursor;
        self.seen = self.seen.max(changes.cursor.version);
    }

    /// Takes note of a push. Returns whether something before it was missed.
    pub(super) fn push(&mut self, (previous, version): (u64, u64), now: Timestamp) -> bool {
        let next = self.seen == previous;
        if next {
            (self.seen, self.pushed) = (version, now);
        }
        !next && version > self.seen
    }
}
