//! The true order of the ends of all calls in a cluster, which no replica knows, and whether it
//! bears out what opens circuits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tower_breaker::Policy;
use tower_breaker::event::{Reason, Tally};
use tower_breaker::policy::Window;

use super::{now, s};

/// How far back the order goes: longer than any window.
const KEPT: Duration = s(90);

/// A call that a closed circuit has counted.
#[derive(Clone, Copy, Debug)]
struct End {
    at: Instant,
    failed: bool,
    /// The window of its replica. Calls in different windows are counted apart.
    window: Option<Window>,
}

/// How much the order proves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Proof {
    /// Messages are dropped, and replicas cut off: what opens a circuit has happened, but perhaps
    /// successes between have not arrived.
    #[default]
    Failures,
    /// Nothing but delays: the condition held at some moment, no longer ago than this.
    Condition { lag: Duration },
}

/// The order of all calls that closed circuits have counted.
#[derive(Debug, Default)]
pub(crate) struct Order {
    proof: Proof,
    ends: VecDeque<End>,
    /// When the record was closed for the last time: what was before is paid for.
    closed: Option<Instant>,
    policies: BTreeMap<u64, Policy>,
    /// What the own evidence of each start of a replica has opened its circuit by.
    own: BTreeMap<u64, (Reason, Tally)>,
    /// Proposals by a replica's own evidence, and by totals.
    pub(crate) opened_by_own: u64,
    pub(crate) opened_by_totals: u64,
}

impl Order {
    pub(crate) fn set_proof(&mut self, proof: Proof) {
        self.proof = proof;
    }

    /// A replica starts, with this policy.
    pub(crate) fn starts(&mut self, start: u64, policy: Policy) {
        self.policies.insert(start, policy);
    }

    /// A call of this start of a replica has ended now.
    pub(crate) fn ended(&mut self, start: u64, failed: bool) {
        let at = now();
        let window = self.policies.get(&start).map(Policy::window);
        self.ends.push_back(End { at, failed, window });
        while self.ends.front().is_some_and(|end| end.at + KEPT < at) {
            self.ends.pop_front();
        }
    }

    /// A replica's own evidence has opened its circuit.
    pub(crate) fn opened(&mut self, start: u64, reason: Reason, tally: Tally) {
        self.own.insert(start, (reason, tally));
    }

    /// The record was closed.
    pub(crate) fn closed(&mut self) {
        self.closed = Some(now());
    }

    /// A replica proposes to open the circuit. Returns what is wrong with that, if anything is.
    pub(crate) fn opens(&mut self, start: u64, reason: Reason, tally: Tally) -> Option<String> {
        if self.own.get(&start) == Some(&(reason, tally)) {
            self.opened_by_own += 1;
            return None;
        }
        let policy = self.policies.get(&start)?.clone();
        let held = match (reason, self.proof) {
            (Reason::ConsecutiveFailures, Proof::Condition { lag }) => {
                self.held_in_a_row(policy.consecutive_failures()?, lag)
            }
            (Reason::FailureRate | Reason::FailureCount, Proof::Condition { lag }) => {
                self.held_in_window(&policy, lag)
            }
            (
                Reason::ConsecutiveFailures | Reason::FailureRate | Reason::FailureCount,
                Proof::Failures,
            ) => {
                let least = match reason {
                    Reason::ConsecutiveFailures => policy.consecutive_failures()?,
                    _ => tally.failures,
                };
                self.failures_since(now() - KEPT) >= least
            }
            _ => return None,
        };
        self.opened_by_totals += 1;
        let proof = self.proof;
        (!held)
            .then(|| format!("{start} opens by {reason:?}, {tally:?}, which never held: {proof:?}"))
    }

    /// The ends that count, oldest first.
    fn counted(&self) -> impl Iterator<Item = &End> {
        let closed = self.closed;
        self.ends.iter().filter(move |end| closed.is_none_or(|closed| end.at >= closed))
    }

    fn failures_since(&self, since: Instant) -> u64 {
        self.counted().filter(|end| end.failed && end.at >= since).count() as u64
    }

    /// Whether at some moment within the lag the last `least` calls had failed. Calls that ended at
    /// the same moment have any order.
    fn held_in_a_row(&self, least: u64, lag: Duration) -> bool {
        let from = now() - lag;
        let ends: Vec<_> = self.counted().collect();
        let mut run: Vec<Instant> = Vec::new();
        for (at, end) in ends.iter().enumerate() {
            if end.failed {
                run.push(end.at);
                let lasts = ends[at..].iter().find(|next| !next.failed && next.at > end.at);
                let until = lasts.map(|next| next.at);
                if run.len() as u64 >= least && until.is_none_or(|until| until >= from) {
                    return true;
                }
            } else {
                // Failures at the same moment may have come after the success.
                run.retain(|failed| *failed == end.at);
            }
        }
        false
    }

    /// Whether at some moment within the lag the window had enough failures, give or take a bucket.
    fn held_in_window(&self, policy: &Policy, lag: Duration) -> bool {
        let Window::Time { length, buckets } = policy.window() else { return false };
        let bucket = length / buckets;
        let from = now() - lag;
        let ends: Vec<_> =
            self.counted().filter(|end| end.window == Some(policy.window())).collect();
        // The failures among the first calls, for each number of them.
        let failures: Vec<u64> = std::iter::once(0)
            .chain(ends.iter().scan(0, |sum, end| {
                *sum += u64::from(end.failed);
                Some(*sum)
            }))
            .collect();
        let before = |at: Instant| {
            let calls = ends.partition_point(|end| end.at <= at);
            (failures[calls], calls as u64)
        };
        let moments = ends.iter().map(|end| end.at).filter(|at| *at >= from).chain([from, now()]);
        moments.into_iter().any(|moment| {
            [length.saturating_sub(bucket), length, length + bucket].into_iter().any(|window| {
                let (now, then) = (before(moment), before(moment - window));
                let (failures, calls) = (now.0 - then.0, now.1 - then.1);
                meets(policy, failures, calls)
            })
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are few calls")]
fn meets(policy: &Policy, failures: u64, calls: u64) -> bool {
    let rate = policy.failure_rate().is_some_and(|rate| {
        calls >= policy.minimum_calls() && failures as f64 >= rate * calls as f64
    });
    rate || policy.failure_count().is_some_and(|count| failures >= count)
}
