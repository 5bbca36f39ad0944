//! The rules of the scheduler over random schedules.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::*;
use super::{START, at, ms};

#[derive(Clone, Debug)]
enum Step {
    Request(u8, Class, i64),
    Withdraw(u8),
    Pass(u64),
    /// To the end of a wait, without running anything there.
    Wake,
    Run {
        most: usize,
        of_room: usize,
    },
    Answer {
        commands: usize,
        took: Duration,
    },
    NoAnswer,
}

fn step() -> impl Strategy<Value = Step> {
    let class = (0..Class::ALL.len()).prop_map(|index| Class::ALL[index]);
    let passed = prop_oneof![
        2 => Just(0),
        6 => 1..200_000_000_u64,
        1 => 1..5_000_000_000_u64,
    ];
    let took = prop_oneof![9 => 0..=250_u64, 1 => 251..1000_u64];
    prop_oneof![
        9 => (0..60_u8, class, -3_000_000_000..3_000_000_000_i64)
            .prop_map(|(key, class, due)| Step::Request(key, class, due)),
        1 => (0..60_u8).prop_map(Step::Withdraw),
        3 => passed.prop_map(Step::Pass),
        3 => Just(Step::Wake),
        4 => (1..30_usize, 0..=100_usize)
            .prop_map(|(most, of_room)| Step::Run { most, of_room }),
        6 => (1..30_usize, took)
            .prop_map(|(commands, took)| Step::Answer { commands, took: ms(took) }),
        1 => Just(Step::NoAnswer),
    ]
}

/// A scheduler beside what the rules say of it.
struct World {
    scheduler: Scheduler<u8>,
    now: Timestamp,
    /// Class, due time, and when it was first requested.
    jobs: BTreeMap<u8, (Class, Timestamp, usize)>,
    requests: usize,
    since_turn: usize,
    spent: i128,
    /// The least of what was spent before a moment, less what was earned by then.
    lowest: i128,
}

