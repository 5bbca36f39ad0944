//! What happened in this process, on its way to the backend.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use super::circuit::{Change, CircuitSync, Context, Detached, Pace, Settled, SyncState};
use super::overrides::left;
use super::scheduler::Class;
use crate::backend::{BackendError, Geometry, Lease, Move, OpenTerms, Probed, RecordState, Report};
use crate::machine::{
    Backing, LeaseId, Machine, Origin, Reason, State, Tally, Transition, Verdict,
};
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// When a circuit wants to send, and to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Agenda {
    /// A [command](CircuitSync::command).
    pub(crate) command: Option<(Class, Timestamp)>,
    /// A [report](CircuitSync::report), with those of its group.
    pub(crate) report: Option<(Class, Timestamp)>,
    /// A [tick](super::circuit::Input::Tick).
    pub(crate) tick: Option<Timestamp>,
    /// The circuit is closed and quiet: a lost push about it does no harm for a while.
    pub(crate) is_plain: bool,
    pub(crate) is_unknown: bool,
    /// The backend has described the circuit at some time.
    pub(crate) has_view: bool,
    /// A report of it answers a roll call.
    pub(crate) answers_roll: bool,
    pub(crate) is_synced: bool,
    /// A command is under way.
    pub(crate) is_busy: bool,
    /// Why the backend refuses the circuit.
    pub(crate) refused: Option<String>,
}

impl Default for Agenda {
    /// That of a circuit that has left the cluster.
    fn default() -> Self {
        Self {
            command: None,
            report: None,
            tick: None,
            is_plain: true,
            is_unknown: false,
            has_view: true,
            answers_roll: false,
            is_synced: false,
            is_busy: false,
            refused: None,
        }
    }
}

/// What happened here.
impl CircuitSync {
    /// The machine has made a transition.
    pub(crate) fn transitioned(
        &mut self,
        transition: &Transition,
        policy: &Policy,
        machine: &Machine,
    ) {
        if self.followed.state != RecordState::Closed || transition.origin != Origin::Local {
            return;
        }
        match transition.to {
            State::Open if transition.reason != Reason::OverrideOver => {
                let terms = terms(policy, machine, transition.open_for.unwrap_or_default());
                let (reason, tally) = (transition.reason, transition.tally);
                let last_error = transition.last_error.clone();
                self.trip = Some(Move::Open { terms, reason, tally, last_error });
                self.trip_until = machine.rejects_until(policy).unwrap_or_default();
                self.opened_in = Some(self.followed.generation);
                self.outbox.proposal = None;
                self.voted = false;
            }
            State::Closed => {
                self.trip = None;
                // What had opened it has had its effect, for the cluster too.
                self.drop_evidence(policy);
            }
            _ => {}
        }
    }

    /// A probe of the cluster has ended; if it failed, with this error.
    pub(crate) fn settle(
        &mut self,
        lease: LeaseId,
        verdict: Verdict,
        last_error: Option<Arc<str>>,
        policy: &Policy,
        machine: &Machine,
    ) {
        let reopenings = machine.reopenings().saturating_add(1);
        let probed = match verdict {
            Verdict::Passed => Probed::Passed,
            Verdict::Released => Probed::Released,
            Verdict::Failed { reason, hint } => {
                let interval = policy.open_interval(reopenings, hint, fastrand::u64(..));
                let terms = OpenTerms { reopenings, ..terms(policy, machine, interval) };
                Probed::Failed { terms, reason, last_error }
            }
        };
        let generation = self.followed.generation;
        let lease = Lease { generation, nonce: lease.0, remaining: Duration::ZERO };
        self.outbox.settled.push(Settled { lease, probed, verdict });
    }

    /// Proposes to all that the open interval of the cluster ends. Returns false if there is none.
    pub(crate) fn propose_to_probe(&mut self, machine: &Machine) -> bool {
        let RecordState::Open { terms, .. } = self.followed.state else { return false };
        if machine.state() != State::Open {
            return false;
        }
        // As short as an interval can be. The one after a failed probe is drawn from the policy.
        let terms = OpenTerms { interval: Duration::from_millis(1), ..terms };
        let (reason, tally) = (Reason::Override, Tally::default());
        self.outbox.proposal = Some(Move::Open { terms, reason, tally, last_error: None });
        true
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        for lease in cx.machine.take_expired(cx.now) {
            let verdict = Verdict::Failed { reason: Reason::ProbeExpired, hint: None };
            self.settle(lease, verdict, None, cx.policy, cx.machine);
        }
        if let Some(change) = &self.outbox.change
            && !change.sent
            && change.ends().is_some_and(|ends| ends <= cx.now)
        {
            let change = take(&mut self.outbox.change);
            let error = BackendError::refused("the override ended before the backend stored it");
            if let Some(change) = change {
                change.end(Err(error), cx.effects);
            }
        }
    }

    /// The circuit leaves the cluster: nothing is sent any more.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        self.detach(Detached::Unreachable, cx);
        cx.machine.set_backing(Backing::None);
        if let Some(change) = self.outbox.change.take() {
            change.end(Err(left()), cx.effects);
        }
    }
}

/// What is sent.
impl CircuitSync {
    /// When the circuit wants to send something.
    pub(crate) fn agenda(&self, policy: &Policy, machine: &Machine, pace: Pace) -> Agenda {
        let ends = self.outbox.change.as_ref().and_then(Change::ends);
        Agenda {
            command: self.next_class(policy).map(|class| (class, self.command_at(policy))),
            report: self.next_report(policy, machine, pace),
            tick: machine.next_expiry().into_iter().chain(ends).min(),
            is_plain: self.followed.state == RecordState::Closed
                && self.followed.suspect.is_none()
                && self.followed.overridden.record.is_none(),
            is_unknown: self.is_unknown(),
            has_view: self.at > Timestamp::default(),
            answers_roll: self.counts(machine) && self.has_roll_to_answer(),
            is_synced: self.is_synced(),
            is_busy: self.outbox.busy,
            refused: match &self.state {
                SyncState::Detached(Detached::Refused { error, .. }) => Some(error.to_string()),
                _ => None,
            },
        }
    }
}

/// What an open phase of so long shall obey.
pub(super) fn terms(policy: &Policy, machine: &Machine, interval: Duration) -> OpenTerms {
    OpenTerms {
        interval,
        reopenings: machine.reopenings(),
        probes: policy.probes(),
        lease: policy.probe_lease(),
        successes_to_close: policy.successes_to_close(),
    }
}

/// How far back evidence goes.
pub(super) fn horizon(policy: &Policy) -> Duration {
    Geometry::of(policy).map_or(Report::HORIZON, |window| Duration::from_millis(window.millis))
}
