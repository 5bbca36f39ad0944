//! Who sees every operation at the ledger, in its order, and knows what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tower_breaker::backend::{Delta, Lease, Move, OpenTerms, Probed, RecordState, Report, View};
use tower_breaker::event::Reason;

use super::now;

/// What has happened at the ledger, and what was wrong about it.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) wrong: Vec<String>,
    /// The last view; `None` once the ledger has forgotten.
    last: Option<View>,
    rounds: BTreeMap<u64, Round>,
    /// By nonce, those that are out as far as anybody at the ledger can know.
    leases: BTreeMap<u64, Out>,
    /// The generation that the last proposal was to close.
    proposed: Option<u64>,
    /// What each report of each replica said.
    reports: BTreeMap<(String, u64), (u64, Delta)>,
    /// Which of them the ledger has seen since it forgot.
    arrived: BTreeSet<(String, u64)>,
    /// What it was told in each generation, every report once.
    told: BTreeMap<u64, Delta>,
    /// Calls that each start of a replica has let pass while it was closed; and how many those were
    /// when a generation began.
    made: BTreeMap<String, u64>,
    began: BTreeMap<u64, BTreeMap<String, u64>>,
    /// How many calls each start of a replica has told of, in each generation, every report once.
    told_by: BTreeMap<(String, u64), u64>,
    /// Good probes that counted, by start of a replica.
    pub(crate) passed: BTreeMap<u64, u64>,
    pub(crate) stats: Stats,
}

/// What the schedules have been through: a simulation in which nothing happens shows nothing.
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
    pub(crate) fn wrong(&mut self, what: String) {
        // The first ones tell most.
        if self.wrong.len() < 8 {
            self.wrong.push(what);
        }
    }

    /// The ledger's round that a replica is in, and what its probes obey. A replica that has gone on
    /// alone meanwhile has counted on, so its own generation may be ahead of the round's.
    pub(crate) fn round(&self, generation: u64) -> Option<(u64, OpenTerms)> {
        let (generation, round) = self.rounds.range(..=generation).next_back()?;
        Some((*generation, round.terms))
    }

    /// How many leases of a round this start of a replica has out, or had until a while ago.
    pub(crate) fn leases_of(&self, start: u64, generation: u64, ago: Duration) -> usize {
        let now = now();
        let live = |out: &&Out| {
            out.start == start && out.generation == generation && out.expires + ago > now
        };
        self.leases.values().filter(live).count()
    }

    /// The ledger is empty from here on.
    pub(crate) fn forgot(&mut self) {
        self.last = None;
        self.rounds.clear();
        self.leases.clear();
        self.told.clear();
        self.arrived.clear();
    }

    /// This start of a replica lets a call pass, and is closed.
    pub(crate) fn made(&mut self, start: &str) {
        match self.made.get_mut(start) {
            Some(made) => *made += 1,
            None => drop(self.made.insert(start.to_owned(), 1)),
        }
    }

    /// What has been told of a generation was let pass in it: evidence of an earlier one is void.
    fn told_more(&mut self, report: &Report) {
        let start = report.replica.split('#').next().unwrap_or_default();
        let told = self.told_by.entry((start.to_owned(), report.generation)).or_default();
        *told += report.delta.calls;
        let before = self.began.get(&report.generation).and_then(|made| made.get(start));
        let made = self.made.get(start).copied().unwrap_or_default();
        let most = made - before.copied().unwrap_or_default();
        if *told > most {
            let told = *told;
            self.wrong(format!("{start} has told of {told} calls, and made {most}"));
        }
    }

    pub(crate) fn saw(&mut self, view: &View) {
        // The first one has always been.
        if view.generation > View::FIRST {
            let made = &self.made;
            self.began.entry(view.generation).or_insert_with(|| made.clone());
        }
        let rank = |view: &View| (view.generation, view.revision, view.overridden.version);
        if let Some(last) = self.last.take() {
            let (before, after) = (rank(&last), rank(view));
            if before.0 > after.0
                || before.2 > after.2
                || (before.0 == after.0 && before.1 > after.1)
            {
                self.wrong(format!("the ledger went back from {before:?} to {after:?}"));
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
                self.wrong(format!("{out} leases out, {granted} granted, of {}", terms.probes));
            }
        }
        self.last = Some(view.clone());
    }

    /// A replica proposes to close: it has probed alone, while the ledger was lost to it. To be called
    /// before [`saw`](Self::saw).
    pub(crate) fn proposed(&mut self, from: u64, to: Move) {
        self.proposed = matches!(to, Move::Closed { .. }).then_some(from);
    }

    /// The ledger has moved on.
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
            self.wrong(format!("closed after a round like this: {round}"));
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
                    self.wrong(format!("a failed probe did not end its round: {view:?}"));
                }
            }
            Probed::Released => {}
        }
    }

    pub(crate) fn reported(&mut self, report: &Report, view: &View) {
        if report.seq > 0 {
            let key = (report.replica.clone(), report.seq);
            let said = (report.generation, report.delta);
            match self.reports.insert(key.clone(), said) {
                Some(before) if before != said => {
                    self.wrong(format!("one number, two reports: {before:?}, {said:?}"));
                }
                Some(_) => self.stats.resent += 1,
                None => self.told_more(report),
            }
            if self.arrived.insert(key) {
                let told = self.told.entry(report.generation).or_default();
                told.calls += report.delta.calls;
                told.failures += report.delta.failures;
                told.slow_calls += report.delta.slow_calls;
                told.streak += report.delta.streak;
            }
        }
        if view.state != RecordState::Closed || view.generation != report.generation {
            return;
        }
        let told = self.told.get(&view.generation).copied().unwrap_or_default();
        let tally = view.tally;
        if tally.calls > told.calls
            || tally.failures > told.failures
            || tally.slow_calls > told.slow_calls
            || tally.consecutive_failures > told.streak
        {
            self.wrong(format!("counted {tally:?}, told {told:?}"));
        }
        let shares: u64 = view.shares.iter().map(|share| share.failures).sum();
        if report.shares && shares > told.failures {
            self.wrong(format!("shares of {shares} failures, told {told:?}"));
        }
    }
}
