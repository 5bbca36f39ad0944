//! The state of a small cluster: a few replicas, one backend, and what is between them.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::hash::Hasher;
use std::time::Duration;

use super::copy;
use super::history::History;
use super::old::Old;
use super::replica::{Around, Replica};
use crate::backend::{
    Batch, Changes, Group, Heartbeat, Lease, Notice, OverrideChange, Records, View,
};
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::sync::circuit::{Command, Pace};
use crate::timestamp::Timestamp;

/// What is explored: few kinds of steps, so that few steps reach far.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) policy: Policy,
    pub(super) replicas: usize,
    /// How many of each there may be.
    pub(super) calls: usize,
    pub(super) ticks: usize,
    pub(super) faults: usize,
    pub(super) changes: usize,
    pub(super) lengths: Vec<Duration>,
    pub(super) kinds: Vec<Fault>,
    pub(super) overrides: Vec<OverrideChange>,
    pub(super) forged: Vec<View>,
    pub(super) pushes: Pushes,
    pub(super) wire: Wire,
    /// The circuit is open, and this replica's interval is over.
    pub(super) begins_open: bool,
    pub(super) old: Old,
    pub(super) depth: usize,
    pub(super) states: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushes {
    AtOnce,
    /// In any order, late, or never.
    AnyTime,
}

/// How fast messages and answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// A message is executed and answered as it is sent.
    AtOnce,
    /// At most so many messages are under way, and are answered as they are executed.
    Requests(usize),
    /// At most so many messages and answers are under way.
    Both(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    LoseRequest,
    LoseAnswer,
    /// The sender gives up, and the message is executed later.
    Late,
    Duplicate,
    Forge,
    Crash,
    Empty,
    /// The backend goes back to what it was when the circuit last changed.
    Failover,
    ClockBack,
    ClockForward,
    /// Heartbeats fail for too long.
    Detach,
}

/// What is under way.
#[derive(Debug)]
pub(super) enum Message {
    /// `start` of the sender; `None`: it has given up, and gets no answer.
    Request {
        from: usize,
        start: Option<u32>,
        asked: Timestamp,
        body: Body,
    },
    Answer {
        to: usize,
        start: u32,
        asked: Timestamp,
        order: u64,
        body: Answer,
    },
    Push {
        to: usize,
        view: View,
        versions: (u64, u64),
        forged: bool,
    },
}

#[derive(Debug)]
pub(super) enum Body {
    Batch(Batch),
    Command(Command),
    Lease { generation: u64, nonce: u64 },
}

#[derive(Debug)]
pub(super) enum Answer {
    Changes(Changes),
    Command(Command, View),
    Lease(Option<Lease>, View),
}

impl Clone for Body {
    fn clone(&self) -> Self {
        match self {
            Self::Batch(batch) => Self::Batch(batch.clone()),
            Self::Command(command) => Self::Command(copy::command(command)),
            Self::Lease { generation, nonce } => {
                Self::Lease { generation: *generation, nonce: *nonce }
            }
        }
    }
}

impl Clone for Answer {
    fn clone(&self) -> Self {
        match self {
            Self::Changes(changes) => Self::Changes(changes.clone()),
            Self::Command(command, view) => Self::Command(copy::command(command), view.clone()),
            Self::Lease(lease, view) => Self::Lease(*lease, view.clone()),
        }
    }
}

impl Clone for Message {
    fn clone(&self) -> Self {
        match self {
            Self::Request { from, start, asked, body } => {
                Self::Request { from: *from, start: *start, asked: *asked, body: body.clone() }
            }
            Self::Answer { to, start, asked, order, body } => Self::Answer {
                to: *to,
                start: *start,
                asked: *asked,
                order: *order,
                body: body.clone(),
            },
            Self::Push { to, view, versions, forged } => {
                Self::Push { to: *to, view: view.clone(), versions: *versions, forged: *forged }
            }
        }
    }
}

/// The backend, with a clock of its own.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) records: Records,
    /// How far its clock is ahead of that of the replicas, in microseconds.
    pub(super) ahead: u64,
    /// What it was before the last change, for a failover that loses that.
    pub(super) before: Records,
    /// How many messages it has executed.
    pub(super) order: u64,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) server: Server,
    pub(super) replicas: Vec<Replica>,
    pub(super) wire: Vec<Message>,
    pub(super) history: History,
    pub(super) calls: usize,
    pub(super) ticks: usize,
    pub(super) faults: usize,
    pub(super) changes: usize,
}

