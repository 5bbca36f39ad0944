//! The engine's races, explored by loom: `RUSTFLAGS="--cfg breaker_loom" cargo test --lib --release`.

use std::sync::Mutex as StdMutex;
use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::counters::{Counters, Life};
use super::engine::Engine;
use super::link::{Link, Wait};
use super::refusal::Refusal;
use super::running::Watch;
use super::stripes::{Drained, Stripes, Width};
use super::{Circuit, Held};
use crate::backend::{OverrideRecord, View};
use crate::clock;
use crate::machine::{Begin, Event, OverrideState, State};
use crate::name::CircuitName;
use crate::outcome::Outcome;
use crate::policy::{Policy, PolicyBuilder};
use crate::sync::{Input, Pace, Reported, Totals, Unclaimed};
use crate::timestamp::Timestamp;

const TEN_SECONDS: Duration = Duration::from_secs(10);

fn engine(policy: PolicyBuilder) -> Arc<Engine> {
    clock::set(Duration::from_secs(1));
    let policy = policy.jitter(0.0).build().expect("a policy that can work");
    Arc::new(Engine::new(policy, Vec::new(), Width::Many))
}

fn overriding(state: OverrideState) -> OverrideRecord {
    OverrideRecord { state, reason: String::new(), actor: None, remaining: None }
}

fn record(engine: &Engine, outcome: Outcome) {
    engine.record(engine.enter(Begin::Now).expect("closed"), outcome);
}

/// Half of two calls: neither a success nor a failure alone trips, one of each does.
fn half_of_two() -> PolicyBuilder {
    Policy::builder()
        .without_consecutive_failures()
        .failure_rate(0.5)
        .minimum_calls(2)
        .count_window(8)
}

#[test]
fn every_result_is_counted_once() {
    loom::model(|| {
        let engine = engine(half_of_two().minimum_calls(8));
        let other = engine.clone();
        let thread = thread::spawn(move || {
            record(&other, Outcome::Success);
            record(&other, Outcome::failure());
        });
        record(&engine, Outcome::Success);
        let seen = engine.read().tally.calls;
        record(&engine, Outcome::Success);
        thread.join().unwrap();
        let tally = engine.read().tally;
        assert!((1..=3).contains(&seen));
        assert_eq!((tally.calls, tally.failures), (4, 1));
    });
}

#[test]
fn a_judgement_includes_what_returned_before_it_began() {
    loom::model(|| {
        let engine = engine(half_of_two());
        let returned = Arc::new(AtomicBool::new(false));
        let (other, flag) = (engine.clone(), returned.clone());
        let thread = thread::spawn(move || {
            record(&other, Outcome::Success);
            flag.store(true, Ordering::Release);
        });
        let before = returned.load(Ordering::Acquire);
        record(&engine, Outcome::failure());
        let open = engine.state() == State::Open;
        assert!(open || !before, "the success returned first and was not counted");
        thread.join().unwrap();
        assert_eq!(engine.state(), State::Open, "one of the two was judged last");
    });
}