impl World {
    fn new(per_second: u32) -> Self {
        Self {
            scheduler: Scheduler::new(per_second, START),
            now: START,
            jobs: BTreeMap::new(),
            requests: 0,
            since_turn: 0,
            spent: 0,
            lowest: 0,
        }
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Request(key, class, due) => {
                let due = Timestamp::from_nanos(self.now.as_nanos().saturating_add_signed(due));
                self.scheduler.request(key, Some((class, due)));
                self.requests += 1;
                let (front, request) = match self.jobs.get(&key) {
                    Some((_, due, request)) => (self.now.min(*due), *request),
                    None => (self.now, self.requests),
                };
                self.jobs.insert(key, (class, due.max(front), request));
            }
            Step::Withdraw(key) => {
                self.scheduler.request(key, None);
                self.jobs.remove(&key);
            }
            Step::Pass(nanos) => {
                self.now = self.now.after(Duration::from_nanos(nanos));
                self.scheduler.advance(self.now);
            }
            Step::Wake => {
                if let Next::Wait(until) = self.scheduler.clone().next(self.now) {
                    self.now = until;
                    self.scheduler.advance(until);
                }
            }
            Step::Answer { commands, took } => {
                for _ in 0..commands.min(self.scheduler.in_flight()) {
                    self.scheduler.answered(took, self.now);
                }
            }
            Step::NoAnswer => self.scheduler.unanswered(self.now),
            Step::Run { most, of_room } => {
                for _ in 0..most {
                    let in_flight = self.scheduler.in_flight();
                    match self.scheduler.next(self.now) {
                        Next::Run(key, class) => self.ran(key, class, in_flight, of_room),
                        Next::Wait(until) => return self.waits(until),
                        Next::Idle => return self.idles(),
                    }
                }
            }
        }
    }

    fn ran(&mut self, key: u8, class: Class, in_flight: usize, of_room: usize) {
        let (requested, due, request) = self.jobs.remove(&key).expect("a job that was requested");
        assert_eq!(requested, class);
        assert!(due <= self.now, "ran before it was due");
        let others = self.jobs.values().filter(|job| job.0 != Class::Heartbeat);
        let longest_due = others.map(|job| (job.1, job.2)).min();
        let long =
            longest_due.is_none_or(|other| (due, request) < other) && due.after(LONG) <= self.now;
        let first =
            self.jobs.values().all(|other| other.1 > self.now || (class, due, request) < *other);
        let is_turn = class != Class::Heartbeat && long && self.since_turn >= 3;
        assert!(first || is_turn, "neither first nor on its turn");
        if class != Class::Heartbeat {
            self.since_turn = if is_turn { 0 } else { self.since_turn + 1 };
        }
        let most = match class {
            Class::Heartbeat => 24,
            Class::Settle | Class::Probe => 23,
            _ if is_turn => 23,
            _ => MOST_IN_FLIGHT,
        };
        assert!(in_flight < most, "{in_flight} under way before {class:?}");

        let line = self.scheduler.line(if is_turn { Class::Settle } else { class });
        assert!(self.scheduler.budget.balance() + COMMAND >= line, "ran below its line");

        let circuits = self.scheduler.room(class) * of_room / 100;
        self.scheduler.charge(circuits);
        let earned = i128::from(self.scheduler.budget.full())
            * i128::from(self.now.as_nanos() - START.as_nanos());
        self.lowest = self.lowest.min(self.spent - earned);
        self.spent += i128::from(COMMAND) + i128::from(CIRCUIT) * circuits as i128;
        let bound = i128::from(2 * self.scheduler.budget.burst() + 2 * COMMAND);
        assert!(self.spent - earned - self.lowest <= bound, "overspent");
    }

    fn waits(&self, until: Timestamp) {
        assert!(until > self.now, "a busy loop");
        self.none_may_run();
        let before = Timestamp::from_nanos(until.as_nanos() - 1);
        let between = self.now.as_nanos().midpoint(until.as_nanos());
        for moment in [Timestamp::from_nanos(between), before] {
            if moment < until {
                assert_eq!(self.scheduler.clone().next(moment), Next::Wait(until));
            }
        }
        let mut slowly = self.scheduler.clone();
        assert_eq!(slowly.next(before), Next::Wait(until));
        for scheduler in [&mut slowly, &mut self.scheduler.clone()] {
            assert!(matches!(scheduler.next(until), Next::Run(..)), "waited in vain");
        }
    }

    fn idles(&self) {
        self.none_may_run();
        assert!(self.jobs.is_empty() || self.scheduler.in_flight() >= MOST_IN_FLIGHT);
    }

    fn none_may_run(&self) {
        let balance = self.scheduler.budget.balance();
        for (key, (class, due, _)) in &self.jobs {
            let slots = match class {
                Class::Heartbeat => 24,
                Class::Settle | Class::Probe => self.scheduler.budget.slots() + 7,
                _ => self.scheduler.budget.slots(),
            };
            let has_slot = self.scheduler.in_flight() < slots;
            let may_pay = balance >= self.scheduler.line(*class);
            assert!(*due > self.now || !has_slot || !may_pay, "{key} might have run");
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_rules_hold_over_random_schedules(
        per_second in prop_oneof![0..40_u32, 40..2000_u32],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(per_second);
        for step in &steps {
            world.play(step);
        }
    }

    /// All classes want more than there is, answers are slow or missing: a heartbeat a second runs
    /// when it is due, and each job within the number of commands that rule 2 promises.
    #[test]
    fn a_flood_starves_nobody(
        per_second in 1..300_u32,
        classes in prop::collection::vec(1..Class::ALL.len(), 1..40),
        delays in prop::collection::vec(prop_oneof![Just(2_u64), Just(300), Just(1000)], 1..8),
        circuits in 0..300_usize,
    ) {
        const HEARTBEAT: usize = usize::MAX;
        let mut scheduler = Scheduler::new(per_second, START);
        for (key, class) in classes.iter().enumerate() {
            scheduler.request(key, Some((Class::ALL[*class], START)));
        }
        scheduler.request(HEARTBEAT, Some((Class::Heartbeat, START)));
        let (mut beat, end) = (START, at(60_000));
        let mut commands = 0;
        let mut requested = vec![(START, None); classes.len()];
        let mut answers = VecDeque::new();
        let mut now = START;
        while now < end {
            for (due, since) in &mut requested {
                if since.is_none() && due.after(LONG) <= now {
                    *since = Some(commands);
                }
            }
            let mut wake = match scheduler.next(now) {
                Next::Run(key, class) => {
                    let delay = ms(delays[commands % delays.len()]);
                    answers.push_back((now.after(delay), delay));
                    answers.make_contiguous().sort_unstable();
                    if key == HEARTBEAT {
                        prop_assert_eq!(now, beat);
                        beat = beat.after(ms(1000));
                        scheduler.request(HEARTBEAT, Some((Class::Heartbeat, beat)));
                    } else {
                        commands += 1;
                        scheduler.charge(circuits.min(scheduler.room(class)));
                        scheduler.request(key, Some((Class::ALL[classes[key]], now)));
                        requested[key] = (now, None);
                    }
                    continue;
                }
                Next::Wait(until) => until,
                Next::Idle => Timestamp::NEVER,
            };
            for (_, since) in &requested {
                let waited = since.map_or(0, |since| commands - since);
                prop_assert!(waited <= 4 * (classes.len() + 1), "starved");
            }
            if let Some((answer, _)) = answers.front() {
                wake = wake.min(*answer);
            }
            now = wake;
            while let Some((answer, took)) = answers.front().copied().filter(|it| it.0 <= now) {
                answers.pop_front();
                if took == ms(1000) {
                    scheduler.unanswered(answer);
                } else {
                    scheduler.answered(took, answer);
                }
            }
        }
        // The lowest rate leaves the others one a second, and a command costs 2 at most in debt.
        prop_assert!(commands >= 15, "only {} commands in a minute", commands);
    }
}
