//! What can happen next.

use std::time::Duration;

use super::checks::Violation;
use super::delivery::Answered;
use super::history::{Issued, Recorded};
use super::replica::{Called, Replica};
use super::world::{Body, Fault, Message, Scenario, Wire, World, circuit};
use crate::outcome::Outcome;
use crate::sync::circuit::SyncState;

/// One thing that happens. Numbers are those of replicas, or of messages under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Succeed(usize),
    Fail(usize),
    ProbeSucceeds(usize),
    ProbeFails(usize),
    SendBatch(usize),
    SendCommand(usize),
    Execute(usize),
    Arrive(usize),
    /// An operator changes the override on a replica.
    Override(usize, usize),
    Tick(Duration),
    LoseRequest(usize),
    LoseAnswer(usize),
    GiveUp(usize),
    Duplicate(usize),
    /// A forged push arrives at a replica.
    Forge(usize, usize),
    Crash(usize),
    Empty,
    Failover,
    ClockBack,
    ClockForward,
    Detach(usize),
}

/// How far the backend's clock jumps, in microseconds.
const JUMP: u64 = 3_600_000_000;

/// How long a call takes.
const CALL: Duration = Duration::from_millis(1);

/// A forged version.
const FAR_AHEAD: u64 = 1 << 53;

impl World {
    pub(super) fn steps(&self, scenario: &Scenario) -> Vec<Step> {
        let mut steps = Vec::new();
        let name = circuit();
        let around = self.around(&name, scenario);
        let requests = self.wire.iter().filter(|m| !matches!(m, Message::Push { .. })).count();
        let room = match scenario.wire {
            Wire::AtOnce => true,
            Wire::Requests(most) | Wire::Both(most) => requests < most,
        };
        for (n, replica) in self.replicas.iter().enumerate() {
            if self.calls > 0 && room {
                steps.extend([Step::Succeed(n), Step::Fail(n)]);
            }
            if !replica.probes.is_empty() {
                steps.extend([Step::ProbeSucceeds(n), Step::ProbeFails(n)]);
            }
            if room && replica.wants_command(&around) {
                steps.push(Step::SendCommand(n));
            }
            if room && replica.wants_batch(&around) {
                steps.push(Step::SendBatch(n));
            }
            if self.changes > 0 {
                steps.extend((0..scenario.overrides.len()).map(|kind| Step::Override(n, kind)));
            }
        }
        for (n, message) in self.wire.iter().enumerate() {
            steps.push(match message {
                Message::Request { .. } => Step::Execute(n),
                Message::Answer { .. } | Message::Push { .. } => Step::Arrive(n),
            });
        }
        if self.ticks > 0 {
            steps.extend(scenario.lengths.iter().map(|length| Step::Tick(*length)));
        }
        if self.faults > 0 {
            scenario.kinds.iter().for_each(|kind| self.faults(*kind, scenario, &mut steps));
        }
        steps
    }

    fn faults(&self, kind: Fault, scenario: &Scenario, steps: &mut Vec<Step>) {
        let replicas = 0..self.replicas.len();
        let requests = || {
            let all = self.wire.iter().enumerate();
            all.filter_map(|(n, message)| match message {
                Message::Request { start, .. } => Some((n, start.is_some())),
                _ => None,
            })
        };
        let waited = || requests().filter(|(_, waited)| *waited).map(|(n, _)| n);
        match kind {
            Fault::LoseRequest => steps.extend(requests().map(|(n, _)| Step::LoseRequest(n))),
            Fault::LoseAnswer => steps.extend(waited().map(Step::LoseAnswer)),
            Fault::Late => steps.extend(waited().map(Step::GiveUp)),
            Fault::Duplicate => steps.extend(waited().map(Step::Duplicate)),
            Fault::Forge => {
                for n in replicas {
                    steps.extend((0..scenario.forged.len()).map(|kind| Step::Forge(n, kind)));
                }
            }
            Fault::Crash => steps.extend(replicas.map(Step::Crash)),
            Fault::Empty => steps.push(Step::Empty),
            Fault::Failover => steps.push(Step::Failover),
            Fault::ClockBack => steps.push(Step::ClockBack),
            Fault::ClockForward => steps.push(Step::ClockForward),
            Fault::Detach => {
                let attached =
                    |n: &usize| !matches!(&self.replicas[*n].sync.state, SyncState::Detached(_));
                steps.extend(replicas.filter(attached).map(Step::Detach));
            }
        }
    }

