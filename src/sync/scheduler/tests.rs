//! The rules of the scheduler, each by an example.

mod random;

use super::budget::LEAST_RATE;
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
fn a_slow_answer_halves_the_rate_and_each_second_without_one_adds_a_quarter() {
    let mut scheduler = Scheduler::<usize>::new(160, START);
    let mut rates = Vec::new();
    for millis in [0, 100, 499, 500, 1000, 1500, 2000] {
        scheduler.answered(SLOW, at(millis));
        rates.push(scheduler.budget.rate());
    }
    assert_eq!(rates, [80, 80, 80, 40, 20, 10, 10]);
    assert_eq!(scheduler.budget.slots(), 2);
    rates.clear();
    for millis in [2999, 3000, 3999, 4000, 5000, 5999, 6000, 90_000] {
        scheduler.answered(FAST, at(millis));
        rates.push(scheduler.budget.rate());
    }
    assert_eq!(rates, [10, 50, 50, 90, 130, 130, 160, 160]);
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
fn time_that_goes_back_and_forth_earns_nothing() {
    let mut scheduler = with(20, &[Class::Poll; 20]);
    drain(&mut scheduler, START);
    for _ in 0..10 {
        assert_eq!(scheduler.next(Timestamp::default()), Next::Wait(at(25)));
        assert_eq!(scheduler.next(START), Next::Wait(at(25)));
    }
}

#[test]
fn a_spread_moment_lies_within_the_time_given() {
    assert_eq!(spread(START, ms(100), 0), START);
    assert_eq!(spread(START, ms(100), u64::MAX / 2 + 1), at(50));
    assert!(spread(START, ms(100), u64::MAX) < at(100));
    assert!(spread(START, Duration::MAX, u64::MAX) == Timestamp::NEVER);
}
