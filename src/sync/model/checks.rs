//! What must never happen, and what must happen in the end.

use std::time::Duration;

use super::history::Issued;
use super::old::Old;
use super::steps::Step;
use super::world::{Answer, Body, Message, Scenario, Wire, World, circuit};
use crate::backend::{Move, OverrideChange, Probed, RecordState, Report, View};
use crate::sync::circuit::Command;

/// What happened that must not.
pub(super) type Violation = String;

/// After so many rounds without faults, everything must agree.
const ROUNDS: usize = 60;

impl Scenario {
    /// For how long a message may be under way.
    fn lag(&self) -> Duration {
        let longest = self.lengths.iter().max().copied().unwrap_or_default();
        match self.wire {
            Wire::AtOnce => Duration::ZERO,
            Wire::Requests(_) | Wire::Both(_) => {
                longest * u32::try_from(self.ticks).unwrap_or(u32::MAX) + Duration::from_secs(1)
            }
        }
    }
}

impl Issued {
    pub(super) fn says_as(&self, change: &OverrideChange) -> bool {
        match (&self.change, change) {
            (OverrideChange::Set(one), OverrideChange::Set(other)) => one.says_as(other),
            (one, other) => one == other,
        }
    }
}

impl World {
    /// What holds after every step.
    pub(super) fn check(&self, scenario: &Scenario) -> Result<(), Violation> {
        let view = self.view();
        self.check_evidence(&view)?;
        self.check_probes(&view)?;
        self.check_known()?;
        self.check_confirmations(scenario)
    }

    /// Every result is counted once at most, in its own generation, and not for longer than its
    /// time.
    fn check_evidence(&self, view: &View) -> Result<(), Violation> {
        if view.state != RecordState::Closed || self.history.jumped {
            return Ok(());
        }
        let horizon = Report::HORIZON + Duration::from_millis(1);
        let since = crate::timestamp::Timestamp::from_nanos(
            self.now.as_nanos().saturating_sub(crate::timestamp::nanos(horizon)),
        );
        let true_failures = self.history.failures(view.generation, since);
        let counted = view.tally.consecutive_failures;
        if counted > true_failures {
            return Err(format!(
                "the backend counts {counted} failures in generation {}, and there were \
                 {true_failures}",
                view.generation
            ));
        }
        Ok(())
    }

    /// Never more leases out than probe slots.
    fn check_probes(&self, view: &View) -> Result<(), Violation> {
        let RecordState::HalfOpen { terms, out, .. } = view.state else { return Ok(()) };
        if out > terms.probes {
            return Err(format!("{out} leases are out of {}", terms.probes));
        }
        let running = self.replicas.iter().flat_map(|replica| {
            replica.probes.iter().filter(move |probe| {
                probe.generation == Some(view.generation)
                    && probe.phase == replica.phase
                    && replica.machine.holds(probe.lease, self.now)
            })
        });
        let running = running.count() as u64;
        if running > terms.probes && !self.history.lost && !self.history.jumped {
            return Err(format!("{running} probes run in {} slots", terms.probes));
        }
        Ok(())
    }

    /// Nothing is known that neither the backend nor an answer has said.
    fn check_known(&self) -> Result<(), Violation> {
        for replica in &self.replicas {
            let known = &replica.sync.known;
            if !self.history.generations.contains(&known.generation) {
                return Err(format!(
                    "replica {} knows generation {}, which the backend never had",
                    replica.number, known.generation
                ));
            }
            if !self.history.versions.contains(&known.overridden.version) {
                return Err(format!(
                    "replica {} knows version {} of the override, which the backend never had",
                    replica.number, known.overridden.version
                ));
            }
        }
        Ok(())
    }