    /// # Errors
    ///
    /// If something happens that must not.
    pub(super) fn step(&mut self, step: Step, scenario: &Scenario) -> Result<(), Violation> {
        // The code under test draws only where the model has fixed what follows from it.
        fastrand::seed(7);
        let name = circuit();
        match step {
            Step::Succeed(n) => self.call(n, Outcome::Success, scenario)?,
            Step::Fail(n) => self.call(n, Outcome::failure(), scenario)?,
            Step::ProbeSucceeds(n) => self.probe_ends(n, Outcome::Success, scenario),
            Step::ProbeFails(n) => self.probe_ends(n, Outcome::failure(), scenario),
            Step::SendBatch(n) => {
                let around = self.around(&name, scenario);
                let mut batch = self.replicas[n].batch(&around);
                scenario.old.send(&mut batch);
                self.send(n, Body::Batch(batch), scenario)?;
            }
            Step::SendCommand(n) => {
                let around = self.around(&name, scenario);
                if let Some(command) = self.replicas[n].command(&around) {
                    self.send(n, Body::Command(command), scenario)?;
                }
            }
            Step::Execute(n) => self.run(n, Answered::Yes, scenario)?,
            Step::LoseAnswer(n) => {
                self.faults -= 1;
                self.run(n, Answered::Lost, scenario)?;
            }
            Step::Arrive(n) => {
                let message = self.wire.remove(n);
                self.arrive(message, scenario)?;
            }
            Step::Override(n, kind) => self.change_override(n, kind, scenario),
            Step::Tick(length) => self.pass(length, scenario),
            Step::LoseRequest(n) => {
                self.faults -= 1;
                let message = self.wire.remove(n);
                self.unanswered(message, scenario)?;
            }
            Step::GiveUp(n) | Step::Duplicate(n) => {
                self.faults -= 1;
                let mut late = self.wire[n].clone();
                if let Message::Request { start, .. } = &mut late {
                    *start = None;
                }
                if matches!(step, Step::GiveUp(_)) {
                    let message = std::mem::replace(&mut self.wire[n], late);
                    self.unanswered(message, scenario)?;
                } else {
                    self.wire.push(late);
                }
            }
            Step::Forge(n, kind) => {
                self.faults -= 1;
                let view = scenario.forged[kind].clone();
                // As if it were the next change of the group, and far ahead.
                let versions = (self.replicas[n].group.seen, FAR_AHEAD);
                self.arrive(Message::Push { to: n, view, versions, forged: true }, scenario)?;
            }
            Step::Crash(n) => self.crash(n, scenario),
            Step::Empty => {
                self.faults -= 1;
                self.server.records.forget();
                self.lose();
            }
            Step::Failover => {
                self.faults -= 1;
                self.server.records = self.server.before.clone();
                self.lose();
            }
            Step::ClockBack | Step::ClockForward => {
                self.faults -= 1;
                self.history.jumped = true;
                let ahead = &mut self.server.ahead;
                *ahead = if step == Step::ClockBack { *ahead - JUMP } else { *ahead + JUMP };
            }
            Step::Detach(n) => {
                self.faults -= 1;
                let around = self.around(&name, scenario);
                self.replicas[n].degrade(&around);
            }
        }
        self.note_confirmations();
        self.check(scenario)
    }

    fn call(&mut self, n: usize, outcome: Outcome, scenario: &Scenario) -> Result<(), Violation> {
        self.calls -= 1;
        // No two calls end at the same time: then their order would be unknown.
        self.now = self.now.after(CALL);
        let name = circuit();
        let around = self.around(&name, scenario);
        let generation = self.replicas[n].sync.generation();
        let closed = self.replicas[n].machine.state() == crate::machine::State::Closed;
        match self.replicas[n].call(outcome, &around) {
            Called::Recorded => {
                self.check_call(n)?;
                if closed {
                    let failed = outcome != Outcome::Success;
                    let recorded = Recorded { replica: n, generation, at: self.now, failed };
                    self.history.results.push(recorded);
                }
            }
            Called::Asks => self.ask(n, scenario)?,
            Called::Probing | Called::Rejected | Called::Waits => {}
        }
        Ok(())
    }

    fn probe_ends(&mut self, n: usize, outcome: Outcome, scenario: &Scenario) {
        let name = circuit();
        let around = self.around(&name, scenario);
        self.replicas[n].probe_ends(outcome, &around);
    }

    fn change_override(&mut self, n: usize, kind: usize, scenario: &Scenario) {
        self.changes -= 1;
        let name = circuit();
        let around = self.around(&name, scenario);
        let change = scenario.overrides[kind].clone();
        let replica = &mut self.replicas[n];
        let start = replica.start;
        let issued =
            Issued { replica: n, start, change: change.clone(), executed: false, result: None };
        replica.change_override(&change, &around);
        self.note_confirmations();
        self.history.issued.push(issued);
    }

    /// Notes what operators got as an answer.
    fn note_confirmations(&mut self) {
        for replica in &mut self.replicas {
            for result in std::mem::take(&mut replica.confirmed) {
                let waiting = self.history.issued.iter_mut().find(|issued| {
                    (issued.replica, issued.start) == (replica.number, replica.start)
                        && issued.result.is_none()
                });
                if let Some(issued) = waiting {
                    issued.result = Some(result);
                }
            }
        }
    }

    pub(super) fn pass(&mut self, length: Duration, scenario: &Scenario) {
        self.ticks = self.ticks.saturating_sub(1);
        self.now = self.now.after(length);
        let name = circuit();
        let around = self.around(&name, scenario);
        for n in 0..self.replicas.len() {
            self.heartbeat(n);
            self.replicas[n].tick(&around);
        }
    }

    /// The backend has lost something. Its connections break then.
    fn lose(&mut self) {
        self.history.lost = true;
        self.replicas.iter_mut().for_each(Replica::restart);
    }

    fn crash(&mut self, n: usize, scenario: &Scenario) {
        self.faults -= 1;
        self.history.crashed = true;
        let name = circuit();
        let start = self.replicas[n].start + 1;
        self.replicas[n] = Replica::new(n, start, &self.around(&name, scenario));
        self.history.heard[n] = None;
        self.history.forged[n] = None;
        self.heartbeat(n);
    }
}
