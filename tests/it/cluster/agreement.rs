//! Random histories, played to the backend in memory and to Redis, which must answer the same at
//! each step.
//!
//! Every duration is either zero or an hour, so that it does not matter how long a step takes.
//! Generations come from the clock of a backend and differ; they are compared by their order of
//! appearance.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, Delta, Geometry, Lease, MemoryBackend, Move, Notice, OpenTerms, Probed, RecordState,
    RedisBackend, Report, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use crate::support::redis::Server;
use crate::support::s;

const HOUR: Duration = s(3_600);

/// Above the time of any clock, and below the largest integer that a double is exact for.
const FAR: u64 = 1 << 50;

#[derive(Clone, Debug)]
struct Step {
    circuit: usize,
    verb: Verb,
}

#[derive(Clone, Debug)]
enum Verb {
    Load,
    Report(Report, When),
    Transition(Move, When),
    Acquire(u64, When),
    Settle(u64, Probed, When),
    Restore { ahead: u64, revision: u64, state: RecordState, record: Option<OverrideRecord> },
    SetOverride(Option<OverrideRecord>),
}

/// Which generation a step names.
#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    Before(usize),
    Never,
}

#[test]
fn redis_and_memory_answer_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = Server::start();
    let config = server.config().command_timeout(s(2));
    let redis = runtime.block_on(RedisBackend::connect(&config)).unwrap();
    let history = prop::collection::vec(step(), 1..60);
    let number = Cell::new(0);
    TestRunner::new(Config { cases: 128, failure_persistence: None, ..Config::default() })
        .run(&(history,), |(history,)| {
            number.set(number.get() + 1);
            runtime.block_on(play(&redis, number.get(), &history));
            Ok(())
        })
        .unwrap();
    runtime.block_on(redis.close()).unwrap();
}

async fn play(redis: &RedisBackend, number: u32, history: &[Step]) {
    let memory = MemoryBackend::new();
    let names = ["a", "b", "end"].map(|name| CircuitName::new(format!("{number} {name}")).unwrap());
    let (mut here, mut there) = (memory.subscribe(), redis.subscribe());
    let mut memories = [Side::new(&memory), Side::new(&memory)];
    let mut redises = [Side::new(redis), Side::new(redis)];
    for (at, Step { circuit, verb }) in history.iter().enumerate() {
        let ours = memories[*circuit].play(&names[*circuit], verb).await;
        let theirs = redises[*circuit].play(&names[*circuit], verb).await;
        assert_eq!(theirs, ours, "at step {at} of {history:#?}");
    }
    // The override of the last circuit marks the end of the notices.
    memory.set_override(&names[2], None).await.unwrap();
    redis.set_override(&names[2], None).await.unwrap();
    let ours = notices(&mut here, &names, &mut memories).await;
    let theirs = notices(&mut there, &names, &mut redises).await;
    assert_eq!(theirs, ours, "of {history:#?}");
}

async fn notices(
    receiver: &mut Receiver<Notice>,
    names: &[CircuitName; 3],
    sides: &mut [Side<'_>; 2],
) -> Vec<(usize, Shown)> {
    let mut seen = Vec::new();
    loop {
        let notice = tokio::time::timeout(s(20), receiver.recv()).await.expect("a notice");
        let Notice::View(about, view) = notice.unwrap() else { continue };
        match names.iter().position(|name| *name == about) {
            Some(2) => return seen,
            Some(circuit) => seen.push((circuit, sides[circuit].shown(*view))),
            None => {}
        }
    }
}

/// A backend, and what it has shown of one circuit.
struct Side<'a> {
    backend: &'a dyn Backend,
    generations: Vec<u64>,
    versions: Vec<u64>,
}

/// The order of the generation and of the version, and a view without what depends on the clock.
type Shown = (usize, usize, View);

impl<'a> Side<'a> {
    fn new(backend: &'a dyn Backend) -> Self {
        Self { backend, generations: vec![View::FIRST], versions: vec![0] }
    }

    fn when(&self, when: When) -> u64 {
        match when {
            When::Now => *self.generations.last().unwrap(),
            When::Before(n) => *self.generations.iter().rev().nth(n + 1).unwrap_or(&View::FIRST),
            When::Never => 0,
        }
    }

    async fn play(&mut self, name: &CircuitName, verb: &Verb) -> (Option<bool>, Shown) {
        let backend = self.backend;
        let mut granted = None;
        let view = match verb {
            Verb::Load => backend.load(name).await,
            Verb::Report(report, when) => {
                let report = Report { generation: self.when(*when), ..report.clone() };
                backend.report(name, &report).await
            }
            Verb::Transition(to, when) => backend.transition(name, self.when(*when), to).await,
            Verb::Acquire(nonce, when) => {
                let answer = backend.acquire_probe(name, self.when(*when), *nonce).await;
                answer.map(|(lease, view)| {
                    granted = lease.map(|lease| lease.generation == view.generation);
                    view
                })
            }
            Verb::Settle(nonce, result, when) => {
                let lease = Lease { generation: self.when(*when), nonce: *nonce, remaining: HOUR };
                backend.settle_probe(name, lease, result).await
            }
            Verb::Restore { ahead, revision, state, record } => {
                let last = self.when(When::Now);
                let mut view = View::default();
                view.generation = if *ahead == 0 { last } else { last.max(FAR) + ahead };
                view.revision = *revision;
                view.state = *state;
                view.tally = Tally {
                    calls: 7,
                    failures: 6,
                    slow_calls: 5,
                    consecutive_failures: 4,
                    ..Tally::default()
                };
                view.overridden.version =
                    self.versions.last().unwrap() + u64::from(record.is_some());
                view.overridden.record = record.clone();
                backend.restore(name, &view).await
            }
            Verb::SetOverride(record) => backend.set_override(name, record.as_ref()).await,
        };
        (granted, self.shown(view.unwrap()))
    }

