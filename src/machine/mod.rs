//! The rules of a circuit.
//!
//! ```text
//!                 evidence meets a condition
//!        ┌────────┐ ───────────────────────► ┌──────┐ ◄──────────────┐
//!        │ closed │                          │ open │                │ a probe fails,
//!        └────────┘                          └──────┘                │ or outlives its lease
//!             ▲                                  │ the interval      │
//!             │ enough probes succeed            ▼ ends              │
//!             │                            ┌───────────┐             │
//!             └─────────────────────────── │ half-open │ ────────────┘
//!                                          └───────────┘
//! ```
//!
//! Overrides lead from every state to forced open, forced closed, disabled or metrics-only, and back
//! to the state beneath them. `reset` leads from every state to closed.
//!
//! Laws:
//!
//! 1. The machine answers from its arguments alone: state, policy, time, a random draw. The same
//!    history gives the same circuit on every host.
//! 2. It does not fail and does not panic.
//! 3. There is one door into a phase, [`Machine::enter`]; it ends the old generation. The caller of
//!    the machine drops results of earlier generations before they get here.
//! 4. Evidence is judged after every result that is recorded, a success included: a success can
//!    complete the minimum of calls. Calls still running are judged on a tick.
//! 5. What expires (an open interval, a lease, an override) is looked at when the machine is asked,
//!    and takes effect as of the moment it expired.
//! 6. Every change that an observer could see is one transition, and nothing else is. A new
//!    generation with the same state changes nothing visible, unless an operator acted or probes
//!    failed.
//! 7. An override covers the open phase beneath it, and its end gives that phase back: open for the
//!    rest of its interval, or with its interval over if it ended meanwhile. A half-open phase is
//!    given back as open with its interval over. An override that replaces another one covers what
//!    that one covered. Everything else is given back as closed, without evidence; what forced
//!    closed and metrics-only have counted is dropped. `reset` closes whatever is beneath.
//! 8. A closed circuit opens because of the first condition that its evidence meets. A metrics-only
//!    one reports each condition when its evidence begins to meet it.
//!
//! # In a cluster
//!
//! A machine can be the copy of a backend's record, which replicas share. Then:
//!
//! 9. A new generation of the record is [applied](Machine::apply), whatever the state was.
//! 10. The backend decides a half-open round of the cluster: the machine leases nothing and decides
//!     nothing. It says that the backend must be [asked](Admission::Ask) for a lease, or must be
//!     sent a [result](Effect::Settle).
//! 11. A phase that the machine opened on its own evidence is its own (`Origin::Local`) and recovers
//!     by its own probes, until the backend has something newer.
//! 12. While the backend does not answer, the machine is detached: it goes on by itself, with one
//!     probe at a time, because the probe slots of the cluster are counted by the backend alone.

mod cluster;
mod conditions;
mod half_open;
mod interval;
mod judging;
mod override_record;
mod overrides;
mod past;
mod phase;
mod probing;
mod reason;
mod reported;
#[cfg(test)]
mod tests;
mod transition;
mod window;

pub(crate) use cluster::{Backing, Shared, Verdict, Why};
pub(crate) use half_open::LeaseId;
pub use override_record::OverrideRecord;
pub use past::HistoryEntry;
pub use phase::{Origin, OverrideState, State};
pub use reason::Reason;
pub use transition::{Event, Transition};
pub use window::Tally;
pub(crate) use window::{Evidence, Mark};

use std::sync::Arc;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;
use override_record::InForce;
use phase::Phase;

/// One circuit, as pure rules.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    phase: Phase,
    generation: u64,
    /// How many times in a row probes have opened the circuit again.
    reopenings: u32,
    /// What decided the phase.
    origin: Origin,
    backing: Backing,
    /// The override in force.
    in_force: Option<InForce>,
}

/// The answer to [`Machine::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The call may be made; as a probe, if there is a lease.
    Granted(Option<LeaseId>),
    Rejected,
    /// The backend must be asked for a lease.
    Ask,
}

