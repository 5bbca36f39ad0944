//! Which calls are admitted, and how the half-open round goes.

use std::time::Duration;

use super::cluster::Verdict;
use super::half_open::{LeaseId, Returned, Round};
use super::phase::{Origin, Phase};
use super::reason::Reason;
use super::transition::{Event, Transition};
use super::window::Evidence;
use super::{Admission, Begin, Effect, Ended, Machine};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::timestamp::Timestamp;

impl Machine {
    /// Does one thing that has become due by `now`. Call it before [`admit`](Self::admit), until it
    /// returns `None`.
    ///
    /// A probe that outlived its lease fails its round as of the moment its lease ended. An open
    /// interval that has ended leads to half-open. One can follow the other.
    pub(crate) fn catch_up(
        &mut self,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Transition> {
        if self.asks_backend() {
            return None;
        }
        match &self.phase {
            Phase::Open { until } if *until <= now => {
                Some(self.enter(Phase::HalfOpen(Round::default()), Reason::IntervalOver))
            }
            Phase::HalfOpen(round) => {
                let expired = round.hung_since(now)?;
                Some(self.reopen(Reason::ProbeExpired, None, (expired, now), policy, draw))
            }
            _ => None,
        }
    }

    /// Decides whether a call may be made.
    pub(crate) fn admit(&mut self, begin: Begin, now: Timestamp, policy: &Policy) -> Admission {
        let (asks, slots) = (self.asks_backend(), self.slots(policy));
        let making = begin == Begin::Now;
        match &mut self.phase {
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
            Phase::HalfOpen(round) => match round.lease(making, slots, now, policy.probe_lease()) {
                Some(lease) => Admission::Granted(Some(lease)),
                None => Admission::Rejected,
            },
        }
    }

    /// Begins the call of a lease that was reserved. Returns false if the lease has expired, or its
    /// round has failed.
    pub(crate) fn begin(&mut self, lease: LeaseId, now: Timestamp, policy: &Policy) -> bool {
        let asks = self.asks_backend();
        match &mut self.phase {
            // The backend's lease runs from the moment it was granted, and only the backend can
            // prolong it.
            Phase::HalfOpen(round) if asks => round.begin(lease, now, None),
            Phase::HalfOpen(round) => {
                round.hung_since(now).is_none()
                    && round.begin(lease, now, Some(policy.probe_lease()))
            }
            _ => false,
        }
    }

    /// Returns for how long the call of a lease has been running.
    pub(crate) fn ran(&self, lease: LeaseId, now: Timestamp) -> Duration {
        match &self.phase {
            Phase::HalfOpen(round) => round.ran(lease, now),
            _ => Duration::ZERO,
        }
    }

    /// Returns whether a lease still holds its probe slot.
    pub(crate) fn holds(&self, lease: LeaseId, now: Timestamp) -> bool {
        match &self.phase {
            Phase::HalfOpen(round) => {
                round.holds(lease, now) && (self.asks_backend() || round.hung_since(now).is_none())
            }
            _ => false,
        }
    }

    /// Records how a probe ended.
    pub(super) fn record_probe(
        &mut self,
        ended: Ended,
        now: Timestamp,
        policy: &Policy,
        draw: u64,
    ) -> Option<Effect> {
        let asks = self.asks_backend();
        let Phase::HalfOpen(round) = &mut self.phase else { return None };
        let lease = ended.lease?;
        let hint = match ended.outcome {
            Outcome::Failure { retry_after } => retry_after,
            Outcome::Success | Outcome::Ignored => None,
        };
        if let Some(expired) = round.hung_since(now).filter(|_| !asks) {
            // The round ended then, and this result came after it. Only its hint counts: the
            // upstream asked for a pause.
            let times = (expired, now);
            let transition = self.reopen(Reason::ProbeExpired, hint, times, policy, draw);
            return Some(Effect::Notify(vec![Event::Transition(transition)]));
        }
        let slow = ended.slow && policy.counts_slow_calls();
        let verdict = match (round.return_lease(lease, now)?, ended.outcome) {
            // Whatever it reports now, it took too long.
            (Returned::Late, _) => Verdict::Failed { reason: Reason::ProbeExpired, hint },
            (Returned::Unused, _) | (Returned::InTime, Outcome::Ignored) => Verdict::Released,
            // One failed probe is enough: a caller paid for it, and another would pay for the next.
            (Returned::InTime, Outcome::Failure { .. }) => {
                Verdict::Failed { reason: Reason::ProbeFailed, hint }
            }
            // Slow calls may be what opened the circuit. If a slow probe closed it, a saturated
            // upstream would get all its calls back at every probe.
            (Returned::InTime, Outcome::Success) if slow => {
                Verdict::Failed { reason: Reason::ProbeSlow, hint: None }
            }
            (Returned::InTime, Outcome::Success) => Verdict::Passed,
        };
        if asks {
            return Some(Effect::Settle(lease, verdict));
        }
        let transition = self.settle(verdict, now, policy, draw);
        transition.map(|transition| Effect::Notify(vec![Event::Transition(transition)]))
    }

    /// Applies the result of one of our own probes to the round.
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
            Verdict::Failed { reason, hint } => {
                Some(self.reopen(reason, hint, (now, now), policy, draw))
            }
            Verdict::Passed => round.pass(policy.successes_to_close()).then(|| {
                self.reopenings = 0;
                self.origin = Origin::Local;
                let evidence = Evidence::new(policy.window(), now);
                self.enter(Phase::Closed(evidence), Reason::ProbesSucceeded)
            }),
        }
    }

    fn reopen(
        &mut self,
        reason: Reason,
        hint: Option<Duration>,
        times: (Timestamp, Timestamp),
        policy: &Policy,
        draw: u64,
    ) -> Transition {
        self.reopenings = self.reopenings.saturating_add(1);
        self.open(reason, hint, times, policy, draw)
    }
}