    /// What operators get as an answer is true.
    fn check_confirmations(&self, scenario: &Scenario) -> Result<(), Violation> {
        for issued in &self.history.issued {
            let others = self.history.issued.len() > 1;
            match &issued.result {
                Some(Ok(())) if !issued.executed && !others && scenario.forged.is_empty() => {
                    return Err(format!("{:?} is confirmed, and was not executed", issued.change));
                }
                Some(Err(error)) if error.contains("another override") && !others => {
                    return Err(format!("{:?} is superseded by nothing", issued.change));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// No call is made while the newest answer says open.
    pub(super) fn check_call(&self, n: usize) -> Result<(), Violation> {
        let replica = &self.replicas[n];
        let overridden = replica.machine.state().is_overridden()
            || replica.sync.outbox.change.is_some()
            || replica.sync.known.overridden.version != replica.sync.followed.overridden.version;
        let Some(heard) = &self.history.heard[n] else { return Ok(()) };
        let hinted = replica.sync.hint.is_some();
        if !replica.is_synced() || overridden || hinted || heard.view.rank() < heard.highest {
            return Ok(());
        }
        if let RecordState::Open { remaining, terms } = heard.view.state
            && heard.at.after(remaining.min(terms.interval)) > self.now
        {
            return Err(format!(
                "replica {n} makes a call, and generation {} is open",
                heard.view.generation
            ));
        }
        Ok(())
    }

    /// What the backend has done with a message. It was as in the view `before`.
    pub(super) fn executed(
        &mut self,
        body: &Body,
        answer: &Answer,
        before: &View,
    ) -> Result<(), Violation> {
        for view in answer.views() {
            if let RecordState::Open { terms, remaining } = view.state
                && remaining > terms.interval
            {
                return Err(format!("{remaining:?} remain of an interval of {:?}", terms.interval));
            }
        }
        let now = self.view();
        if let Body::Command(Command::Restore(_)) = body {
            if !self.history.generations.contains(&now.generation) {
                return Err(format!(
                    "generation {} is written into the backend, which never had it",
                    now.generation
                ));
            }
            if !self.history.versions.contains(&now.overridden.version) {
                return Err(format!(
                    "override {} is written into the backend, which never had it",
                    now.overridden.version
                ));
            }
        }
        self.history.generations.insert(now.generation);
        self.history.versions.insert(now.overridden.version);
        let Body::Command(Command::Settle(settled)) = body else { return Ok(()) };
        let generation = settled.lease.generation;
        let runs = matches!(before.state, RecordState::HalfOpen { .. });
        if !runs || before.generation != generation {
            return Ok(());
        }
        if matches!(settled.probed, Probed::Failed { .. }) {
            self.history.failed.insert(generation);
        }
        let closes = now.state == RecordState::Closed;
        if closes && self.history.failed.contains(&generation) {
            return Err(format!("round {generation} closes, and a probe of it has failed"));
        }
        Ok(())
    }

    pub(super) fn hears(&mut self, n: usize, order: u64, body: &Answer) {
        for view in body.views() {
            self.history.hear(n, order, view, self.now);
        }
    }

    pub(super) fn proposal(&self, n: usize) -> Option<Move> {
        self.replicas[n].sync.outbox.proposal.clone()
    }

    /// A circuit that totals open had so many consecutive failures, in the true order of all calls.
    pub(super) fn check_proposal(
        &self,
        n: usize,
        before: Option<Move>,
        whole: bool,
        scenario: &Scenario,
    ) -> Result<(), Violation> {
        let sync = &self.replicas[n].sync;
        let proposed = sync.outbox.proposal.as_ref();
        let Some(Move::Open { tally, .. }) = proposed else { return Ok(()) };
        let generation = sync.followed.generation;
        let quorum = scenario.policy.quorum();
        let failing = self.history.failing(generation);
        let history = &self.history;
        if history.lost || history.jumped || before.as_ref() == proposed {
            return Ok(());
        }
        if quorum > 1 && failing < quorum {
            return Err(format!("{failing} replicas have failed, and {quorum} are needed"));
        }
        let longest = self.history.longest_streak(generation, scenario.lag());
        let claimed = tally.consecutive_failures;
        if whole && !history.crashed && sync.trip.as_ref() != proposed && longest < claimed {
            return Err(format!(
                "replica {n} proposes to open after {claimed} consecutive failures, and there \
                 were {longest}"
            ));
        }
        Ok(())
    }

    /// Something forged is gone after the next answer to something that was sent after it.
    pub(super) fn check_forged(
        &mut self,
        n: usize,
        asked: crate::timestamp::Timestamp,
    ) -> Result<(), Violation> {
        let forged = self.history.forged[n].filter(|at| asked > *at);
        let Some(at) = forged.filter(|_| self.replicas[n].is_synced()) else { return Ok(()) };
        let followed = &self.replicas[n].sync.followed;
        let generations = &self.history.generations;
        let versions = &self.history.versions;
        if !generations.contains(&followed.generation)
            || !versions.contains(&followed.overridden.version)
        {
            return Err(format!(
                "replica {n} still follows what was forged at {at:?}, after an answer to what was \
                 sent at {asked:?}"
            ));
        }
        self.history.forged[n] = None;
        Ok(())
    }

    /// After the last fault, while messages flow and the upstream is healthy, all replicas follow
    /// the backend before long, and the circuit closes.
    ///
    /// # Errors
    ///
    /// If they do not, or if something happens on the way that must not.
    pub(super) fn check_settles(&self, scenario: &Scenario) -> Result<(), Violation> {
        let mut world = self.clone();
        let mut calm = scenario.clone();
        if world.wire.is_empty() {
            calm.wire = Wire::AtOnce;
        }
        for round in 1..=ROUNDS {
            let after = |why| format!("in round {round} without faults: {why}");
            world.round(&calm).map_err(after)?;
            if world.disagreement().is_none() {
                return world.check_overrides(scenario).map_err(after);
            }
        }
        let why = world.disagreement().unwrap_or_default();
        Err(format!("after {ROUNDS} rounds without faults: {why}"))
    }

    fn round(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        self.deliver(scenario)?;
        for n in 0..self.replicas.len() {
            while !self.replicas[n].probes.is_empty() {
                self.step(Step::ProbeSucceeds(n), scenario)?;
            }
            let name = circuit();
            while self.replicas[n].wants_command(&self.around(&name, scenario)) {
                self.step(Step::SendCommand(n), scenario)?;
                self.deliver(scenario)?;
            }
            if !self.replicas[n].group.in_flight {
                self.step(Step::SendBatch(n), scenario)?;
                self.deliver(scenario)?;
            }
            self.calls = 1;
            self.step(Step::Succeed(n), scenario)?;
            self.deliver(scenario)?;
        }
        self.step(Step::Tick(Duration::from_millis(510)), scenario)
    }

    fn deliver(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        while let Some(message) = self.wire.first() {
            match message {
                Message::Request { .. } => self.step(Step::Execute(0), scenario)?,
                Message::Answer { .. } | Message::Push { .. } => {
                    self.step(Step::Arrive(0), scenario)?;
                }
            }
        }
        Ok(())
    }

    /// In what the cluster does not agree, if it does not.
    fn disagreement(&self) -> Option<Violation> {
        let view = self.view();
        for replica in &self.replicas {
            let (n, sync) = (replica.number, &replica.sync);
            let outbox = &sync.outbox;
            let empty = !outbox.busy
                && !outbox.restore
                && outbox.settled.is_empty()
                && outbox.change.is_none()
                && outbox.proposal.is_none();
            let roll = |view: &View| view.suspect.map(|roll| roll.id);
            let plain = |view: &View| view.state == RecordState::Closed && roll(view).is_none();
            // A closed record comes and goes with its evidence, and the next one begins in the
            // first generation.
            let same = sync.followed.rank() == view.rank() && roll(&sync.followed) == roll(&view)
                || plain(&sync.followed)
                    && plain(&view)
                    && (view.generation == View::FIRST
                        || view.generation == sync.followed.generation);
            if !replica.is_synced() {
                return Some(format!("replica {n} stays {:?}", sync.state));
            } else if !empty {
                return Some(format!("the outbox of replica {n} stays full: {outbox:?}"));
            } else if sync.hint.is_some() {
                return Some(format!("replica {n} still follows a hint: {:?}", sync.hint));
            } else if !same {
                return Some(format!("replica {n} follows {:?}, not {view:?}", sync.followed));
            } else if sync.followed.overridden.version != view.overridden.version {
                return Some(format!(
                    "replica {n} follows {:?}, not {:?}",
                    sync.followed.overridden, view.overridden
                ));
            }
            let state = replica.machine.state();
            let expected = match &view.overridden.record {
                Some(record) => record.state.state(),
                None => crate::machine::State::Closed,
            };
            if state != expected {
                return Some(format!("replica {n} is {state}, not {expected}"));
            }
        }
        let closed = view.state == RecordState::Closed || view.overridden.record.is_some();
        (!closed).then(|| format!("the circuit does not close: {view:?}"))
    }

    /// An override that an operator set is in the backend, or superseded.
    fn check_overrides(&self, scenario: &Scenario) -> Result<(), Violation> {
        let history = &self.history;
        for issued in &history.issued {
            let gone = self.replicas[issued.replica].start != issued.start;
            if issued.result.is_none() && !gone {
                return Err(format!("nobody answers the operator of {:?}", issued.change));
            }
            let only = history.issued.len() == 1 && !history.lost && !gone;
            if only && scenario.forged.is_empty() && scenario.old == Old::No {
                let view = self.view();
                let holds = match (&issued.change, &view.overridden.record) {
                    (OverrideChange::Set(one), Some(other)) => one.says_as(other),
                    (OverrideChange::Set(one), None) => one.remaining.is_some(),
                    (OverrideChange::Clear | OverrideChange::Reset, other) => other.is_none(),
                };
                if !holds {
                    return Err(format!("{:?} is not in the backend: {view:?}", issued.change));
                }
            }
        }
        Ok(())
    }
}
