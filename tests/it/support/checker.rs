//! Checks every operation on the backend, in order, against what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tower_breaker::backend::{
    Batch, Changes, Lease, Move, OpenTerms, Probed, RecordState, Report, View,
};
use tower_breaker::event::Reason;

use super::now;
use super::order::Order;

/// The history of the backend, and its violations of what must never happen.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violations: Vec<String>,
    /// The last view; `None` once the backend was emptied.
    last: Option<View>,
    rounds: BTreeMap<u64, Round>,
    /// The leases that are out, by nonce, as far as the backend can know.
    leases: BTreeMap<u64, Out>,
    /// The generation that the last proposal would close.
    proposed: Option<u64>,
    /// The content of each batch of each start of a replica, when it arrived for the first time.
    batches: BTreeMap<(u64, u64), (u64, Sum)>,
    /// Which batches have arrived since the backend was emptied.
    arrived: BTreeSet<(u64, u64)>,
    /// What was reported in each generation, every batch once.
    reported: BTreeMap<u64, Sum>,
    /// Calls that each start of a replica admitted while it was closed, and how many those were
    /// when a generation began.
    admitted: BTreeMap<u64, u64>,
    began: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// How many calls each start of a replica reported in each generation, every batch once.
    reported_by: BTreeMap<(u64, u64), u64>,
    /// The true order of the ends of all calls, and what opened circuits.
    pub(crate) order: Order,
    /// Successful probes that counted, by start of a replica.
    pub(crate) passed: BTreeMap<u64, u64>,
    pub(crate) stats: Stats,
}

/// What happened in the schedules. A simulation in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) trips: u64,
    pub(crate) rounds: u64,
    pub(crate) reopened: u64,
    pub(crate) closed: u64,
    pub(crate) restored: u64,
    pub(crate) resent: u64,
    /// Proposals to open by a replica's own evidence, and by totals.
    pub(crate) opened_by_own: u64,
    pub(crate) opened_by_totals: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: Self) {
        self.trips += other.trips;
        self.rounds += other.rounds;
        self.reopened += other.reopened;
        self.closed += other.closed;
        self.restored += other.restored;
        self.resent += other.resent;
        self.opened_by_own += other.opened_by_own;
        self.opened_by_totals += other.opened_by_totals;
    }
}

/// What a report adds up to, whatever its ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    calls: u64,
    failures: u64,
    slow_calls: u64,
    streak: u64,
}

impl Sum {
    fn of(report: &Report) -> Self {
        let mut sum = Self::default();
        for count in &report.counts {
            sum.calls += count.calls;
            sum.failures += count.failures;
            sum.slow_calls += count.slow_calls;
        }
        sum.streak = report.failures.iter().map(|failures| failures.number).sum();
        sum
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow_calls += other.slow_calls;
        self.streak += other.streak;
    }

    fn is_at_most(&self, most: Self) -> bool {
        self.calls <= most.calls
            && self.failures <= most.failures
            && self.slow_calls <= most.slow_calls
            && self.streak <= most.streak
    }
}

/// A lease that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    start: u64,
    generation: u64,
    expires: Instant,
}

#[derive(Debug)]
struct Round {
    terms: OpenTerms,
    passed: u64,
    failed: bool,
}

impl Checker {
    pub(crate) fn violation(&mut self, what: String) {
        // The first ones say most.
        if self.violations.len() < 8 {
            self.violations.push(what);
        }
    }

    /// The round of the backend that a replica is in, and its terms. The generation of a replica
    /// that was detached meanwhile may be ahead of the round's.
    pub(crate) fn round(&self, generation: u64) -> Option<(u64, OpenTerms)> {
        let (generation, round) = self.rounds.range(..=generation).next_back()?;
        Some((*generation, round.terms))
    }

    /// How many leases of a round this start of a replica holds, or held until `ago`.
    pub(crate) fn leases_of(&self, start: u64, generation: u64, ago: Duration) -> usize {
        let now = now();
        let live = |out: &&Out| {
            out.start == start && out.generation == generation && out.expires + ago > now
        };
        self.leases.values().filter(live).count()
    }

    /// The backend is empty from here on.
    pub(crate) fn emptied(&mut self) {
        self.last = None;
        self.rounds.clear();
        self.leases.clear();
        self.reported.clear();
        self.arrived.clear();
    }

    /// This start of a replica admits a call, and is closed.
    pub(crate) fn admitted(&mut self, start: u64) {
        *self.admitted.entry(start).or_default() += 1;
    }

    /// A replica may report as many calls of a generation as it admitted in it: evidence of an
    /// earlier one is void.
    fn reported_more(&mut self, start: u64, generation: u64, sum: Sum) {
        let reported = self.reported_by.entry((start, generation)).or_default();
        *reported += sum.calls;
        let before = self.began.get(&generation).and_then(|admitted| admitted.get(&start));
        // Only the simulation counts what is admitted.
        let Some(&admitted) = self.admitted.get(&start) else { return };
        let most = admitted - before.copied().unwrap_or_default();
        if *reported > most {
            let reported = *reported;
            self.violation(format!("{start} reported {reported} calls and admitted {most}"));
        }
    }

