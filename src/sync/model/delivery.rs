//! Messages on their way: sent, executed, answered, pushed, or not.

use super::checks::Violation;
use super::copy;
use super::history::Issued;
use super::old::Old;
use super::world::{Answer, Body, Message, Pushes, Scenario, Wire, World, circuit};
use crate::backend::{BackendError, Notice, View};
use crate::sync::circuit::{Command, Input, Totals};

impl World {
    pub(super) fn ask(&mut self, n: usize, scenario: &Scenario) -> Result<(), Violation> {
        let Some(asking) = self.replicas[n].asking else { return Ok(()) };
        let (generation, nonce) = (asking.generation, asking.nonce);
        self.send(n, Body::Lease { generation, nonce }, scenario)
    }

    pub(super) fn send(
        &mut self,
        from: usize,
        body: Body,
        scenario: &Scenario,
    ) -> Result<(), Violation> {
        let start = Some(self.replicas[from].start);
        self.wire.push(Message::Request { from, start, asked: self.now, body });
        match scenario.wire {
            Wire::AtOnce => self.run(self.wire.len() - 1, Answered::Yes, scenario),
            Wire::Requests(_) | Wire::Both(_) => Ok(()),
        }
    }

    /// The backend executes a message, and answers.
    pub(super) fn run(
        &mut self,
        n: usize,
        answered: Answered,
        of: &Scenario,
    ) -> Result<(), Violation> {
        let message = self.wire.remove(n);
        let Message::Request { from, start, asked, body } = message.clone() else { return Ok(()) };
        self.executes(&body);
        let before = self.view();
        let (mut answer, notices) = self.execute(body.clone(), of);
        let now = self.server_now();
        for view in answer.views_mut() {
            of.old.answer(view, &mut self.history.until, now);
        }
        self.executed(&body, &answer, &before)?;
        for notice in notices {
            self.publish(notice, of)?;
        }
        let Some(start) = start else { return Ok(()) };
        if answered == Answered::Lost {
            return self.unanswered(message, of);
        }
        let order = self.server.order;
        let answer = Message::Answer { to: from, start, asked, order, body: answer };
        match of.wire {
            Wire::AtOnce | Wire::Requests(_) => self.arrive(answer, of),
            Wire::Both(_) => {
                self.wire.push(answer);
                Ok(())
            }
        }
    }

    fn publish(&mut self, notice: Notice, scenario: &Scenario) -> Result<(), Violation> {
        let Notice::Changed { view, previous, version, .. } = notice else { return Ok(()) };
        for to in 0..self.replicas.len() {
            let (view, versions) = (View::clone(&view), (previous, version));
            let push = Message::Push { to, view, versions, forged: false };
            match scenario.pushes {
                Pushes::AtOnce => self.arrive(push, scenario)?,
                Pushes::AnyTime => self.wire.push(push),
            }
        }
        Ok(())
    }

    pub(super) fn arrive(
        &mut self,
        message: Message,
        scenario: &Scenario,
    ) -> Result<(), Violation> {
        let name = circuit();
        let around = self.around(&name, scenario);
        match message {
            Message::Request { .. } => {}
            Message::Push { to, view, versions, forged } => {
                if forged {
                    self.history.forged[to] = Some(self.now);
                }
                let replica = &mut self.replicas[to];
                if scenario.old == Old::PushesAreAnswers {
                    let (asked, at, totals) = (self.now, self.now, Totals::Absent);
                    replica.input(Input::Answer { view: &view, asked, at, totals }, &around);
                } else {
                    replica.pushed(&view, versions, &around);
                }
            }
            Message::Answer { to, start, asked, order, body } => {
                if self.replicas[to].start != start {
                    return Ok(());
                }
                self.hears(to, order, &body);
                let before = self.proposal(to);
                let replica = &mut self.replicas[to];
                let whole = match &body {
                    Answer::Changes(changes) => {
                        replica.synced(changes, asked, &around);
                        whole(changes.views.iter().map(|(_, view)| view), around.pace.live)
                    }
                    Answer::Command(command, view) => {
                        let command = copy::command(command);
                        replica.input(
                            Input::Done { command: &command, result: Ok(view), asked },
                            &around,
                        );
                        false
                    }
                    Answer::Lease(lease, view) => {
                        if replica.lease_answered(Some((*lease, view)), asked, &around) {
                            self.ask(to, scenario)?;
                        }
                        false
                    }
                };
                self.check_proposal(to, before.as_ref(), whole, scenario)?;
                if !body.views().is_empty() {
                    self.check_forged(to, asked)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn unanswered(
        &mut self,
        message: Message,
        scenario: &Scenario,
    ) -> Result<(), Violation> {
        let name = circuit();
        let around = self.around(&name, scenario);
        let Message::Request { from, start: Some(start), asked, body } = message else {
            return Ok(());
        };
        let replica = &mut self.replicas[from];
        if replica.start != start {
            return Ok(());
        }
        match body {
            Body::Batch(_) => replica.not_synced(),
            Body::Command(command) => {
                let error = BackendError::unavailable("lost");
                let result = Err(&error);
                replica.input(Input::Done { command: &command, result, asked }, &around);
            }
            Body::Lease { .. } => {
                if replica.lease_answered(None, asked, &around) {
                    return self.ask(from, scenario);
                }
            }
        }
        Ok(())
    }

    fn executes(&mut self, body: &Body) {
        if let Body::Command(Command::Override(change)) = body {
            let same = |issued: &&mut Issued| !issued.executed && issued.says_as(change);
            if let Some(issued) = self.history.issued.iter_mut().find(same) {
                issued.executed = true;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    Lost,
}

/// Whether all live replicas have answered the roll call.
fn whole<'a>(mut views: impl Iterator<Item = &'a View>, live: u64) -> bool {
    views.any(|view| view.suspect.is_some_and(|roll| roll.answered >= live))
}

impl Answer {
    pub(super) fn views_mut(&mut self) -> Vec<&mut View> {
        match self {
            Self::Changes(changes) => changes.views.iter_mut().map(|(_, view)| view).collect(),
            Self::Command(_, view) | Self::Lease(_, view) => vec![view],
        }
    }

    pub(super) fn views(&self) -> Vec<&View> {
        match self {
            Self::Changes(changes) => changes.views.iter().map(|(_, view)| view).collect(),
            Self::Command(_, view) | Self::Lease(_, view) => vec![view],
        }
    }
}