    fn shown(&mut self, mut view: View) -> Shown {
        let generation = order(&mut self.generations, &mut view.generation);
        let version = order(&mut self.versions, &mut view.overridden.version);
        let round = |left: &mut Duration| *left = if left.is_zero() { *left } else { HOUR };
        match &mut view.state {
            RecordState::Open { remaining, .. } => round(remaining),
            RecordState::HalfOpen { next_expiry: Some(next), .. } => round(next),
            _ => {}
        }
        if let Some(left) = view.overridden.record.as_mut().and_then(|set| set.remaining.as_mut()) {
            round(left);
        }
        // The empty share of a replica that reported nothing makes no difference.
        view.shares.retain(|share| *share != Tally::default());
        view.shares.sort_by_key(|share| {
            (share.calls, share.failures, share.slow_calls, share.consecutive_failures)
        });
        (generation, version, view)
    }
}

fn order(seen: &mut Vec<u64>, number: &mut u64) -> usize {
    let order = seen.iter().position(|known| known == number).unwrap_or_else(|| {
        assert!(seen.last().unwrap() < number, "generations and versions grow");
        seen.push(*number);
        seen.len() - 1
    });
    *number = 0;
    order
}

fn step() -> impl Strategy<Value = Step> {
    (0..2_usize, verb()).prop_map(|(circuit, verb)| Step { circuit, verb })
}

fn verb() -> impl Strategy<Value = Verb> {
    let records = || prop::option::of(override_record());
    prop_oneof![
        1 => Just(Verb::Load),
        6 => (report(), when()).prop_map(|(report, when)| Verb::Report(report, when)),
        2 => (to(), when()).prop_map(|(to, when)| Verb::Transition(to, when)),
        6 => (0..5_u64, when()).prop_map(|(nonce, when)| Verb::Acquire(nonce, when)),
        5 => (0..5_u64, probed(), when())
            .prop_map(|(nonce, result, when)| Verb::Settle(nonce, result, when)),
        1 => (0..3_u64, 0..9_u64, record_state(), records()).prop_map(
            |(ahead, revision, state, record)| {
                Verb::Restore { ahead, revision, state, record }
            }
        ),
        1 => records().prop_map(Verb::SetOverride),
    ]
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        8 => Just(When::Now),
        2 => (0..2_usize).prop_map(When::Before),
        1 => Just(When::Never),
    ]
}

fn lasts() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(HOUR)]
}

fn terms() -> impl Strategy<Value = OpenTerms> {
    (
        prop_oneof![4 => Just(Duration::ZERO), 1 => Just(HOUR)],
        0..4_u32,
        0..4_u64,
        prop_oneof![1 => Just(Duration::ZERO), 4 => Just(HOUR)],
        0..4_u64,
    )
        .prop_map(|(interval, reopenings, probes, lease, successes_to_close)| OpenTerms {
            interval,
            reopenings,
            probes,
            lease,
            successes_to_close,
        })
}

fn tally(failures: u64) -> Tally {
    Tally {
        calls: 100,
        failures,
        slow_calls: 3,
        consecutive_failures: failures / 2,
        ..Tally::default()
    }
}

fn to() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (terms(), 0..100_u64).prop_map(|(terms, failures)| Move::Open {
            terms,
            reason: Reason::SlowCallRate,
            tally: tally(failures),
        }),
        1 => Just(Move::Closed { reason: Reason::Override }),
    ]
}

fn probed() -> impl Strategy<Value = Probed> {
    prop_oneof![
        3 => Just(Probed::Passed),
        1 => Just(Probed::Released),
        1 => terms()
            .prop_map(|terms| Probed::Failed { terms, reason: Reason::ProbeExpired }),
    ]
}

fn record_state() -> impl Strategy<Value = RecordState> {
    prop_oneof![
        Just(RecordState::Closed),
        (terms(), lasts()).prop_map(|(terms, remaining)| RecordState::Open { terms, remaining }),
        terms().prop_map(|terms| {
            RecordState::HalfOpen { terms, passed: 1, out: 1, next_expiry: Some(HOUR) }
        }),
    ]
}

fn override_record() -> impl Strategy<Value = OverrideRecord> {
    (
        prop_oneof![Just(OverrideState::ForcedOpen), Just(OverrideState::MetricsOnly)],
        ".{0,6}",
        prop::option::of(".{0,6}"),
        prop::option::of(lasts()),
    )
        .prop_map(|(state, reason, actor, remaining)| OverrideRecord {
            state,
            reason,
            actor,
            remaining,
        })
}

fn report() -> impl Strategy<Value = Report> {
    let window = |millis, buckets| Just(Some(Geometry { millis, buckets }));
    (
        "[abc]",
        0..12_u64,
        (0..9_u64, 0..4_u64, 0..3_u64, 0..3_u64, any::<bool>()),
        prop_oneof![Just(None), window(36_000_000, 10), window(360_000_000, 60)],
        prop::option::of(lasts()),
        any::<bool>(),
    )
        .prop_map(|(replica, seq, delta, window, vote, shares)| {
            let (calls, failures, slow_calls, streak, succeeded) = delta;
            let delta = Delta { calls, failures, slow_calls, streak, succeeded };
            Report { replica, seq, generation: 0, delta, window, vote, shares }
        })
}
