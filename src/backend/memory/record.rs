//! What the backend in memory stores for a circuit. Times are in milliseconds of its clock.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::backend::{
    Geometry, Lease, OpenTerms, Overridden, OverrideRecord, Probed, RecordState, Report, View,
};
use crate::machine::{Reason, Tally};

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) generation: u64,
    pub(super) revision: u64,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    /// What had been counted when it opened.
    pub(super) tally: Tally,
    pub(super) streak: u64,
    /// How many streaks have ended: a replica's share of an earlier one is void.
    pub(super) streaks: u64,
    pub(super) windows: HashMap<Geometry, Ring>,
    pub(super) replicas: BTreeMap<String, Reporter>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Closed,
    Open { terms: OpenTerms, until: u64 },
    HalfOpen { terms: OpenTerms, passed: u64, leases: BTreeMap<u64, u64> },
}

/// What one replica has reported in one generation.
#[derive(Clone, Debug, Default)]
pub(super) struct Reporter {
    pub(super) seq: u64,
    pub(super) vote_until: u64,
    pub(super) streak: u64,
    pub(super) streaks: u64,
    pub(super) windows: HashMap<Geometry, Ring>,
}

/// Totals over the last buckets of a window.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    pub(super) buckets: BTreeMap<u64, [u64; 3]>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct StoredOverride {
    pub(super) version: u64,
    pub(super) record: Option<OverrideRecord>,
    pub(super) until: Option<u64>,
}

impl Record {
    pub(super) fn first() -> Self {
        Self {
            generation: View::FIRST,
            revision: 1,
            state: State::Closed,
            reason: None,
            tally: Tally::default(),
            streak: 0,
            streaks: 0,
            windows: HashMap::new(),
            replicas: BTreeMap::new(),
        }
    }

    pub(super) fn next(&self, state: State, reason: Reason, tally: Tally, now: u64) -> Self {
        let generation = (self.generation + 1).max(now);
        let streak = tally.consecutive_failures;
        Self { generation, state, reason: Some(reason), tally, streak, ..Self::first() }
    }

    pub(super) fn restored(view: &View, now: u64) -> Self {
        let state = match view.state {
            RecordState::Closed => State::Closed,
            RecordState::Open { terms, remaining } => {
                let until = now + millis(remaining.min(terms.interval));
                State::Open { terms: usable(terms), until }
            }
            RecordState::HalfOpen { terms, .. } => State::Open { terms: usable(terms), until: now },
        };
        let open = !matches!(state, State::Closed);
        let tally = if open { view.tally } else { Tally::default() };
        Self {
            generation: view.generation,
            revision: view.revision + 1,
            state,
            reason: view.reason,
            tally,
            streak: tally.consecutive_failures,
            ..Self::first()
        }
    }

    pub(super) fn rank(&self) -> (u64, u64) {
        (self.generation, self.revision)
    }

    pub(super) fn report(&mut self, report: &Report, now: u64) -> (Tally, Vec<Tally>) {
        if report.generation != self.generation || !matches!(self.state, State::Closed) {
            return (Tally::default(), Vec::new());
        }
        let reporter = self.replicas.entry(report.replica.clone()).or_default();
        if report.seq > reporter.seq {
            let delta = report.delta;
            reporter.seq = report.seq;
            reporter.vote_until = report.vote.map_or(0, |vote| now + millis(vote));
            if delta.streak > 0 {
                self.streak += delta.streak;
                if reporter.streaks != self.streaks {
                    (reporter.streak, reporter.streaks) = (0, self.streaks);
                }
                reporter.streak += delta.streak;
            } else if delta.succeeded {
                self.streak = 0;
                self.streaks += 1;
            }
            if let Some(window) = report.window {
                let counted = [delta.calls, delta.failures, delta.slow_calls];
                self.windows.entry(window).or_default().add(window, counted, now);
                if report.shares {
                    reporter.windows.entry(window).or_default().add(window, counted, now);
                }
            }
        }
        let total = |windows: &mut HashMap<Geometry, Ring>, streak| {
            let ring = report.window.and_then(|window| Some((window, windows.get_mut(&window)?)));
            let [calls, failures, slow_calls] =
                ring.map(|(window, ring)| ring.total(window, now)).unwrap_or_default();
            Tally { calls, failures, slow_calls, consecutive_failures: streak, ..Tally::default() }
        };
        let tally = total(&mut self.windows, self.streak);
        let mut shares = Vec::new();
        if report.shares {
            for replica in self.replicas.values_mut() {
                let streak = if replica.streaks == self.streaks { replica.streak } else { 0 };
                shares.push(total(&mut replica.windows, streak));
            }
        }
        (tally, shares)
    }

