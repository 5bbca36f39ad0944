//! The rules of a circuit.
//!
//! ```text
//!                 evidence meets a condition
//!        ┌────────┐ ───────────────────────► ┌──────┐ ◄──────────────┐
//!        │ closed │                          │ open │                │ a probe fails,
//!        └────────┘                          └──────┘                │ or outlives its lease
//!             ▲                                  │ the interval      │
//!             │ enough good probes in a row      ▼ is over           │
//!             │                            ┌───────────┐             │
//!             └─────────────────────────── │ half-open │ ────────────┘
//!                                          └───────────┘
//! ```
//!
//! By hand, from every state: forced open, forced closed, disabled, metrics-only; `reset` leads
//! from every state to closed.
//!
//! Laws:
//!
//! 1. The machine answers from its arguments alone: state, policy, time, a random draw. The same
//!    history gives the same circuit on every host.
//! 2. It does not fail and does not panic.
//! 3. There is one door into a phase, [`Machine::enter`]; it ends the old generation. Whoever
//!    calls the machine drops results of earlier generations before they get here.
//! 4. Evidence is judged after every result that is recorded, a success included: a success can
//!    complete the minimum of calls. Calls still in flight are judged on a tick.
//! 5. What runs out (an open interval, a lease, an override) is looked at when something is asked,
//!    and takes effect as of the moment it ran out.
//!
//! # In a cluster
//!
//! A machine can be the copy of a record that replicas share, a *ledger's*. Then:
//!
//! 6. What the ledger says is [adopted](Machine::adopt), whatever the state was.
//! 7. A half-open round of the cluster's is the ledger's: the machine leases nothing and decides
//!    nothing; it says that the ledger is to be [asked](Admission::Ask), or
//!    [told](Effect::Settle).
//! 8. What the machine opens on its own evidence is its own (`Origin::Local`), and recovers by its
//!    own probes, until the ledger says something newer.
//! 9. While the ledger is lost, the machine goes on alone, with one probe at a time: the places are
//!    counted by nobody else.

mod conditions;
mod half_open;
mod interval;
mod judging;
mod ledger;
mod phase;
mod probing;
#[cfg(test)]
mod tests;
mod transition;
mod window;

pub(crate) use half_open::LeaseId;
pub(crate) use ledger::{Ledger, Shared, Verdict};
pub use phase::{Origin, OverrideState, State};
pub use transition::{Event, Reason, Transition};
pub use window::Tally;
pub(crate) use window::{Evidence, Mark};

use std::time::Duration;

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;
use phase::{Phase, Told};

/// One circuit, as pure rules.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    phase: Phase,
    generation: u64,
    /// How often in a row probes have opened the circuit again.
    reopenings: u32,
    /// Who decided the phase.
    origin: Origin,
    ledger: Ledger,
    /// When the override in force ends.
    ends: Timestamp,
}

/// The answer to [`Machine::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The call may be made; as a probe, if there is a lease.
    Granted(Option<LeaseId>),
    Rejected,
    /// The ledger is to be asked for a lease.
    Ask,
}

/// What a result has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Tell(Event),
    /// A probe of the cluster's has ended, and the ledger is to be told.
    Settle(LeaseId, Verdict),
}

/// Whether an admitted call begins at once, or only holds its place for now.
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
            ledger: Ledger::None,
            ends: Timestamp::NEVER,
        }
    }

    /// Sets a state by hand, until a time. It ends what was in force, an earlier override included.
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
                Phase::MetricsOnly { evidence: evidence(), told: Told::Nothing }
            }
        };
        let transition = self.enter(phase, Reason::Override);
        self.ends = ends;
        transition
    }

    /// Closes with no evidence, whatever the state was.
    pub(crate) fn reset(&mut self, reason: Reason, policy: &Policy, now: Timestamp) -> Transition {
        self.reopenings = 0;
        self.origin = Origin::Local;
        self.enter(Phase::Closed(Evidence::new(policy.window(), now)), reason)
    }

    /// The override in force ends at another time.
    pub(crate) fn set_ends(&mut self, ends: Timestamp) {
        self.ends = ends;
    }

    /// When the override in force ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Goes over to another policy. The state and its open interval stay. So does the evidence if
    /// the window is the same; otherwise it starts anew.
    pub(crate) fn reshape(&mut self, old: &Policy, new: &Policy, now: Timestamp) {
        if old.window() == new.window() {
            return;
        }
        if let Some(evidence) = self.phase.evidence_mut() {
            *evidence = Evidence::new(new.window(), now);
        }
    }

    /// Ends the open interval now, so that the next call is a probe. `None` if the circuit is not
    /// open, or if the cluster decides when it probes.
    pub(crate) fn probe_now(&mut self, now: Timestamp) -> Option<Transition> {
        let open = self.state() == State::Open && !self.asks();
        open.then(|| self.enter(Phase::Open { until: now }, Reason::Override))
    }

    /// Until when admissions are rejected without a look at anything else; `None` while some pass.
    pub(crate) fn rejects_until(&self, policy: &Policy) -> Option<Timestamp> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::ForcedOpen => Some(self.ends),
            Phase::HalfOpen(round) if self.asks() => {
                (!round.has_spare()).then(|| round.refused_until())
            }
            Phase::HalfOpen(round) if round.out() as u64 >= self.places(policy) => {
                round.next_expiry()
            }
            _ => None,
        }
    }

    /// Whether successes are counted at all.
    pub(crate) fn counts(&self) -> bool {
        self.phase.evidence().is_some_and(Evidence::has_window)
    }

    /// When the current bucket of evidence ends, where there are buckets.
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

    /// Probes out, and probes passed.
    pub(crate) fn probes(&self) -> (usize, u64) {
        match &self.phase {
            Phase::HalfOpen(round) => (round.out(), round.passed()),
            _ => (0, 0),
        }
    }

    /// Opens for the interval of the policy, counted from `from`; and until the hint, counted from
    /// `now`, is over.
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
