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
//!    complete the minimum of calls.
//! 5. What runs out (an open interval, a lease, an override) is looked at when something is asked.
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

mod half_open;
mod ledger;
mod phase;
mod policy;
mod transition;
mod window;

pub(crate) use half_open::LeaseId;
pub(crate) use ledger::{Ledger, Shared, Verdict};
pub use phase::{Origin, Override, State};
pub use policy::{Cancelled, Policy, PolicyBuilder, PolicyError};
pub use transition::{Event, Reason, Transition};
pub use window::Tally;
pub(crate) use window::{Evidence, Mark, Shape};

use std::time::Duration;

use crate::outcome::Outcome;
use crate::timestamp::Timestamp;
use half_open::{Returned, Round};
use phase::Phase;

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

/// How a call ended: its outcome, whether it was slow, and the lease it held if it was a probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) slow: bool,
    pub(crate) lease: Option<LeaseId>,
}

impl Machine {
    pub(crate) fn new(policy: &Policy, now: Timestamp) -> Self {
        let phase = Phase::Closed(Evidence::new(policy.shape(), now));
        Self {
            phase,
            generation: 1,
            reopenings: 0,
            origin: Origin::Local,
            ledger: Ledger::None,
            ends: Timestamp::NEVER,
        }
    }

    /// Answers a call that asks to be made. The time may end an open interval, or show that a
    /// probe hangs; then there is a transition too.
    pub(crate) fn admit(
        &mut self,
        begin: Begin,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> (Admission, Option<Transition>) {
        let transition = match &self.phase {
            Phase::Open { until } if *until <= now && !self.asks() => {
                Some(self.enter(Phase::HalfOpen(Round::default()), Reason::IntervalOver))
            }
            Phase::HalfOpen(round) if round.hangs(now) && !self.asks() => {
                Some(self.reopen(Reason::ProbeExpired, None, now, policy, draw))
            }
            _ => None,
        };
        let (asks, places) = (self.asks(), self.places(policy));
        let making = begin == Begin::Now;
        let admission = match &mut self.phase {
            Phase::Closed(_)
            | Phase::ForcedClosed(_)
            | Phase::Disabled
            | Phase::MetricsOnly { .. } => Admission::Granted(None),
            Phase::Open { until } if asks && *until <= now => Admission::Ask,
            Phase::Open { .. } | Phase::ForcedOpen => Admission::Rejected,
            Phase::HalfOpen(round) if asks => match round.take(making, now) {
                Some(lease) => Admission::Granted(Some(lease)),
                None if round.refused_until() > now => Admission::Rejected,
                None => Admission::Ask,
            },
            Phase::HalfOpen(round) => {
                match round.lease(making, places, now, policy.probe_lease()) {
                    Some(lease) => Admission::Granted(Some(lease)),
                    None => Admission::Rejected,
                }
            }
        };
        (admission, transition)
    }

    /// Begins the call of a lease that was granted for later. False if the lease has run out.
    pub(crate) fn begin(&mut self, lease: LeaseId, now: Timestamp, policy: &Policy) -> bool {
        let asks = self.asks();
        match &mut self.phase {
            // The ledger's lease runs from when it was given, and only the ledger can prolong it.
            Phase::HalfOpen(round) => {
                let anew = (!asks).then(|| policy.probe_lease());
                round.begin(lease, now, anew)
            }
            _ => false,
        }
    }

    /// For how long the call of a lease has been under way.
    pub(crate) fn ran(&self, lease: LeaseId, now: Timestamp) -> Duration {
        match &self.phase {
            Phase::HalfOpen(round) => round.ran(lease, now),
            _ => Duration::ZERO,
        }
    }

    /// Whether a lease still holds its place.
    pub(crate) fn holds(&self, lease: LeaseId, now: Timestamp) -> bool {
        matches!(&self.phase, Phase::HalfOpen(round) if round.holds(lease, now))
    }

    /// Records how a call of this generation ended, and tells what that made happen.
    pub(crate) fn record(
        &mut self,
        ended: Ended,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Effect> {
        if let Phase::HalfOpen(round) = &mut self.phase {
            let lease = ended.lease?;
            let verdict = match (round.give_back(lease, now)?, ended.outcome) {
                // Whatever it says now, it was too long in coming.
                (Returned::Late, _) => Verdict::Failed { reason: Reason::ProbeExpired, hint: None },
                (Returned::Unused, _) | (Returned::InTime, Outcome::Ignored) => Verdict::Released,
                // One failed probe is enough: a caller paid for it, another would for the next.
                (Returned::InTime, Outcome::Failure { retry_after: hint }) => {
                    Verdict::Failed { reason: Reason::ProbeFailed, hint }
                }
                (Returned::InTime, Outcome::Success) => Verdict::Passed,
            };
            if self.asks() {
                return Some(Effect::Settle(lease, verdict));
            }
            let transition = self.settle(verdict, now, policy, draw);
            return transition.map(|transition| Effect::Tell(Event::Transition(transition)));
        }

        let (failed, hint) = match ended.outcome {
            Outcome::Success => (false, None),
            Outcome::Failure { retry_after } => (true, retry_after),
            Outcome::Ignored => return None,
        };
        let evidence = self.phase.evidence_mut()?;
        evidence.slide(now);
        evidence.record(Mark { failed, slow: ended.slow });
        let reason = policy.judge(evidence.tally());
        let event = match (&mut self.phase, reason) {
            (Phase::Closed(_), Some(reason)) => {
                Event::Transition(self.open(reason, hint, now, policy, draw))
            }
            (Phase::MetricsOnly { told, .. }, reason) => {
                let news = reason.filter(|_| !*told);
                *told = reason.is_some();
                Event::WouldTrip { reason: news? }
            }
            _ => return None,
        };
        Some(Effect::Tell(event))
    }

    /// What the end of a probe of our own makes of the round.
    pub(crate) fn settle(
        &mut self,
        verdict: Verdict,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Transition> {
        let Phase::HalfOpen(round) = &mut self.phase else { return None };
        match verdict {
            Verdict::Released => None,
            Verdict::Failed { reason, hint } => Some(self.reopen(reason, hint, now, policy, draw)),
            Verdict::Passed => round.pass(policy.successes_to_close()).then(|| {
                self.reopenings = 0;
                self.origin = Origin::Local;
                let evidence = Evidence::new(policy.shape(), now);
                self.enter(Phase::Closed(evidence), Reason::ProbesSucceeded)
            }),
        }
    }

    /// Adds a run of successes that were counted elsewhere and cannot trip.
    pub(crate) fn successes(&mut self, n: u64) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.successes(n);
        }
    }

    /// Lets go of evidence that has become too old.
    pub(crate) fn slide(&mut self, now: Timestamp) {
        if let Some(evidence) = self.phase.evidence_mut() {
            evidence.slide(now);
        }
    }

    /// Sets a state by hand, until a time. It ends what was in force, an earlier override included.
    pub(crate) fn force(
        &mut self,
        to: Override,
        origin: Origin,
        ends: Timestamp,
        policy: &Policy,
        now: Timestamp,
    ) -> Transition {
        let evidence = || Evidence::new(policy.shape(), now);
        self.reopenings = 0;
        self.origin = origin;
        let phase = match to {
            Override::ForcedOpen => Phase::ForcedOpen,
            Override::ForcedClosed => Phase::ForcedClosed(evidence()),
            Override::Disabled => Phase::Disabled,
            Override::MetricsOnly => Phase::MetricsOnly { evidence: evidence(), told: false },
        };
        let transition = self.enter(phase, Reason::ByHand);
        self.ends = ends;
        transition
    }

    /// Closes with no evidence, whatever the state was.
    pub(crate) fn reset(&mut self, reason: Reason, policy: &Policy, now: Timestamp) -> Transition {
        self.reopenings = 0;
        self.origin = Origin::Local;
        self.enter(Phase::Closed(Evidence::new(policy.shape(), now)), reason)
    }

    /// The override in force ends at another time.
    pub(crate) fn set_ends(&mut self, ends: Timestamp) {
        self.ends = ends;
    }

    /// When the override in force ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Starts the evidence anew in the shape of another policy. The state stays as it is.
    pub(crate) fn reshape(&mut self, policy: &Policy, now: Timestamp) {
        if let Some(evidence) = self.phase.evidence_mut() {
            *evidence = Evidence::new(policy.shape(), now);
        }
    }

    /// Whether one more success, not a slow one, could change anything but a count. As long as it
    /// cannot, successes may be counted elsewhere and added later with
    /// [`successes`](Self::successes).
    pub(crate) fn success_matters(&self, policy: &Policy) -> bool {
        match &self.phase {
            Phase::Closed(evidence) | Phase::MetricsOnly { evidence, .. } => {
                let tally = evidence.tally();
                tally.consecutive_failures > 0 || policy.success_can_trip(tally)
            }
            Phase::ForcedClosed(evidence) => evidence.tally().consecutive_failures > 0,
            Phase::Disabled => false,
            Phase::Open { .. } | Phase::HalfOpen(_) | Phase::ForcedOpen => true,
        }
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

    fn reopen(
        &mut self,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Transition {
        self.reopenings = self.reopenings.saturating_add(1);
        self.open(reason, hint, now, policy, draw)
    }

    fn open(
        &mut self,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Transition {
        let interval = policy.open_interval(self.reopenings, hint, draw);
        self.origin = Origin::Local;
        let transition = self.enter(Phase::Open { until: now.after(interval) }, reason);
        Transition { open_for: Some(interval), ..transition }
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