    /// Returns the lease that was already granted to this nonce.
    pub(super) fn lease(&self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { leases, .. } = &self.state else { return None };
        let expires = leases.get(&nonce).filter(|expires| **expires > now)?;
        let remaining = Duration::from_millis(expires - now);
        Some(Lease { generation: self.generation, nonce, remaining })
    }

    pub(super) fn acquire(&mut self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { terms, leases, .. } = &mut self.state else { return None };
        leases.retain(|_, expires| *expires > now);
        if leases.len() as u64 >= terms.probes {
            return None;
        }
        leases.insert(nonce, now + millis(terms.lease));
        self.revision += 1;
        self.lease(nonce, now)
    }

    /// Returns false if the lease is over.
    pub(super) fn settle(&mut self, lease: Lease, result: Probed, now: u64) -> bool {
        let State::HalfOpen { terms, passed, leases } = &mut self.state else { return false };
        let out = leases.get(&lease.nonce).is_some_and(|expires| *expires > now);
        if self.generation != lease.generation || !out {
            return false;
        }
        leases.remove(&lease.nonce);
        match result {
            Probed::Passed if *passed + 1 >= terms.successes_to_close => {
                *self = self.next(State::Closed, Reason::ProbesSucceeded, Tally::default(), now);
            }
            Probed::Failed { terms, reason } => {
                *self = self.next(open(terms, now), reason, Tally::default(), now);
            }
            Probed::Passed => {
                *passed += 1;
                self.revision += 1;
            }
            Probed::Released => self.revision += 1,
        }
        true
    }
}

impl State {
    pub(super) fn record_state(&self, now: u64) -> RecordState {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(now));
        match self {
            Self::Closed => RecordState::Closed,
            Self::Open { terms, until } => {
                RecordState::Open { terms: *terms, remaining: left(*until) }
            }
            Self::HalfOpen { terms, passed, leases } => {
                let out = || leases.values().filter(|expires| **expires > now);
                RecordState::HalfOpen {
                    terms: *terms,
                    passed: *passed,
                    out: out().count() as u64,
                    next_expiry: out().min().map(|expires| left(*expires)),
                }
            }
        }
    }
}

impl Ring {
    pub(super) fn add(&mut self, window: Geometry, counted: [u64; 3], now: u64) {
        let bucket = self.buckets.entry(now / window.bucket_millis()).or_default();
        for (sum, more) in bucket.iter_mut().zip(counted) {
            *sum += more;
        }
    }

    pub(super) fn total(&mut self, window: Geometry, now: u64) -> [u64; 3] {
        let current = now / window.bucket_millis();
        self.buckets.retain(|bucket, _| bucket + u64::from(window.buckets) > current);
        let mut total = [0; 3];
        for bucket in self.buckets.values() {
            for (sum, more) in total.iter_mut().zip(bucket) {
                *sum += more;
            }
        }
        total
    }
}

impl StoredOverride {
    pub(super) fn new(version: u64, record: Option<OverrideRecord>, now: u64) -> Self {
        let remaining = record.as_ref().and_then(|record| record.remaining);
        Self { version, record, until: remaining.map(|remaining| now + millis(remaining)) }
    }

    pub(super) fn in_force(self, now: u64) -> Overridden {
        let over = self.until.is_some_and(|until| until <= now);
        let remaining = self.until.map(|until| Duration::from_millis(until.saturating_sub(now)));
        let record = self.record.filter(|_| !over);
        Overridden {
            version: self.version,
            record: record.map(|record| OverrideRecord { remaining, ..record }),
        }
    }
}

pub(super) fn open(terms: OpenTerms, now: u64) -> State {
    State::Open { terms: usable(terms), until: now + millis(terms.interval) }
}

pub(super) fn usable(terms: OpenTerms) -> OpenTerms {
    let lease = if terms.lease.is_zero() { Duration::from_secs(10) } else { terms.lease };
    OpenTerms { probes: terms.probes.max(1), lease, ..terms }
}

/// Rounded up: what lasts at all lasts a millisecond.
pub(super) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    // Far enough in the future, and no sum with it overflows.
    u64::try_from(millis).unwrap_or(u64::MAX).min(u64::MAX >> 16)
}
