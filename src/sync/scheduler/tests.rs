//! The rules of the scheduler, each by an example, and all of them over random schedules.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::budget::{LEAST_RATE, MOST_IN_FLIGHT};
use super::*;

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const FAST: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_millis(251);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Timestamp {
    START.after(ms(millis))
}

/// A scheduler whose key n is requested in the n-th of these classes, due at the start.
fn with(per_second: u32, classes: &[Class]) -> Scheduler<usize> {
    let mut scheduler = Scheduler::new(per_second, START);
    for (key, class) in classes.iter().enumerate() {
        scheduler.request(key, Some((*class, START)));
    }
    scheduler
}

#[track_caller]
fn run(scheduler: &mut Scheduler<usize>, now: Timestamp) -> usize {
    match scheduler.next(now) {
        Next::Run(key, _) => key,
        other => panic!("{other:?}"),
    }
}

/// Runs what may run now, each answered at once.
fn drain(scheduler: &mut Scheduler<usize>, now: Timestamp) -> Vec<usize> {
    let mut keys = Vec::new();
    while let Next::Run(key, _) = scheduler.next(now) {
        keys.push(key);
        scheduler.answered(FAST, now);
    }
    keys
}

#[test]
fn the_more_urgent_class_runs_first() {
    let mut all = Class::ALL;
    all.reverse();
    let mut scheduler = with(1000, &all);
    assert_eq!(drain(&mut scheduler, START), [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(scheduler.next(START), Next::Idle);
}

#[test]
fn within_a_class_the_job_that_has_been_due_longest_runs_first() {
    let mut scheduler = Scheduler::new(1000, START);
    scheduler.request(1, Some((Class::Poll, at(20))));
    scheduler.request(3, Some((Class::Poll, at(10))));
    scheduler.request(2, Some((Class::Poll, at(10))));
    assert_eq!(scheduler.next(START), Next::Wait(at(10)));
    assert_eq!(drain(&mut scheduler, at(30)), [3, 2, 1]);
}

#[test]
fn a_job_that_has_run_comes_back_behind_those_that_are_due() {
    let mut scheduler = with(1000, &[Class::Poll, Class::Poll]);
    assert_eq!(run(&mut scheduler, at(1)), 0);
    scheduler.request(0, Some((Class::Poll, Timestamp::default())));
    assert_eq!(drain(&mut scheduler, at(1)), [1, 0]);
}

#[test]
fn a_repeated_request_keeps_its_place() {
    let mut scheduler = with(1000, &[Class::Poll, Class::Poll]);
    assert_eq!(scheduler.next(Timestamp::default()), Next::Run(0, Class::Poll));
    scheduler.request(2, Some((Class::Poll, START)));
    scheduler.request(1, Some((Class::Poll, START)));
    assert_eq!(drain(&mut scheduler, at(1)), [1, 2]);
}

#[test]
fn a_withdrawn_job_does_not_run() {
    let mut scheduler = with(1000, &[Class::Settle]);
    scheduler.request(0, None);
    assert_eq!(scheduler.next(START), Next::Idle);
}

#[test]
fn polls_leave_a_reserve_and_a_transition_goes_into_debt() {
    // A burst is 10 commands.
    let mut scheduler = with(20, &[Class::Poll; 20]);
    assert_eq!(drain(&mut scheduler, START).len(), 8);
    for key in 20..60 {
        scheduler.request(key, Some((Class::Successes, START)));
    }
    assert_eq!(drain(&mut scheduler, START).len(), 3);
    for key in 60..80 {
        scheduler.request(key, Some((Class::Transition, START)));
    }
    assert_eq!(drain(&mut scheduler, START).len(), 5);
    for key in 80..100 {
        scheduler.request(key, Some((Class::Settle, START)));
    }
    // The balance stands at -6.
    assert_eq!(drain(&mut scheduler, START).len(), 2);
    scheduler.request(100, Some((Class::Heartbeat, START)));
    assert_eq!(drain(&mut scheduler, START), [100]);
    // It stands at -9, and -7.5 takes 1.5 / 20 s.
    assert_eq!(scheduler.next(START), Next::Wait(at(75)));
    assert_eq!(drain(&mut scheduler, at(75)), [82]);
}

#[test]
fn a_command_pays_for_its_circuits() {
    let mut scheduler = with(20, &[Class::Poll; 2]);
    run(&mut scheduler, START);
    // From 9 to the line of polls, 2.5.
    assert_eq!(scheduler.room(Class::Poll), 65);
    scheduler.charge(65);
    assert_eq!(scheduler.room(Class::Poll), LEAST_ROOM);
    run(&mut scheduler, START);
    scheduler.charge(usize::MAX);
    scheduler.request(9, Some((Class::Heartbeat, START)));
    assert!(matches!(scheduler.next(START), Next::Wait(_)));
}

#[test]
fn a_job_that_is_due_for_long_has_a_turn_after_three_commands() {
    let mut scheduler = Scheduler::new(1000, START);
    scheduler.request(0, Some((Class::Poll, START)));
    for key in 1..9 {
        scheduler.request(key, Some((Class::Settle, at(1990))));
    }
    assert_eq!(drain(&mut scheduler, at(2000)), [1, 2, 3, 0, 4, 5, 6, 7, 8]);
}

#[test]
fn a_job_in_debt_waits_for_its_turn_and_not_for_its_line() {
    let mut scheduler = with(10, &[Class::Settle; 40]);
    scheduler.request(99, Some((Class::Poll, START)));
    drain(&mut scheduler, START);
    // Settlements are spent down to -8. Without them a poll would wait until 2.5 are saved up.
    for key in 0..40 {
        scheduler.request(key, None);
    }
    assert_eq!(scheduler.next(START), Next::Wait(at(1050)));
    scheduler.charge(200);
    assert_eq!(scheduler.next(START), Next::Wait(at(2050)));
    assert_eq!(scheduler.next(at(2050)), Next::Run(99, Class::Poll));
}

#[test]
fn commands_under_way_are_limited_and_urgent_ones_less() {
    let classes = [[Class::Failures; 20], [Class::Probe; 20], [Class::Heartbeat; 20]].concat();
    let mut scheduler = with(10_000, &classes);
    let keys = |class| classes.iter().enumerate().filter(move |it| *it.1 == class).map(|it| it.0);
    let hold = |scheduler: &mut Scheduler<_>, class, hold: bool| {
        for key in keys(class) {
            scheduler.request(key, (!hold).then_some((class, START)));
        }
    };
    hold(&mut scheduler, Class::Probe, true);
    hold(&mut scheduler, Class::Heartbeat, true);
    let mut started = Vec::new();
    for class in [Class::Failures, Class::Probe, Class::Heartbeat] {
        hold(&mut scheduler, class, false);
        while let Next::Run(..) = scheduler.next(START) {}
        started.push(scheduler.in_flight());
    }
    assert_eq!(started, [16, 23, 24]);
    assert_eq!(scheduler.next(START), Next::Idle);
    scheduler.answered(FAST, START);
    assert!(matches!(scheduler.next(START), Next::Run(_, Class::Heartbeat)));
}

#[test]
fn a_slow_answer_halves_the_rate_and_each_second_without_one_adds_an_eighth() {
    let mut scheduler = Scheduler::<usize>::new(160, START);
    let mut rates = Vec::new();
    for millis in [0, 100, 499, 500, 1000, 1500, 2000] {
        scheduler.answered(SLOW, at(millis));
        rates.push(scheduler.budget.rate());
    }
    assert_eq!(rates, [80, 80, 80, 40, 20, 10, 10]);
    assert_eq!(scheduler.budget.slots(), 2);
    rates.clear();
    for millis in [2999, 3000, 3999, 4000, 9000, 9999, 10_000, 90_000] {
        scheduler.answered(FAST, at(millis));
        rates.push(scheduler.budget.rate());
    }
    assert_eq!(rates, [10, 30, 30, 50, 150, 150, 160, 160]);
    assert_eq!(scheduler.budget.slots(), 16);
    scheduler.unanswered(at(90_000));
    assert_eq!(scheduler.budget.rate(), 80);
}

#[test]
fn the_rate_never_falls_below_two_a_second() {
    for per_second in [0, 1, 2, 3, 31] {
        let mut scheduler = Scheduler::<usize>::new(per_second, START);
        for millis in (0..10_000).step_by(100) {
            scheduler.unanswered(at(millis));
        }
        assert_eq!(scheduler.budget.rate(), LEAST_RATE);
    }
}

#[test]
fn time_that_jumps_or_goes_back_earns_at_most_a_burst() {
    for per_second in [0, 1, 50, 100_000, u32::MAX] {
        let mut scheduler = with(per_second, &[Class::Poll; 100]);
        for now in [Timestamp::NEVER, Timestamp::default(), START, Timestamp::NEVER] {
            while let Next::Run(..) = scheduler.next(now) {
                scheduler.charge(usize::MAX);
                scheduler.unanswered(now);
            }
            assert!(scheduler.budget.balance() <= scheduler.budget.burst());
        }
        assert_eq!(scheduler.next(Timestamp::NEVER), Next::Idle);
    }
}

#[test]
fn a_spread_moment_lies_within_the_time_given() {
    assert_eq!(spread(START, ms(100), 0), START);
    assert_eq!(spread(START, ms(100), u64::MAX / 2 + 1), at(50));
    assert!(spread(START, ms(100), u64::MAX) < at(100));
    assert!(spread(START, Duration::MAX, u64::MAX) == Timestamp::NEVER);
}

#[derive(Clone, Debug)]
enum Step {
    Request(u8, Class, i64),
    Withdraw(u8),
    Pass(u64),
    Run { most: usize, of_room: usize },
    Answer(Duration),
    NoAnswer,
}

fn step() -> impl Strategy<Value = Step> {
    let class = (0..Class::ALL.len()).prop_map(|index| Class::ALL[index]);
    let passed = prop_oneof![Just(0), 1..20_000_000_u64, 1..5_000_000_000_u64];
    prop_oneof![
        6 => (0..60_u8, class, -3_000_000_000..3_000_000_000_i64)
            .prop_map(|(key, class, due)| Step::Request(key, class, due)),
        1 => (0..60_u8).prop_map(Step::Withdraw),
        3 => passed.prop_map(Step::Pass),
        4 => (1..30_usize, 0..=100_usize)
            .prop_map(|(most, of_room)| Step::Run { most, of_room }),
        4 => (0..400_u64).prop_map(|millis| Step::Answer(ms(millis))),
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
            Step::Answer(took) => self.scheduler.answered(took, self.now),
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
        if class != Class::Heartbeat {
            let is_turn = long && self.since_turn >= 3;
            assert!(first || is_turn, "neither first nor on its turn");
            self.since_turn = if is_turn { 0 } else { self.since_turn + 1 };
        } else {
            assert!(first);
        }
        let most = match class {
            Class::Heartbeat => 24,
            Class::Settle | Class::Probe => 23,
            _ if self.since_turn == 0 => 23,
            _ => MOST_IN_FLIGHT,
        };
        assert!(in_flight < most, "{in_flight} under way before {class:?}");

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
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(512) })]

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
