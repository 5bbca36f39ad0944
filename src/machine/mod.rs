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
//! Overrides lead from every state to forced open, forced closed, disabled or metrics-only; `reset`
//! leads from every state to closed.
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
//!
//! # In a cluster
//!
//! A machine can be the copy of a backend's record, which replicas share. Then:
//!
//! 6. A new generation of the record is [applied](Machine::apply), whatever the state was.
//! 7. The backend decides a half-open round of the cluster: the machine leases nothing and decides
//!    nothing. It says that the backend must be [asked](Admission::Ask) for a lease, or must be
//!    sent a [result](Effect::Settle).
//! 8. A phase that the machine opened on its own evidence is its own (`Origin::Local`) and recovers
//!    by its own probes, until the backend has something newer.
//! 9. While the backend does not answer, the machine is detached: it goes on by itself, with one
//!    probe at a time, because the probe slots of the cluster are counted by the backend alone.

mod conditions;
mod half_open;
mod interval;
mod judging;
mod cluster;
mod phase;
mod probing;
#[cfg(test)]
mod tests;
mod transition;
mod window;

pub(crate) use half_open::LeaseId;
pub(crate) use cluster::{Backing, Shared, Verdict};
pub use phase::{Origin, OverrideState, State};
pub use transition::{Event, Reason, Transition};
pub use window::Tally;
pub(crate) use window::{Evidence, Mark};

use std::time::Duration;

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;
use phase::{Phase, Reported};

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
    /// When the override in force ends.
    ends: Timestamp,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Notify(Event),
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
            ends: Timestamp::NEVER,
        }
    }

    /// Overrides the state until `ends`. This ends what was in force, an earlier override included.
    pub(crate) fn force(
        &mut self,
        to: OverrideState,
        origin: Origin,
        ends: Timestamp,
        policy: &Policy,
        now: Timestamp,
    ) -> Transition {
        let evidence = || Evidence::new(policy.window(), now);
        self.reopenings = 0;
        self.origin = origin;
        let phase = match to {
            OverrideState::ForcedOpen => Phase::ForcedOpen,
            OverrideState::ForcedClosed => Phase::ForcedClosed(evidence()),
            OverrideState::Disabled => Phase::Disabled,
            OverrideState::MetricsOnly => {
                Phase::MetricsOnly { evidence: evidence(), reported: Reported::Nothing }
            }
        };
        let transition = self.enter(phase, Reason::Override);
        self.ends = ends;
        transition
    }

    /// Closes the circuit without evidence, whatever its state was.
    pub(crate) fn reset(&mut self, reason: Reason, policy: &Policy, now: Timestamp) -> Transition {
        self.reopenings = 0;
        self.origin = Origin::Local;
        self.enter(Phase::Closed(Evidence::new(policy.window(), now)), reason)
    }

    /// Changes when the override in force ends.
    pub(crate) fn set_ends(&mut self, ends: Timestamp) {
        self.ends = ends;
    }

    /// Returns when the override in force ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
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

    /// Ends the open interval now, so that the next call is a probe. Returns `None` if the circuit
    /// is not open, or if the cluster decides when it probes.
    pub(crate) fn probe_now(&mut self, now: Timestamp) -> Option<Transition> {
        let open = self.state() == State::Open && !self.asks_backend();
        open.then(|| self.enter(Phase::Open { until: now }, Reason::Override))
    }

    /// Returns until when admissions are rejected without a look at anything else; `None` while
    /// some calls pass.
    pub(crate) fn rejects_until(&self, policy: &Policy) -> Option<Timestamp> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::ForcedOpen => Some(self.ends),
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
        self.generation += 1;
        self.ends = Timestamp::NEVER;
        let (to, generation, origin) = (self.state(), self.generation, self.origin);
        Transition { from, to, reason, generation, tally, open_for: None, origin }
    }
}
