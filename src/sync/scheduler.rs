//! Decides which command a store sends next to the backend, and when.
//!
//! Each store has one scheduler. What the store has to send is requested here as a *job*: a key, a
//! [`Class`] and a due time. The scheduler knows neither tasks nor clocks: time is an argument.
//!
//! # Rules
//!
//! 1. **Every command has its price**: 1 for the command and 1/10 for each report in it. What it
//!    reads besides is free: at most 64 circuits, and what has changed. No class
//!    is exempt. The balance grows by `per_second` (at least 2) a second, up to the *burst*: half a
//!    second's worth, at least 10. A class may start a command while the balance is at least:
//!
//!    | class | balance, in bursts |
//!    | --- | --- |
//!    | heartbeat | -1 |
//!    | settle, probe | -3/4 |
//!    | transition, failures | -1/2 |
//!    | successes | 0 |
//!    | poll | 1/4 |
//!
//!    A command may carry as many circuits as take the balance down to that line, and 10 in any
//!    case: [`room`](Scheduler::room). If each command keeps to its room, the debt is at most the
//!    burst and 2. So in any T seconds at most `rate * T + 2 * burst + 2` is spent. What a command
//!    carries beyond its room adds to the debt.
//! 2. **The more urgent class first**: a job that is due and may run does so before any job of a
//!    less urgent class, with one exception. After three commands the next *turn* belongs to the
//!    job that has been due longest, if that is for 2 s or more. On its turn it may owe as much,
//!    and has as many slots, as a settlement. So a job that has been due for 2 s, behind n others,
//!    is among the next 4 × (n + 1) commands, whatever else is requested.
//!    Heartbeats neither count nor wait for turns. The last quarter of the debt and the last slot
//!    are theirs: while each command keeps to its room, a single heartbeat a second never waits.
//!    It leaves the others half of the lowest rate or more.
//! 3. **Within a class, the job that has been due longest first.** A job that has run and is
//!    requested again is behind those that are due: no request is due in the past.
//! 4. **No reservations.** The balance is that of the moment: a job that waits holds nothing back.
//! 5. **At most 16 commands are under way**; with probes and settlements 23, with heartbeats 24.
//! 6. **Slow answers slow it down.** An answer that took longer than 250 ms, or none, halves the
//!    rate, at most once in 500 ms, down to a sixteenth (at least 2 a second). Each second without
//!    such an answer adds a quarter of the full rate. The 16 slots follow the rate, down to 2. The
//!    burst and the lines of rule 1 stay: lower ones would turn a debt into silence.
//! 7. **A wait is exact**: unless something changes, a job runs at the end of a [`Next::Wait`], and
//!    none could have run before. The end is always in the future.
//! 8. Each operation takes O(log n) for n jobs.
//! 9. Time that stands still, goes back or jumps ahead earns nothing or a burst. Sums saturate.

mod budget;
#[cfg(all(test, not(breaker_loom)))]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::budget::{Budget, CIRCUIT, COMMAND, MOST_IN_FLIGHT};
use crate::timestamp::{Timestamp, nanos};

/// So many commands run between two turns of jobs that have been due for long.
const BETWEEN_TURNS: u8 = 3;
/// A job that has been due for so long is given a turn.
const LONG: Duration = Duration::from_secs(2);
/// Each command may carry so many circuits, at any balance. They cost as much as the command, so
/// that a sync of few circuits does not cost more for being split.
const LEAST_ROOM: usize = 10;
const EXTRA_FOR_URGENT: usize = 7;
const MOST_WITH_HEARTBEAT: usize = MOST_IN_FLIGHT + EXTRA_FOR_URGENT + 1;

/// What a job is for, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Heartbeat,
    /// Results of probes, and overrides.
    Settle,
    /// Leases that calls wait for.
    Probe,
    /// Transitions, and restores.
    Transition,
    Failures,
    Successes,
    Poll,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<K> {
    /// Send this job's command. It is no longer requested, and is under way until it is answered.
    Run(K, Class),
    /// Nothing can run before this moment. Ask again then, or after a request or an answer.
    Wait(Timestamp),
    /// Nothing can run before a request or an answer: no job is requested, or all slots are taken.
    Idle,
}

/// The jobs of a store, and what it may spend on them. See the module's rules.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler<K> {
    jobs: BTreeMap<K, Job>,
    /// The keys by class, each class in its order.
    queues: [BTreeMap<Place, K>; Class::ALL.len()],
    budget: Budget,
    in_flight: usize,
    /// Commands since the last turn, heartbeats aside.
    since_turn: u8,
    requests: u64,
    now: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    class: Class,
    place: Place,
}

/// The order within a class. Jobs that are due at the same moment run in the order of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    due: Timestamp,
    request: u64,
}

/// A job that could be next, and when.
#[derive(Clone, Copy, Debug)]
struct Candidate<K> {
    key: K,
    at: Timestamp,
    is_turn: bool,
}

impl<K: Copy + Ord> Scheduler<K> {
    /// Creates a scheduler with a full burst and without jobs.
    pub(crate) fn new(per_second: u32, now: Timestamp) -> Self {
        Self {
            jobs: BTreeMap::new(),
            queues: Default::default(),
            budget: Budget::new(per_second, now),
            in_flight: 0,
            since_turn: 0,
            requests: 0,
            now,
        }
    }