/// What a result has caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// At least one event. A metrics-only circuit can meet several conditions at once.
    Notify(Vec<Event>),
    /// A probe of the cluster has ended, and its result must be sent to the backend.
    Settle(LeaseId, Verdict),
}

/// Whether an admitted call begins at once, or only reserves its probe slot for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Now,
    Later,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) slow: bool,
    /// The call was dropped before it ended, whatever its policy counts that as.
    pub(crate) cancelled: bool,
    /// The lease of a probe.
    pub(crate) lease: Option<LeaseId>,
}

impl Machine {
    pub(crate) fn new(policy: &Policy, now: Timestamp) -> Self {
        let phase = Phase::Closed(Evidence::new(policy.window(), now));
        Self {
            phase,
            generation: 1,
            reopenings: 0,
            origin: Origin::Local,
            backing: Backing::None,
            in_force: None,
        }
    }

    /// Changes to another policy. The state and its open interval stay. So does the evidence if the
    /// window is the same; otherwise it starts anew.
    pub(crate) fn reshape(&mut self, old: &Policy, new: &Policy, now: Timestamp) {
        if old.window() == new.window() {
            return;
        }
        if let Some(evidence) = self.phase.evidence_mut() {
            *evidence = Evidence::new(new.window(), now);
        }
    }

    /// Returns until when admissions are rejected without a look at anything else; `None` while
    /// some calls pass.
    pub(crate) fn rejects_until(&self, policy: &Policy) -> Option<Timestamp> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::ForcedOpen => Some(self.ends()),
            Phase::HalfOpen(round) if self.asks_backend() => {
                (!round.has_spare()).then(|| round.refused_until())
            }
            Phase::HalfOpen(round) if round.out() as u64 >= self.slots(policy) => {
                round.next_expiry()
            }
            _ => None,
        }
    }

    /// Returns whether successes are counted at all.
    pub(crate) fn counts(&self) -> bool {
        self.phase.evidence().is_some_and(Evidence::has_window)
    }

    /// Returns when the current bucket of evidence ends, if there are buckets.
    pub(crate) fn bucket_end(&self) -> Option<Timestamp> {
        self.phase.evidence().and_then(Evidence::bucket_end)
    }

    pub(crate) fn state(&self) -> State {
        self.phase.state()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn reopenings(&self) -> u32 {
        self.reopenings
    }

    pub(crate) fn tally(&self) -> Tally {
        self.phase.evidence().map(Evidence::tally).unwrap_or_default()
    }

    /// Returns how many probes are out, and how many have passed.
    pub(crate) fn probes(&self) -> (usize, u64) {
        match &self.phase {
            Phase::HalfOpen(round) => (round.out(), round.passed()),
            _ => (0, 0),
        }
    }

    /// Opens for the interval of the policy, counted from `from`, and at least until the hint,
    /// counted from `now`, is over.
    fn open(
        &mut self,
        reason: Reason,
        hint: Option<Duration>,
        (from, now): (Timestamp, Timestamp),
        policy: &Policy,
        draw: u64,
    ) -> Transition {
        let interval = policy.open_interval(self.reopenings, None, draw);
        let hinted = hint.map_or(now, |hint| now.after(policy.hinted_interval(hint, draw)));
        let until = from.after(interval).max(hinted);
        self.origin = Origin::Local;
        let transition = self.enter(Phase::Open { until }, reason);
        Transition { open_for: Some(until.since(now)), ..transition }
    }

    fn enter(&mut self, phase: Phase, reason: Reason) -> Transition {
        let (from, tally) = (self.state(), self.tally());
        self.phase = phase;
        self.generation = self.generation.saturating_add(1);
        let ended = self.in_force.take();
        Transition {
            from,
            to: self.state(),
            reason,
            generation: self.generation,
            tally,
            open_for: None,
            origin: self.origin,
            overridden: ended.map(|ended| ended.record),
            contributors: Arc::default(),
            last_error: None,
        }
    }
}
