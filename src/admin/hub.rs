//! The task that writes events for all connections of a service. It runs while there are some.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::inputs::{Input, Inputs};
use super::log::Writer;
use super::shared::Shared;
use super::wire::{Circuit, Moved, Replica, json};
use crate::clock;
use crate::event::{BackendStatus, HistoryEntry, Transition};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// How often all circuits are looked at, for counts that have grown.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at circuits whose state has changed, and before the first.
const AGAIN: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_millis(10);

/// How often comments are written.
const PING: Duration = Duration::from_secs(10);

/// How often the replicas are read, and all circuits of a backend, in case a change was not pushed.
const REPLICAS: Duration = Duration::from_secs(2);
const REREAD: Duration = Duration::from_secs(10);

/// For how long the hub goes on without connections, so that a page that comes back gets what it
/// has missed.
const LINGER: u32 = 5;

/// For how long a frame may wait for a connection, which is then ended: a peer that reads nothing
/// keeps no seat.
const UNREAD: Duration = Duration::from_secs(30);

/// Between looks at so many circuits, other tasks get a turn.
const AT_A_TIME: usize = 64;

/// Runs while there are connections, and no longer than the service exists.
pub(super) async fn run(shared: Weak<Shared>, writer: Writer) {
    let Some(strong) = shared.upgrade() else { return };
    let mut hub = Hub {
        inputs: Inputs::of(&strong),
        sampled: strong.sampled(),
        shared,
        writer,
        known: HashMap::new(),
        urgent: BTreeSet::new(),
        all: false,
        due: None,
        looked: Timestamp::default(),
        status: strong.backend(),
        replicas: None,
        written: VecDeque::new(),
        unused: 0,
    };
    hub.begin(&strong).await;
    drop(strong);
    hub.run().await;
}

struct Hub {
    shared: Weak<Shared>,
    writer: Writer,
    inputs: Inputs,
    sampled: watch::Receiver<u64>,
    /// What was written of each circuit last.
    known: HashMap<String, u64>,
    /// Circuits that have changed since.
    urgent: BTreeSet<String>,
    /// All may have changed.
    all: bool,
    /// When to look at them.
    due: Option<Timestamp>,
    looked: Timestamp,
    status: BackendStatus,
    replicas: Option<Vec<Replica>>,
    /// How many frames there were at each look of the last seconds, the oldest first.
    written: VecDeque<(Timestamp, u64)>,
    /// For how many looks there has been no connection.
    unused: u32,
}

/// What is read from the backend beside everything else.
type Reading = Pin<Box<dyn Future<Output = Read> + Send>>;

enum Read {
    Replicas(Option<Vec<Replica>>),
    Circuits,
}

enum Step {
    Input(Input),
    Look,
    Due,
    Sampled,
    Ping,
    Start(Starts),
    Read(Read),
    Over,
}

#[derive(Clone, Copy)]
enum Starts {
    Replicas,
    Circuits,
}

impl Starts {
    fn read(self, shared: Arc<Shared>) -> Reading {
        Box::pin(async move {
            match self {
                Self::Replicas => Read::Replicas(shared.replicas().await.ok()),
                Self::Circuits => {
                    shared.refresh(LOOK).await;
                    Read::Circuits
                }
            }
        })
    }
}