/// The backend's clock at the beginning, in microseconds.
const SERVER_START: u64 = 1_000_000_000_000;

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let now = Timestamp::from_nanos(10_000_000_000);
        let server = Server {
            records: Records::default(),
            ahead: SERVER_START,
            before: Records::default(),
            order: 0,
        };
        let mut world = Self {
            now,
            server,
            replicas: Vec::new(),
            wire: Vec::new(),
            history: History::new(scenario.replicas),
            calls: scenario.calls,
            ticks: scenario.ticks,
            faults: scenario.faults,
            changes: scenario.changes,
        };
        for number in 0..scenario.replicas {
            let name = circuit();
            let replica = Replica::new(number, 1, &world.around(&name, scenario));
            world.replicas.push(replica);
            world.heartbeat(number);
        }
        world
    }

    pub(super) fn around<'a>(&self, circuit: &'a CircuitName, of: &'a Scenario) -> Around<'a> {
        let pace = Pace {
            near: Duration::from_millis(100),
            far: Duration::from_millis(500),
            settling: Duration::from_millis(200),
            live: of.replicas as u64,
        };
        Around { circuit, policy: &of.policy, pace, now: self.now }
    }

    pub(super) fn heartbeat(&mut self, replica: usize) {
        let heartbeat = Heartbeat {
            sender: self.replicas[replica].sender(),
            version: String::new(),
            impaired: String::new(),
            seen: 0,
        };
        let now = self.server_now();
        self.server.records.replicas.heartbeat(&heartbeat, now);
    }

    /// In microseconds.
    pub(super) fn server_now(&self) -> u64 {
        self.server.ahead.saturating_add(self.now.as_nanos() / 1_000)
    }

    /// The backend executes a message.
    pub(super) fn execute(&mut self, body: Body, scenario: &Scenario) -> (Answer, Vec<Notice>) {
        let (now, name) = (self.server_now(), circuit());
        let before = self.server.records.clone();
        self.server.order += 1;
        let drops = match &body {
            Body::Command(Command::Settle(settled)) => scenario.old.drops(settled, &before, now),
            _ => false,
        };
        let circuits = self.server.records.group_of(&name, now);
        let (answer, notices) = match body {
            Body::Batch(batch) => {
                let (changes, notices) = circuits.sync(&batch, now);
                (Answer::Changes(changes), notices)
            }
            Body::Lease { generation, nonce } => {
                let ((lease, view), notice) = circuits.acquire_probe(&name, generation, nonce, now);
                (Answer::Lease(lease, view), notice.into_iter().collect())
            }
            Body::Command(command) => {
                let (view, notice) = match &command {
                    // Nothing the model sends is a day ahead, but for a forged view.
                    Command::Restore(view) => {
                        circuits.restore(&name, view, now).unwrap_or_default()
                    }
                    Command::Settle(_) if drops => {
                        circuits.restore(&name, &View::default(), now).unwrap_or_default()
                    }
                    Command::Settle(settled) => {
                        circuits.settle_probe(&name, settled.lease, &settled.probed, now)
                    }
                    Command::Override(change) => circuits.set_override(&name, change, now),
                    Command::Transition { from, to } => circuits.transition(&name, *from, to, now),
                };
                (Answer::Command(command, view), notice.into_iter().collect())
            }
        };
        if !notices.is_empty() {
            self.server.before = before;
        }
        (answer, notices)
    }

    /// The circuit, as an outsider who asks now sees it.
    pub(super) fn view(&self) -> View {
        let (now, name) = (self.server_now(), circuit());
        let mut records = self.server.records.clone();
        let sender = crate::backend::Sender { name: String::new(), id: String::new() };
        let since = crate::backend::Cursor::default();
        let batch = Batch {
            sender,
            seq: 1,
            since,
            seen: 0,
            reports: Vec::new(),
            circuits: vec![name.clone()],
        };
        let (changes, _) = records.group(Group::of(&name), now).sync(&batch, now);
        changes.views.into_iter().next().map(|(_, view)| view).unwrap_or_default()
    }

    /// A hash of everything that later steps depend on.
    pub(super) fn fingerprint(&self) -> u64 {
        let Self { now, server, replicas, wire, history, calls, ticks, faults, changes } = self;
        let budget = (calls, ticks, faults, changes);
        // Messages are in no order.
        let wire: BTreeSet<u64> = wire.iter().enumerate().map(|(n, m)| digest(m, n)).collect();
        digest(&(now, server, replicas, wire, history, budget), 0)
    }
}

fn digest(value: &impl fmt::Debug, _: usize) -> u64 {
    let mut text = Digest(std::hash::DefaultHasher::new());
    // It cannot fail.
    let _ = write!(text, "{value:?}");
    text.0.finish()
}

struct Digest(std::hash::DefaultHasher);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

pub(super) fn circuit() -> CircuitName {
    CircuitName::expect("c")
}