    /// Replaces what is requested for this key. `None` withdraws it.
    ///
    /// A job that is already due keeps its place if the new due time is not later.
    pub(crate) fn request(&mut self, key: K, wanted: Option<(Class, Timestamp)>) {
        let before = self.take(key);
        let Some((class, due)) = wanted else { return };
        self.requests += 1;
        let front = Place { due: self.now, request: self.requests };
        let front = before.map_or(front, |job| job.place.min(front));
        let request = before.map_or(self.requests, |job| job.place.request);
        let place = Place { due: due.max(front.due), request };
        self.jobs.insert(key, Job { class, place });
        self.queues[class as usize].insert(place, key);
    }

    /// Returns the job to run now, or when to ask again.
    ///
    /// Call it until it returns something other than [`Next::Run`].
    pub(crate) fn next(&mut self, now: Timestamp) -> Next<K> {
        self.advance(now);
        let ready = self.candidates().find(|candidate| candidate.at <= self.now);
        if let Some(candidate) = ready {
            return self.run(candidate);
        }
        match self.candidates().map(|candidate| candidate.at).min() {
            Some(Timestamp::NEVER) | None => Next::Idle,
            Some(at) => Next::Wait(at),
        }
    }

    /// Returns how many circuits a command of this class should carry at most.
    ///
    /// Ask after [`Next::Run`], before the command is built.
    pub(crate) fn room(&self, class: Class) -> usize {
        let left = self.budget.balance().saturating_sub(self.line(class));
        usize::try_from(left / CIRCUIT).map_or(LEAST_ROOM, |room| room.max(LEAST_ROOM))
    }

    /// Takes the price of the circuits in a command that was just built. [`Next::Run`] has taken
    /// that of the command.
    pub(crate) fn charge(&mut self, circuits: usize) {
        let circuits = i64::try_from(circuits).unwrap_or(i64::MAX);
        self.budget.spend(circuits.saturating_mul(CIRCUIT));
    }

    /// Begins a command that goes with the one that [`next`](Self::next) has returned.
    pub(crate) fn begin(&mut self) {
        self.budget.spend(COMMAND);
        self.in_flight += 1;
    }

    /// Ends a command that was answered, after this time.
    pub(crate) fn answered(&mut self, took: Duration, now: Timestamp) {
        self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.budget.answered(took);
    }

    /// Ends a command that was not answered in its time, or with the error that the backend is
    /// unavailable.
    pub(crate) fn unanswered(&mut self, now: Timestamp) {
        self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.budget.slow_down();
    }

    /// Returns how many commands are under way.
    #[cfg(all(test, not(breaker_loom)))]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.budget.advance(now);
    }

    /// Returns the jobs that could be next, in the order in which they may run.
    fn candidates(&self) -> impl Iterator<Item = Candidate<K>> {
        let [heartbeat, others @ ..] = Class::ALL.map(|class| {
            let (place, key) = self.queues[class as usize].first_key_value()?;
            Some((class, *place, *key))
        });
        let longest_due = others.into_iter().flatten().min_by_key(|(_, place, _)| *place);
        let turn =
            longest_due.filter(|_| self.since_turn >= BETWEEN_TURNS).map(|(_, place, key)| {
                let at = self.may_run(Class::Settle, place.due.after(LONG));
                Candidate { key, at, is_turn: true }
            });
        let by_class = |(class, place, key): (Class, Place, K)| {
            let at = self.may_run(class, place.due);
            Candidate { key, at, is_turn: false }
        };
        let others = others.into_iter().flatten().map(by_class);
        heartbeat.map(by_class).into_iter().chain(turn).chain(others)
    }

    /// Returns when a job that is due then may run as one of this class.
    fn may_run(&self, class: Class, due: Timestamp) -> Timestamp {
        let has_slot = match class {
            // At any rate, so that a cut does not take away the slot that the others cannot use.
            Class::Heartbeat if self.in_flight < MOST_WITH_HEARTBEAT => self.now,
            Class::Heartbeat => Timestamp::NEVER,
            Class::Settle | Class::Probe => self.budget.has_slot(self.in_flight, EXTRA_FOR_URGENT),
            _ => self.budget.has_slot(self.in_flight, 0),
        };
        due.max(has_slot).max(self.budget.reaches(self.line(class)))
    }

    /// Returns the least balance at which a command of this class may start.
    fn line(&self, class: Class) -> i64 {
        let burst = self.budget.burst();
        match class {
            Class::Heartbeat => -burst,
            Class::Settle | Class::Probe => burst / 4 * -3,
            Class::Transition | Class::Failures => -burst / 2,
            Class::Successes => 0,
            Class::Poll => burst / 4,
        }
    }

    fn run(&mut self, candidate: Candidate<K>) -> Next<K> {
        let Some(job) = self.take(candidate.key) else { return Next::Idle };
        self.budget.spend(COMMAND);
        self.in_flight += 1;
        if candidate.is_turn {
            self.since_turn = 0;
        } else if job.class != Class::Heartbeat {
            self.since_turn = self.since_turn.saturating_add(1);
        }
        Next::Run(candidate.key, job.class)
    }

    fn take(&mut self, key: K) -> Option<Job> {
        let job = self.jobs.remove(&key)?;
        self.queues[job.class as usize].remove(&job.place);
        Some(job)
    }
}

impl Class {
    const ALL: [Self; 7] = [
        Self::Heartbeat,
        Self::Settle,
        Self::Probe,
        Self::Transition,
        Self::Failures,
        Self::Successes,
        Self::Poll,
    ];
}

/// Returns a moment within `over` from now, by a random draw: replicas that were disconnected
/// together do not return together.
pub(crate) fn spread(now: Timestamp, over: Duration, draw: u64) -> Timestamp {
    let share = (u128::from(nanos(over)) * u128::from(draw)) >> 64;
    now.after(Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX)))
}
