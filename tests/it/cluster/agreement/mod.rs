//! Random histories, played to the backend in memory and to Redis, which must answer the same at
//! each step, and publish the same.

mod history;
mod shown;
mod side;

use proptest::test_runner::{Config, TestRunner};
use tower_breaker::CircuitName;
use tower_breaker::backend::{Backend, Group, MemoryBackend, RedisBackend};
use tower_breaker::event::Transition;
use tower_breaker::overrides::OverrideRecord;

use self::history::{Step, end, history};
use self::side::Side;
use crate::support::redis::{Server, connect, real};
use crate::support::{ms, now, s};

#[test]
fn redis_and_memory_answer_the_same() {
    let server = Server::start();
    let runner = Config {
        cases: 192,
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    real(async {
        let redis = connect(&server.config()).await;
        let here = tokio::runtime::Handle::current();
        let play = |history: Vec<Step>| {
            here.block_on(play(&server, &redis, &history));
            Ok(())
        };
        tokio::task::block_in_place(|| TestRunner::new(runner).run(&history(), play)).unwrap();
    });
}

async fn play(server: &Server, redis: &RedisBackend, history: &[Step]) {
    server.cli(&["FLUSHALL"]);
    let (names, memory, began) = (names(), MemoryBackend::new(), now());
    let (mut ours, mut theirs) = (Side::new(&memory, &names), Side::new(redis, &names));
    for (at, step) in history.iter().enumerate() {
        if let Step::Forget = step {
            memory.forget();
            server.cli(&["FLUSHALL"]);
        }
        let (here, there) = (ours.play(step).await, theirs.play(step).await);
        let published = ours.published();
        let received = theirs.receive(published.len()).await;
        let is_slow = began.elapsed() > ms(1_500);
        let here = ours.known.shown(published, here, is_slow);
        let there = theirs.known.shown(received, there, is_slow);
        assert_eq!(there, here, "at step {at} of {history:#?}");
    }
    // What Redis has published besides would come before this.
    let (here, there) = (ours.play(&end()).await, theirs.play(&end()).await);
    let (published, received) = (ours.published(), theirs.receive(1).await);
    let here = ours.known.shown(published, here, true);
    assert_eq!(theirs.known.shown(received, there, true), here, "after {history:#?}");
    for name in &names {
        assert_eq!(past(redis, name).await, past(&memory, name).await, "after {history:#?}");
    }
}

/// What a backend has noted, without what comes from its clock.
async fn past(backend: &dyn Backend, circuit: &CircuitName) -> Vec<Transition> {
    let mut entries = backend.history(circuit).await.unwrap().unwrap();
    for Transition { generation, open_for, overridden, .. } in
        entries.iter_mut().map(|entry| &mut entry.transition)
    {
        *generation = 0;
        *open_for = open_for.map(|_| s(1));
        if let Some(record) = overridden {
            let remaining = record.remaining.map(|_| s(1));
            *record = OverrideRecord { remaining, ..OverrideRecord::clone(record) }.into();
        }
    }
    entries.into_iter().map(|entry| entry.transition).collect()
}

/// Two circuits of one group, and one of another.
fn names() -> [CircuitName; 3] {
    let all = || (0..).map(|n| CircuitName::new(format!("circuit {n}")).unwrap());
    let first = all().next().unwrap();
    let among = |name: &CircuitName| Group::of(name) == Group::of(&first);
    let second = all().skip(1).find(among).unwrap();
    let other = all().find(|name| !among(name)).unwrap();
    [first, second, other]
}
