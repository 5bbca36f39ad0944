//! What has truly happened, which no part of the cluster knows.

use std::collections::BTreeSet;

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

    /// The most consecutive failures there have been in a generation, in the true order.
    pub(super) fn longest_streak(&self, generation: u64) -> u64 {
        let mut streak = 0;
        let of = |result: &&Recorded| result.generation == generation;
        self.results.iter().filter(of).fold(0, |longest: u64, result| {
            streak = if result.failed { streak + 1 } else { 0 };
            longest.max(streak)
        })
    }

    /// The failures in a generation that are not too old to count.
    pub(super) fn failures(&self, generation: u64, since: Timestamp) -> u64 {
        let counts = |result: &&Recorded| {
            result.generation == generation && result.failed && result.at >= since
        };
        self.results.iter().filter(counts).count() as u64
    }

    /// How many replicas have failed in a generation.
    pub(super) fn failing(&self, generation: u64) -> u64 {
        let failed = self.results.iter().filter(|r| r.failed && r.generation == generation);
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
