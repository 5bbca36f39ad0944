//! What has truly happened, which no part of the cluster knows.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backend::{OverrideChange, View};
use crate::timestamp::Timestamp;

/// The true order of everything, since the beginning.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The results of calls that were recorded while closed, in their order.
    pub(super) results: Vec<Recorded>,
    /// Generations that the backend has begun, and versions of overrides that it has given.
    pub(super) generations: BTreeSet<u64>,
    pub(super) versions: BTreeSet<u64>,
    /// Half-open generations of which a failed probe has reached the backend.
    pub(super) failed: BTreeSet<u64>,
    /// The backend has lost something.
    pub(super) lost: bool,
    /// Its clock has jumped.
    pub(super) jumped: bool,
    pub(super) crashed: bool,
    /// The newest answer that each replica has heard.
    pub(super) heard: Vec<Option<Heard>>,
    /// When each replica last followed something forged.
    pub(super) forged: Vec<Option<Timestamp>>,
    pub(super) issued: Vec<Issued>,
    /// For the old rules: the end of the open interval of a generation.
    pub(super) until: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) replica: usize,
    pub(super) generation: u64,
    pub(super) at: Timestamp,
    pub(super) failed: bool,
}

/// An answer, in the order in which the backend executed.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) order: u64,
    pub(super) view: View,
    pub(super) at: Timestamp,
    /// The largest rank heard so far.
    pub(super) highest: (u64, u64),
}

/// A change of the override by an operator.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) replica: usize,
    pub(super) start: u32,
    pub(super) change: OverrideChange,
    pub(super) executed: bool,
    /// What the operator got as an answer.
    pub(super) result: Option<Result<(), String>>,
}

impl Recorded {
    /// Where there is no record, what was counted goes on in the first generation.
    fn counts_in(&self, generation: u64) -> bool {
        generation == self.generation || generation == View::FIRST
    }
}

impl History {
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            results: Vec::new(),
            generations: BTreeSet::from([View::FIRST]),
            versions: BTreeSet::from([0]),
            failed: BTreeSet::new(),
            lost: false,
            jumped: false,
            crashed: false,
            heard: vec![None; replicas],
            forged: vec![None; replicas],
            issued: Vec::new(),
            until: None,
        }
    }

    /// The most consecutive failures there have been in a generation, in the true order. What was
    /// under way for a while seems to be later by that: failures count that are older than a
    /// success by no more than `lag`.
    pub(super) fn longest_streak(&self, generation: u64, lag: Duration) -> u64 {
        let of: Vec<&Recorded> =
            self.results.iter().filter(|result| result.counts_in(generation)).collect();
        let streak = |until: usize| {
            let past = &of[..=until];
            let success = past.iter().rfind(|result| !result.failed).map(|result| result.at);
            let counts = |result: &&&Recorded| {
                result.failed && success.is_none_or(|at| result.at.after(lag) > at)
            };
            past.iter().filter(counts).count() as u64
        };
        (0..of.len()).map(streak).max().unwrap_or_default()
    }

    /// The failures in a generation that are not too old to count.
    pub(super) fn failures(&self, generation: u64, since: Timestamp) -> u64 {
        let counts = |result: &&Recorded| {
            result.counts_in(generation) && result.failed && result.at >= since
        };
        self.results.iter().filter(counts).count() as u64
    }

    /// How many replicas have failed in a generation.
    pub(super) fn failing(&self, generation: u64) -> u64 {
        let failed = self.results.iter().filter(|r| r.failed && r.counts_in(generation));
        failed.map(|result| result.replica).collect::<BTreeSet<_>>().len() as u64
    }

    pub(super) fn hear(&mut self, replica: usize, order: u64, view: &View, at: Timestamp) {
        let known = self.heard[replica].take();
        let highest = known.as_ref().map_or((0, 0), |heard| heard.highest).max(view.rank());
        let view = view.clone();
        self.heard[replica] = Some(match known {
            Some(known) if known.order > order => Heard { highest, ..known },
            _ => Heard { order, view, at, highest },
        });
    }
}