#[test]
fn a_success_after_a_failure_ends_its_streak() {
    loom::model(|| {
        let engine = engine(Policy::builder().consecutive_failures(2).no_window());
        let returned = Arc::new(AtomicBool::new(false));
        let (other, flag) = (engine.clone(), returned.clone());
        let thread = thread::spawn(move || {
            record(&other, Outcome::failure());
            flag.store(true, Ordering::Release);
        });
        let after = returned.load(Ordering::Acquire);
        record(&engine, Outcome::Success);
        if after {
            assert_eq!(engine.read().tally.consecutive_failures, 0);
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_late_result_is_stale() {
    for outcome in [Outcome::Success, Outcome::failure()] {
        loom::model(move || {
            let engine = engine(half_of_two());
            let grant = engine.enter(Begin::Now).expect("closed");
            let other = engine.clone();
            let thread = thread::spawn(move || other.record(grant, outcome));
            engine.reset();
            thread.join().unwrap();
            let reading = engine.read();
            assert_eq!(reading.tally.calls, 0, "it was of the phase before the reset");
            assert!(reading.totals.stale <= 1);
        });
    }
}

#[test]
fn who_is_admitted_while_it_opens_is_stale_in_what_follows() {
    loom::model(|| {
        let engine = engine(Policy::builder().consecutive_failures(1));
        let other = engine.clone();
        let thread = thread::spawn(move || {
            if let Ok(grant) = other.enter(Begin::Now) {
                other.record(grant, Outcome::failure());
            }
        });
        engine.set_override(overriding(OverrideState::ForcedOpen));
        engine.reset();
        thread.join().unwrap();
        let reading = engine.read();
        // Admitted before (stale), or after both (counted, and it opened the circuit).
        let stale = (reading.state, reading.totals.stale) == (State::Closed, 1);
        let after = (reading.state, reading.totals.stale) == (State::Open, 0);
        let rejected = (reading.state, reading.totals.stale) == (State::Closed, 0);
        assert!(stale || after || rejected, "{reading:?}");
    });
}

#[test]
fn every_result_of_who_was_admitted_trips_or_is_stale() {
    loom::model(|| {
        let engine = engine(Policy::builder().consecutive_failures(1));
        let other = engine.clone();
        let fail = |engine: &Engine| {
            let grant = engine.enter(Begin::Now);
            grant.map(|grant| engine.record(grant, Outcome::failure())).is_ok()
        };
        let thread = thread::spawn(move || fail(&other));
        let mine = fail(&engine);
        let theirs = thread.join().unwrap();
        let admitted = u64::from(mine) + u64::from(theirs);
        let reading = engine.read();
        assert_eq!((reading.state, reading.totals.stale), (State::Open, admitted - 1));
    });
}

#[test]
fn a_rejection_is_of_one_moment() {
    loom::model(|| {
        let engine = engine(Policy::builder().consecutive_failures(1).open_for(TEN_SECONDS));
        record(&engine, Outcome::failure());
        let other = engine.clone();
        let thread = thread::spawn(move || {
            let Err(Refusal::Rejected(rejection)) = other.check() else {
                panic!("open, by itself or by hand")
            };
            let moment = (rejection.state, rejection.generation, rejection.retry_after);
            let by_itself = (State::Open, 2, Some(TEN_SECONDS));
            let overriding = (State::ForcedOpen, 3, None);
            assert!(moment == by_itself || moment == overriding, "{moment:?}");
        });
        engine.set_override(overriding(OverrideState::ForcedOpen));
        thread.join().unwrap();
    });
}

/// A circuit at the end of its open interval, with one place for a probe.
fn about_to_probe(needed: u64) -> Arc<Engine> {
    let policy = Policy::builder()
        .consecutive_failures(1)
        .no_window()
        .open_for(TEN_SECONDS)
        .backoff(1.0, TEN_SECONDS)
        .probes(1)
        .successes_to_close(needed);
    let engine = engine(policy);
    record(&engine, Outcome::failure());
    clock::set(Duration::from_secs(20));
    engine
}

#[test]
fn no_more_probes_than_places() {
    loom::model(|| {
        let engine = about_to_probe(1);
        let other = engine.clone();
        let thread = thread::spawn(move || other.enter(Begin::Now).is_ok());
        let mine = engine.enter(Begin::Now).is_ok();
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "exactly one probes");
        assert_eq!(engine.read().probes_out, 1);
    });
}

#[test]
fn a_probe_gives_its_place_back_however_it_ends() {
    type End = fn(&Engine, super::Grant);
    let ends: [End; 4] = [
        |engine, grant| engine.cancel(grant),
        |engine, grant| engine.release(grant),
        |engine, grant| engine.record(grant, Outcome::Success),
        |engine, grant| engine.record(grant, Outcome::failure()),
    ];
    for end in ends {
        loom::model(move || {
            let engine = about_to_probe(2);
            let other = engine.clone();
            let probe = move |engine: &Engine| {
                if let Ok(grant) = engine.enter(Begin::Later) {
                    end(engine, grant);
                }
            };
            let thread = thread::spawn(move || probe(&other));
            probe(&engine);
            thread.join().unwrap();
            assert_eq!(engine.read().probes_out, 0);
            clock::set(Duration::from_secs(60));
            assert!(engine.enter(Begin::Now).is_ok(), "it can be probed again");
        });
    }
}

#[test]
fn everything_is_told_once_and_in_order() {
    loom::model(|| {
        let told = std::sync::Arc::new(StdMutex::new(Vec::new()));
        let engine = engine(Policy::builder());
        let observer = told.clone();
        let turn = AtomicU64::new(0);
        engine.observe(std::sync::Arc::new(move |event: &Event| {
            if let Event::Transition(transition) = event {
                // Something that loom sees, or it would not try to tell in another order.
                turn.store(transition.generation, Ordering::Release);
                observer.lock().unwrap().push(transition.generation);
            }
        }));
        let other = engine.clone();
        let thread = thread::spawn(move || other.set_override(overriding(OverrideState::Disabled)));
        engine.set_override(overriding(OverrideState::ForcedOpen));
        thread.join().unwrap();
        assert_eq!(*told.lock().unwrap(), [2, 3]);
    });
}

#[test]
fn an_owners_count_is_of_the_life_that_it_belongs_to() {
    loom::model(|| {
        let (earlier, later) = (Life::born_at(2), Life::born_at(4));
        let counters = Arc::new(Counters::new());
        counters.begin(earlier);
        let begun = Arc::new(AtomicBool::new(false));
        let (owners, flag) = (counters.clone(), begun.clone());
        let owner = thread::spawn(move || {
            owners.succeeded.add(earlier);
            let begun = flag.load(Ordering::Acquire);
            if begun {
                owners.succeeded.add(later);
            }
            u64::from(begun)
        });
        counters.begin(later);
        begun.store(true, Ordering::Release);
        assert!(counters.succeeded.count(later) <= 1);
        let counted = owner.join().unwrap();
        assert_eq!(counters.succeeded.count(later), counted);
    });
}

#[test]
fn a_circuit_with_a_handle_is_never_taken_for_abandoned() {
    loom::model(|| {
        let stripes = Arc::new(Stripes::new(Width::Many));
        stripes.handle_cloned();
        let other = stripes.clone();
        // A handle is cloned on one thread and dropped on it; the clone moves back.
        let thread = thread::spawn(move || {
            other.handle_cloned();
            other.handle_dropped();
        });
        assert!(stripes.handles() > 0, "there was a handle all the time");
        thread.join().unwrap();
        stripes.handle_dropped();
        assert_eq!(stripes.handles(), 0);
    });
}

/// A link without a backend.
struct Nobody;

impl Link for Nobody {
    fn wake(&self) {}

    fn known(&self) -> Wait<()> {
        unreachable!("nobody waits in a model")
    }

    fn ask(&self, _: Circuit, _: Unclaimed) -> Wait<Option<Held>> {
        unreachable!("nobody waits in a model")
    }

    fn deadline(&self) -> Duration {
        Duration::ZERO
    }

    fn backend(&self) -> std::sync::Arc<dyn crate::backend::Backend> {
        unreachable!("no model asks for the history")
    }
}

#[test]
fn every_result_is_reported_once_or_of_a_generation_that_is_over() {
    loom::model(|| {
        let engine = engine(Policy::builder().consecutive_failures(9).no_window());
        engine.join(std::sync::Arc::new(Nobody));
        let answer = |view: &View| {
            let (now, totals) = (clock::now(), Totals::Absent);
            let input = Input::Answer { view, asked: now, at: now, totals };
            engine.with(|locked, now| locked.apply(input, Pace::default(), now));
        };
        answer(&View::default());
        let other = engine.clone();
        let thread = thread::spawn(move || {
            record(&other, Outcome::failure());
            record(&other, Outcome::failure());
        });
        let name = CircuitName::expect("test");
        let reported = || match engine.with(|locked, now| locked.report(&name, now)) {
            Reported::Report(report) => report.failures.iter().map(|f| f.number).sum(),
            Reported::View | Reported::Nothing => 0,
        };
        let first: u64 = reported();
        answer(&View { generation: 7, ..View::default() });
        thread.join().unwrap();
        let second: u64 = reported();
        let kept = engine.read().tally.consecutive_failures;
        assert_eq!(second, kept, "what was recorded in the new generation");
        assert!(first + second + engine.read().totals.stale <= 2, "nothing is reported twice");
    });
}

#[test]
fn a_run_of_cancelled_calls_is_never_too_long() {
    loom::model(|| {
        let stripes = Arc::new(Stripes::new(Width::One));
        stripes.drain(2);
        stripes.cancel(2, 9);
        let other = stripes.clone();
        let thread = thread::spawn(move || {
            let succeeded = other.succeed(2);
            (succeeded, other.cancel(2, 9))
        });
        let drained = stripes.drain(4);
        let (succeeded, cancelled) = thread.join().unwrap();
        let left = stripes.drain(6);
        assert_eq!(left, Drained::default(), "nothing is counted in an epoch that is over");
        let after = u64::from(cancelled);
        let expected = if succeeded { (1, after) } else { (0, 1 + after) };
        assert_eq!((drained.successes, drained.run), expected);
    });
}

#[test]
fn what_starts_and_ends_on_two_threads_leaves_nothing_running() {
    let limit = Duration::from_secs(1);
    let at = |ms| Timestamp::default().after(Duration::from_millis(ms));
    loom::model(move || {
        let stripes = Arc::new(Stripes::new(Width::Many));
        let watch = Watch::new(2, limit);
        stripes.watch(watch, at(5_000));
        // One hangs; its slice is taken over by the next that has the same place.
        stripes.start(watch, at(5_000));
        let other = stripes.clone();
        let thread = thread::spawn(move || {
            let started = at(5_000 + 8 * 268);
            other.start(watch, started);
            other.overdue(watch, limit, at(7_600));
            other.end(watch, started);
        });
        let started = at(5_001);
        stripes.start(watch, started);
        stripes.end(watch, started);
        thread.join().unwrap();
        assert_eq!(stripes.overdue(watch, limit, at(60_000)), 1);
    });
}

#[test]
fn a_call_of_an_earlier_phase_is_no_running_one_of_the_next() {
    loom::model(|| {
        let policy = Policy::builder()
            .slow_call_duration(Duration::from_secs(1))
            .slow_call_rate(1.0)
            .minimum_calls(2);
        let engine = engine(policy);
        let other = engine.clone();
        let thread = thread::spawn(move || other.enter(Begin::Now).expect("closed"));
        engine.reset();
        let grant = thread.join().unwrap();
        clock::set(Duration::from_secs(60));
        let running = engine.read().tally.slow_calls;
        // Whether it is counted is decided by the phase that it was admitted to.
        engine.record(grant, Outcome::Success);
        let reading = engine.read();
        assert_eq!(running, 1 - reading.totals.stale, "{reading:?}");
        assert_eq!(reading.tally.slow_calls, running, "counted once");
    });
}

#[test]
fn a_release_that_comes_late_takes_no_probe_of_the_next_round() {
    loom::model(|| {
        let engine = about_to_probe(1);
        let grant = engine.enter(Begin::Later).expect("a probe slot is free");
        let other = engine.clone();
        let thread = thread::spawn(move || other.release(grant));
        engine.reset();
        record(&engine, Outcome::failure());
        clock::set(Duration::from_secs(60));
        assert!(engine.enter(Begin::Now).is_ok(), "the first probe of the next round");
        thread.join().unwrap();
        assert_eq!(engine.read().probes_out, 1);
    });
}

#[test]
fn every_call_is_once_in_the_totals_despite_a_reset() {
    loom::model(|| {
        let engine = engine(half_of_two().minimum_calls(8));
        let other = engine.clone();
        let thread = thread::spawn(move || {
            record(&other, Outcome::Success);
            record(&other, Outcome::Ignored);
        });
        engine.reset();
        let seen = engine.totals(&engine.lock(), clock::now()).permitted();
        thread.join().unwrap();
        let totals = engine.read().totals;
        assert!(seen <= 2);
        assert_eq!(totals.permitted(), 2, "{totals:?}");
    });
}

#[test]
fn a_call_of_a_circuit_that_is_gone_is_in_no_totals_of_the_next() {
    loom::model(|| {
        let engine = engine(half_of_two().minimum_calls(8));
        let late = engine.enter(Begin::Now).expect("closed");
        let other = engine.clone();
        let thread = thread::spawn(move || other.record(late, Outcome::Ignored));
        assert!(engine.vacate());
        engine.occupy(Policy::default(), Vec::new());
        thread.join().unwrap();
        assert_eq!(engine.read().totals.permitted(), 0);
    });
}
