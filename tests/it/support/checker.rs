//! Checks every operation on the backend, in order, against what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tower_breaker::backend::{Delta, Lease, Move, OpenTerms, Probed, RecordState, Report, View};
use tower_breaker::event::Reason;

use super::now;

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
    /// The content of each report of each replica.
    reports: BTreeMap<(String, u64), (u64, Delta)>,
    /// Which reports have arrived since the backend was emptied.
    arrived: BTreeSet<(String, u64)>,
    /// What was reported in each generation, every report once.
    reported: BTreeMap<u64, Delta>,
    /// Calls that each start of a replica admitted while it was closed, and how many those were
    /// when a generation began.
    admitted: BTreeMap<String, u64>,
    began: BTreeMap<u64, BTreeMap<String, u64>>,
    /// How many calls each start of a replica reported in each generation, every report once.
    reported_by: BTreeMap<(String, u64), u64>,
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
}

impl Stats {
    pub(crate) fn add(&mut self, other: Self) {
        self.trips += other.trips;
        self.rounds += other.rounds;
        self.reopened += other.reopened;
        self.closed += other.closed;
        self.restored += other.restored;
        self.resent += other.resent;
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
    pub(crate) fn admitted(&mut self, start: &str) {
        match self.admitted.get_mut(start) {
            Some(admitted) => *admitted += 1,
            None => drop(self.admitted.insert(start.to_owned(), 1)),
        }
    }

    /// A replica may report as many calls of a generation as it admitted in it: evidence of an
    /// earlier one is void.
    fn reported_more(&mut self, report: &Report) {
        let start = report.replica.split('#').next().unwrap_or_default();
        let reported = self.reported_by.entry((start.to_owned(), report.generation)).or_default();
        *reported += report.delta.calls;
        let before = self.began.get(&report.generation).and_then(|admitted| admitted.get(start));
        let admitted = self.admitted.get(start).copied().unwrap_or_default();
        let most = admitted - before.copied().unwrap_or_default();
        if *reported > most {
            let reported = *reported;
            self.violation(format!("{start} reported {reported} calls and admitted {most}"));
        }
    }

    pub(crate) fn saw(&mut self, view: &View) {
        // The first generation has no beginning.
        if view.generation > View::FIRST {
            let admitted = &self.admitted;
            self.began.entry(view.generation).or_insert_with(|| admitted.clone());
        }
        let rank = |view: &View| (view.generation, view.revision, view.overridden.version);
        if let Some(last) = self.last.take() {
            let (before, after) = (rank(&last), rank(view));
            if before.0 > after.0
                || before.2 > after.2
                || (before.0 == after.0 && before.1 > after.1)
            {
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

    /// A replica proposes to close the circuit, as it probed while it was detached. To be called
    /// before [`saw`](Self::saw).
    pub(crate) fn proposed(&mut self, from: u64, to: Move) {
        self.proposed = matches!(to, Move::Closed { .. }).then_some(from);
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
    pub(crate) fn settled(&mut self, start: u64, lease: Lease, probed: Probed, view: &View) {
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

    pub(crate) fn reported(&mut self, report: &Report, view: &View) {
        if report.seq > 0 {
            let key = (report.replica.clone(), report.seq);
            let content = (report.generation, report.delta);
            match self.reports.insert(key.clone(), content) {
                Some(before) if before != content => {
                    self.violation(format!("one number, two reports: {before:?}, {content:?}"));
                }
                Some(_) => self.stats.resent += 1,
                None => self.reported_more(report),
            }
            if self.arrived.insert(key) {
                let reported = self.reported.entry(report.generation).or_default();
                reported.calls += report.delta.calls;
                reported.failures += report.delta.failures;
                reported.slow_calls += report.delta.slow_calls;
                reported.streak += report.delta.streak;
            }
        }
        if view.state != RecordState::Closed || view.generation != report.generation {
            return;
        }
        let reported = self.reported.get(&view.generation).copied().unwrap_or_default();
        let tally = view.tally;
        if tally.calls > reported.calls
            || tally.failures > reported.failures
            || tally.slow_calls > reported.slow_calls
            || tally.consecutive_failures > reported.streak
        {
            self.violation(format!("counted {tally:?}, reported {reported:?}"));
        }
        let shares: u64 = view.shares.iter().map(|share| share.failures).sum();
        if report.shares && shares > reported.failures {
            self.violation(format!("shares of {shares} failures, reported {reported:?}"));
        }
    }
}
