//! The record of a circuit: its generation, and what that is. Times are in microseconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::evidence::Evidence;
use super::time::{HOUR, cut, left, micros, millis};
use crate::backend::{Lease, Move, OpenTerms, Probed, RecordState, Report, View};
use crate::machine::{Reason, Tally, Transition};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) generation: u64,
    pub(super) revision: u64,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    /// What had been counted when it opened.
    pub(super) tally: Tally,
    pub(super) contributors: Vec<String>,
    /// The last failure before it opened.
    pub(super) last_error: Option<Arc<str>>,
    expires: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Closed(Evidence),
    Open { terms: OpenTerms, until: u64 },
    HalfOpen { terms: OpenTerms, passed: u64, leases: BTreeMap<u64, u64> },
}

impl Record {
    pub(super) fn first() -> Self {
        Self {
            generation: View::FIRST,
            revision: 1,
            state: State::Closed(Evidence::default()),
            reason: None,
            tally: Tally::default(),
            contributors: Vec::new(),
            last_error: None,
            expires: 0,
        }
    }

    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires <= now
    }

    /// Keeps the record for at least so long.
    pub(super) fn keep(&mut self, micros: u64, now: u64) {
        self.expires = self.expires.max(now.saturating_add(micros));
    }

    /// Cuts what lasts longer than it can, because the clock went back.
    pub(super) fn cut(&mut self, now: u64) {
        match &mut self.state {
            State::Closed(evidence) => evidence.cut(now),
            State::Open { terms, until } => cut(until, micros(terms.interval), now),
            State::HalfOpen { terms, leases, .. } => {
                for expires in leases.values_mut() {
                    cut(expires, micros(terms.lease), now);
                }
            }
        }
    }

    pub(super) fn go(&mut self, to: &Move, now: u64) {
        match to {
            Move::Open { terms, reason, tally, last_error } => {
                self.open(*terms, *reason, *tally, now);
                self.set_error(last_error.as_deref());
            }
            Move::Closed { reason } => self.close(*reason, now),
        }
    }

    fn open(&mut self, terms: OpenTerms, reason: Reason, tally: Tally, now: u64) {
        self.enter(open(terms, now), reason, tally, now);
    }

    fn set_error(&mut self, error: Option<&str>) {
        self.last_error = error.map(|error| Transition::cut_error(error).into());
    }

    pub(super) fn close(&mut self, reason: Reason, now: u64) {
        self.enter(State::Closed(Evidence::default()), reason, Tally::default(), now);
    }

    /// The one way into another generation.
    fn enter(&mut self, state: State, reason: Reason, tally: Tally, now: u64) {
        // A replica that has not read of the end of an interval would restore it.
        let interval = self.interval_left(now);
        let contributors = match (&self.state, &state) {
            (_, State::Closed(_)) => Vec::new(),
            (State::Closed(evidence), _) => evidence.contributors(now),
            _ => std::mem::take(&mut self.contributors),
        };
        let last_error = self.last_error.take().filter(|_| !matches!(state, State::Closed(_)));
        let generation = self.generation.saturating_add(1).max(millis(now));
        let reason = Some(reason);
        *self =
            Self { generation, state, reason, tally, contributors, last_error, ..Self::first() };
        self.keep_state(interval, now);
    }

    fn interval_left(&self, now: u64) -> u64 {
        match self.state {
            State::Open { until, .. } => until.saturating_sub(now),
            State::Closed(_) | State::HalfOpen { .. } => 0,
        }
    }

    /// Keeps the record for as long as its state needs.
    fn keep_state(&mut self, interval: u64, now: u64) {
        let needs = match &self.state {
            State::Closed(_) => interval.max(micros(Report::HORIZON)),
            State::Open { terms, .. } => micros(terms.interval).saturating_add(HOUR),
            State::HalfOpen { terms, .. } => micros(terms.lease).saturating_add(HOUR),
        };
        self.keep(needs, now);
    }

    pub(super) fn restored(view: &View, now: u64) -> Self {
        let state = match view.state {
            RecordState::Closed => State::Closed(Evidence::default()),
            RecordState::Open { terms, remaining } => {
                let until = now.saturating_add(micros(remaining.min(terms.interval)));
                State::Open { terms: usable(terms), until }
            }
            RecordState::HalfOpen { terms, .. } => State::Open { terms: usable(terms), until: now },
        };
        let mut record = Self {
            generation: view.generation,
            revision: view.revision.saturating_add(1),
            state,
            reason: view.reason,
            ..Self::first()
        };
        if !matches!(record.state, State::Closed(_)) {
            record.tally = view.tally;
            record.contributors.clone_from(&view.contributors);
            record.contributors.truncate(View::MAX_CONTRIBUTORS);
            record.set_error(view.last_error.as_deref());
        }
        record.keep_state(0, now);
        record
    }

    /// Returns the evidence of a closed record.
    pub(super) fn evidence(&self) -> Option<&Evidence> {
        match &self.state {
            State::Closed(evidence) => Some(evidence),
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Returns the evidence that counts in a generation.
    pub(super) fn evidence_of(&mut self, generation: u64) -> Option<&mut Evidence> {
        match &mut self.state {
            State::Closed(evidence) if self.generation == generation => Some(evidence),
            _ => None,
        }
    }

    /// Returns the lease that was already granted to this nonce.
    pub(super) fn lease(&self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { leases, .. } = &self.state else { return None };
        let expires = *leases.get(&nonce).filter(|expires| **expires > now)?;
        Some(Lease { generation: self.generation, nonce, remaining: left(expires, now) })
    }

    /// Starts a round if the open interval is over. Returns whether it did.
    pub(super) fn half_open(&mut self, now: u64) -> bool {
        match self.state {
            State::Open { terms, until } if until <= now => {
                let round = State::HalfOpen { terms, passed: 0, leases: BTreeMap::new() };
                self.enter(round, Reason::IntervalOver, self.tally, now);
                true
            }
            _ => false,
        }
    }

    pub(super) fn acquire(&mut self, nonce: u64, now: u64) -> Option<Lease> {
        let State::HalfOpen { terms, leases, .. } = &mut self.state else { return None };
        leases.retain(|_, expires| *expires > now);
        if leases.len() as u64 >= terms.probes {
            return None;
        }
        leases.insert(nonce, now.saturating_add(micros(terms.lease)));
        self.revision = self.revision.saturating_add(1);
        self.keep_state(0, now);
        self.lease(nonce, now)
    }

    /// Returns whether the result changes something.
    pub(super) fn settle(&mut self, lease: Lease, result: &Probed, now: u64) -> bool {
        let generation = self.generation;
        let State::HalfOpen { terms, passed, leases } = &mut self.state else { return false };
        if generation != lease.generation {
            return false;
        }
        let out = leases.remove(&lease.nonce).is_some_and(|expires| expires > now);
        match result {
            Probed::Failed { terms, reason, last_error } => {
                self.open(*terms, *reason, Tally::default(), now);
                self.set_error(last_error.as_deref());
                return true;
            }
            Probed::Passed | Probed::Released if !out => return false,
            Probed::Passed if passed.saturating_add(1) >= terms.successes_to_close => {
                self.close(Reason::ProbesSucceeded, now);
                return true;
            }
            Probed::Passed => *passed += 1,
            Probed::Released => {}
        }
        self.revision = self.revision.saturating_add(1);
        true
    }
}

impl State {
    pub(super) fn shown(&self, now: u64) -> RecordState {
        match self {
            Self::Closed(_) => RecordState::Closed,
            Self::Open { terms, until } => {
                RecordState::Open { terms: *terms, remaining: left(*until, now) }
            }
            Self::HalfOpen { terms, passed, leases } => {
                let out = || leases.values().filter(|expires| **expires > now);
                RecordState::HalfOpen {
                    terms: *terms,
                    passed: *passed,
                    out: out().count() as u64,
                    next_expiry: out().min().map(|expires| left(*expires, now)),
                }
            }
        }
    }
}

fn open(terms: OpenTerms, now: u64) -> State {
    State::Open { terms: usable(terms), until: now.saturating_add(micros(terms.interval)) }
}

/// Without a slot, or with a lease for no time, no replica would ever probe.
fn usable(terms: OpenTerms) -> OpenTerms {
    let lease = if terms.lease.is_zero() { Duration::from_secs(10) } else { terms.lease };
    OpenTerms { probes: terms.probes.max(1), lease, ..terms }
}