    pub(crate) fn saw(&mut self, view: &View) {
        // The first generation has no beginning, and one that is restored has begun before.
        if view.generation > View::FIRST && !self.began.contains_key(&view.generation) {
            self.began.insert(view.generation, self.admitted.clone());
            if view.state == RecordState::Closed {
                self.order.closed();
            }
        }
        let rank = |view: &View| (view.generation, view.revision, view.overridden.version);
        if let Some(last) = self.last.take() {
            let (before, after) = (rank(&last), rank(view));
            // The record of a closed circuit may expire, and the next report make a new one.
            let expired = last.state == RecordState::Closed && after.0 == View::FIRST;
            let back = before.0 > after.0 || before.0 == after.0 && before.1 > after.1;
            if before.2 > after.2 || back && !expired {
                self.violation(format!("the backend went back from {before:?} to {after:?}"));
            }
            if before.0 < after.0 {
                self.moved(&last, view);
            }
        }
        if let RecordState::HalfOpen { terms, out, .. } = view.state {
            let new = Round { terms, passed: 0, failed: false };
            self.rounds.entry(view.generation).or_insert(new);
            let now = now();
            let live = |out: &&Out| out.generation == view.generation && out.expires > now;
            let granted = self.leases.values().filter(live).count() as u64;
            if out > terms.probes || granted > terms.probes {
                self.violation(format!("{out} leases out, {granted} granted, of {}", terms.probes));
            }
        }
        self.last = Some(view.clone());
    }

    /// A replica proposes a transition: to close the circuit, as it probed while it was detached,
    /// or to open it. To be called before [`saw`](Self::saw).
    pub(crate) fn proposed(&mut self, start: u64, from: u64, to: &Move) {
        self.proposed = matches!(to, Move::Closed { .. }).then_some(from);
        if let Move::Open { reason, tally, .. } = to
            && self.last.as_ref().is_none_or(|last| last.generation == from)
        {
            let wrong = self.order.opens(start, *reason, *tally);
            if let Some(wrong) = wrong {
                self.violation(wrong);
            }
        }
    }

    /// The backend is in a new generation.
    fn moved(&mut self, from: &View, to: &View) {
        match (to.state, to.reason) {
            (RecordState::Closed, Some(Reason::ProbesSucceeded)) => self.stats.closed += 1,
            (
                RecordState::Open { .. },
                Some(Reason::ProbeFailed | Reason::ProbeSlow | Reason::ProbeExpired),
            ) => {
                self.stats.reopened += 1;
            }
            (RecordState::Open { .. }, _) => self.stats.trips += 1,
            (RecordState::HalfOpen { .. }, _) => self.stats.rounds += 1,
            _ => {}
        }
        let (RecordState::HalfOpen { terms, .. }, RecordState::Closed) = (from.state, to.state)
        else {
            return;
        };
        let Some(round) = self.rounds.get(&from.generation) else { return };
        let by_probes = to.reason == Some(Reason::ProbesSucceeded);
        let enough =
            round.passed >= terms.successes_to_close || self.proposed == Some(from.generation);
        if by_probes && (round.failed || !enough) {
            let round = format!("{round:?}");
            self.violation(format!("closed after a round like this: {round}"));
        }
    }

    /// To be called before [`saw`](Self::saw).
    pub(crate) fn granted(&mut self, start: u64, lease: Option<Lease>) {
        if let Some(Lease { generation, nonce, remaining, .. }) = lease {
            let expires = now() + remaining;
            self.leases.insert(nonce, Out { start, generation, expires });
        }
    }

    /// To be called before [`saw`](Self::saw).
    pub(crate) fn settled(&mut self, start: u64, lease: Lease, probed: &Probed, view: &View) {
        let now = now();
        let current = self.last.as_ref().is_some_and(|last| last.generation == lease.generation);
        let Some(out) = self.leases.remove(&lease.nonce) else { return };
        let Out { generation, expires, .. } = out;
        if !current || generation != lease.generation || expires <= now {
            return;
        }
        let Some(round) = self.rounds.get_mut(&generation) else { return };
        match probed {
            Probed::Passed => {
                round.passed += 1;
                *self.passed.entry(start).or_default() += 1;
            }
            Probed::Failed { .. } => {
                round.failed = true;
                if view.generation == generation || view.state == RecordState::Closed {
                    self.violation(format!("a failed probe did not end its round: {view:?}"));
                }
            }
            Probed::Released => {}
        }
    }

    pub(crate) fn reported(&mut self, start: u64, batch: &Batch, changes: &Changes) {
        let [report] = &batch.reports[..] else { return };
        let sum = Sum::of(report);
        let key = (start, batch.seq);
        if let Some(&(generation, before)) = self.batches.get(&key) {
            // What is too old by now is left out.
            if generation != report.generation || !sum.is_at_most(before) {
                self.violation(format!("one number, two reports: {before:?}, {report:?}"));
            }
            self.stats.resent += 1;
        } else {
            self.batches.insert(key, (report.generation, sum));
            self.reported_more(start, report.generation, sum);
        }
        if self.arrived.insert(key) {
            self.reported.entry(report.generation).or_default().add(sum);
        }
        let Some((_, view)) = changes.views.iter().find(|(name, _)| *name == report.circuit) else {
            return self.violation(format!("no view of what was reported: {changes:?}"));
        };
        if view.state != RecordState::Closed || view.generation != report.generation {
            return;
        }
        let reported = self.reported.get(&view.generation).copied().unwrap_or_default();
        let tally = view.tally;
        let counted = Sum {
            calls: tally.calls,
            failures: tally.failures,
            slow_calls: tally.slow_calls,
            streak: tally.consecutive_failures,
        };
        if !counted.is_at_most(reported) {
            self.violation(format!("counted {tally:?}, reported {reported:?}"));
        }
        let shares: u64 = view.shares.iter().map(|share| share.failures).sum();
        if shares > reported.failures {
            self.violation(format!("shares of {shares} failures, reported {reported:?}"));
        }
    }
}