fn every(time: Duration) -> Interval {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Hub {
    /// Connections begin after this. Whatever changes later is written.
    async fn begin(&mut self, shared: &Shared) {
        shared.refresh(REREAD).await;
        shared.views().take_moved();
        self.status = shared.backend();
        self.looked = clock::now();
        for circuit in shared.circuits().0 {
            self.if_changed(circuit);
        }
        self.writer.ping();
    }

    async fn run(&mut self) {
        let (mut look, mut ping) = (every(LOOK), every(PING));
        let (mut replicas, mut reread) = (every(REPLICAS), every(REREAD));
        look.reset();
        ping.reset();
        reread.reset();
        let mut reading: Option<Reading> = None;
        loop {
            let due = self.due.map(|due| due.since(clock::now()));
            let step = tokio::select! {
                input = self.inputs.next() => Step::Input(input),
                changed = self.sampled.changed() => changed.map_or(Step::Over, |()| Step::Sampled),
                read = read(&mut reading) => Step::Read(read),
                _ = look.tick() => Step::Look,
                () = sleep(due.unwrap_or_default()), if due.is_some() => Step::Due,
                _ = replicas.tick(), if reading.is_none() => Step::Start(Starts::Replicas),
                _ = reread.tick(), if reading.is_none() => Step::Start(Starts::Circuits),
                _ = ping.tick() => Step::Ping,
            };
            let Some(shared) = self.shared.upgrade() else { return };
            // Before what is pushed now, which is later.
            let moved = shared.views().take_moved();
            for (name, transition) in moved {
                self.changes(&name, Some(transition));
            }
            match step {
                Step::Input(Input::Missed) => {
                    reread.reset_immediately();
                    self.all = true;
                    self.hurry();
                }
                Step::Input(Input::Over) | Step::Over => return,
                Step::Input(input) => self.happens(&shared, input),
                Step::Look => {
                    self.look_at_all(&shared).await;
                    self.report_status(&shared);
                    if self.ends(&shared) {
                        return;
                    }
                }
                Step::Due if self.all => self.look_at_all(&shared).await,
                Step::Due => self.look_at_urgent(&shared),
                Step::Sampled => self.report_samples(&shared),
                Step::Ping => self.writer.ping(),
                Step::Start(start) => reading = Some(start.read(shared)),
                Step::Read(read) => {
                    reading = None;
                    if self.has_read(&shared, read) {
                        reread.reset_immediately();
                    }
                }
            }
        }
    }

    /// Has what is urgent looked at soon, but not too often.
    fn hurry(&mut self) {
        let soon = self.looked.after(AGAIN).max(clock::now().after(SOON));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn happens(&mut self, shared: &Shared, input: Input) {
        match input {
            Input::Transition(name, transition) => self.changes(&name, Some(transition)),
            Input::View(name, view) => {
                let transition = shared.views().put(&name, *view);
                self.changes(&name, transition);
            }
            Input::Replica(replica) => {
                // What is not shown is not shown because a replica has it too.
                let changed = shared.say(replica).into_iter();
                let changed: Vec<_> =
                    changed.filter(|name| self.known.contains_key(name)).collect();
                if !changed.is_empty() {
                    self.urgent.extend(changed);
                    self.hurry();
                }
            }
            Input::Backend => self.report_status(shared),
            Input::Missed | Input::Other | Input::Over => {}
        }
    }

    fn changes(&mut self, name: &CircuitName, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.writer.transition(&json(&Moved {
                name: name.as_str(),
                transition: HistoryEntry::new(Duration::ZERO, transition),
            }));
        }
        self.urgent.insert(name.as_str().to_owned());
        self.hurry();
    }

    /// Returns whether the circuits are to be read again, because the backend answers again, or no
    /// more.
    fn has_read(&mut self, shared: &Shared, read: Read) -> bool {
        match read {
            Read::Replicas(now) => {
                let answers = now.is_some();
                if let Some(now) = now {
                    self.report_replicas(now);
                }
                answers != shared.backend().is_connected()
            }
            Read::Circuits => {
                self.all = true;
                self.hurry();
                self.report_status(shared);
                false
            }
        }
    }

    fn report_replicas(&mut self, now: Vec<Replica>) {
        let like = |before: &Vec<Replica>| {
            before.len() == now.len() && before.iter().zip(&now).all(|(a, b)| a.is_like(b))
        };
        if !self.replicas.as_ref().is_some_and(like) {
            self.writer.event("replicas", &json(&now));
            self.replicas = Some(now);
        }
    }

    fn report_status(&mut self, shared: &Shared) {
        let status = shared.backend();
        if self.status != status {
            self.writer.event("backend", &json(&status));
            self.status = status;
        }
    }

    fn report_samples(&self, shared: &Shared) {
        let samples: HashMap<_, _> = shared.last_samples().into_iter().collect();
        self.writer.event("samples", &json(&samples));
    }

    async fn look_at_all(&mut self, shared: &Shared) {
        (self.looked, self.due, self.all) = (clock::now(), None, false);
        // The end of an override is not pushed.
        if let Some(left) = shared.views().next_end().filter(|left| *left < LOOK) {
            (self.due, self.all) = (Some(self.looked.after(left.max(SOON))), true);
        }
        let (circuits, _) = shared.circuits();
        let mut gone: BTreeSet<String> = self.known.keys().cloned().collect();
        gone.append(&mut self.urgent);
        let mut changed = Vec::new();
        for (n, circuit) in circuits.into_iter().enumerate() {
            if n % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            gone.remove(&circuit.name);
            changed.extend(self.if_changed(circuit));
        }
        self.report(&changed, &gone);
    }

    fn look_at_urgent(&mut self, shared: &Shared) {
        (self.looked, self.due) = (clock::now(), None);
        let (mut changed, mut gone) = (Vec::new(), BTreeSet::new());
        for name in std::mem::take(&mut self.urgent) {
            match shared.listed(&name) {
                Some(circuit) => changed.extend(self.if_changed(circuit)),
                None => {
                    gone.insert(name);
                }
            }
        }
        self.report(&changed, &gone);
    }

    fn if_changed(&mut self, mut circuit: Circuit) -> Option<Circuit> {
        let fingerprint = circuit.fingerprint();
        let before = self.known.insert(circuit.name.clone(), fingerprint);
        (before != Some(fingerprint)).then_some(circuit)
    }

    fn report(&mut self, changed: &[Circuit], gone: &BTreeSet<String>) {
        if !changed.is_empty() {
            self.writer.event("circuits", &json(changed));
        }
        if !gone.is_empty() {
            self.known.retain(|name, _| !gone.contains(name));
            self.writer.event("gone", &json(gone));
        }
    }

    fn ends(&mut self, shared: &Shared) -> bool {
        let now = clock::now();
        self.written.push_back((now, self.writer.next()));
        let mut first = self.writer.first();
        let old = |(at, _): &(Timestamp, u64)| now.since(*at) > UNREAD;
        while let Some((_, next)) = self.written.front().copied().filter(old) {
            first = first.max(next);
            self.written.pop_front();
        }
        shared.seats.end_those_behind(first);
        self.unused = if shared.seats.is_empty() { self.unused + 1 } else { 0 };
        self.unused > LINGER && shared.tasks.end_hub_if(|| shared.seats.is_empty())
    }
}

async fn read(reading: &mut Option<Reading>) -> Read {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
