//! What one replica does is the same for all.

use tokio::time::sleep;
use tower_breaker::backend::{Backend, Heartbeat, MemoryBackend, Sender};
use tower_breaker::{Outcome, State, Store};

use crate::support::log::Log;
use crate::support::network;
use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic, Verb};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_after_its_lease_still_opens_the_circuit() {
    let backend = MemoryBackend::new();
    let policy = || fragile().probes(1).successes_to_close(2).probe_lease(s(5));
    let [one, other] = [(); 2].map(|()| Replica::join(&Traffic::over(&backend), policy()));
    sleep(s(1)).await;
    trip(&one.circuit);
    sleep(s(11)).await;
    let late = one.circuit.acquire().await.unwrap();
    assert!(late.is_probe());
    sleep(s(4)).await;
    one.line.set(Fault::Pauses);
    late.settle(Outcome::failure());
    sleep(s(2)).await;
    let good = other.circuit.acquire().await.unwrap();
    assert!(good.is_probe(), "the lease of the first is over");
    good.settle(Outcome::Success);
    sleep(ms(100)).await;
    assert_state(&other.circuit, State::HalfOpen);
    one.line.set(Fault::None);
    sleep(s(3)).await;
    if let Ok(second) = other.circuit.acquire().await {
        second.settle(Outcome::Success);
    }
    sleep(ms(100)).await;
    for replica in [one, other] {
        assert_state(&replica.circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_pushes_vanish_reads_what_it_has_missed() {
    let backend = MemoryBackend::new();
    let unpushed = Replica::join(&Traffic::without_pushes(&backend), fragile());
    let other = Replica::join(&Traffic::over(&backend), fragile());
    sleep(s(60)).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for change in 0..50 {
        sleep(ms(rng.u64(1_000..60_000))).await;
        let to = if change % 2 == 0 { State::Disabled } else { State::Closed };
        let stored = match to {
            State::Disabled => other.circuit.disable("a change").await,
            _ => other.circuit.reset().await,
        };
        stored.unwrap();
        let start = now();
        while unpushed.circuit.state() != to {
            assert!(start.elapsed() < s(5), "change {change} is missed");
            sleep(ms(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_exist_is_not_looked_for_again_and_again() {
    let backend = MemoryBackend::new();
    let replica = Replica::join(&Traffic::over(&backend), fragile());
    sleep(s(60)).await;
    let sender = Sender { name: "forger".into(), id: "forger".into() };
    let (version, impaired) = (String::new(), String::new());
    let seen = network::millis() + 500;
    backend.heartbeat(&Heartbeat { sender, version, impaired, seen }).await.unwrap();
    let before = replica.line.commands_of(Verb::Sync);
    sleep(s(60)).await;
    let polls = replica.line.commands_of(Verb::Sync) - before;
    // With a look at every second heartbeat it would be about 900.
    assert!((32..=100).contains(&polls), "{polls} batches");
}

#[tokio::test(start_paused = true)]
async fn a_trip_has_the_same_evidence_on_every_replica() {
    let (backend, log) = (MemoryBackend::new(), Log::default());
    let _listening = log.listen();
    let [one, other] = [(); 2]
        .map(|()| Replica::join(&Traffic::over(&backend), fragile().consecutive_failures(5)));
    sleep(s(1)).await;
    let [ours, theirs] = [&one, &other].map(|replica| observe(&replica.circuit, |it| it.tally));
    times(5, fail, &one.circuit);
    sleep(s(1)).await;
    assert_eq!(ours.try_recv().unwrap().consecutive_failures, 5);
    assert_eq!(theirs.try_recv().unwrap().consecutive_failures, 5);
    let opened = log.lines().into_iter().filter(|line| line.contains("opened"));
    for line in opened {
        assert!(line.contains("consecutive_failures=5"), "{line}");
    }
}

#[test]
fn a_layer_and_its_key_are_never_another_layer_and_key() {
    let store = Store::in_memory();
    let one = store.keyed("a").circuit("b:c").unwrap();
    let other = store.keyed("a:b").circuit("c").unwrap();
    assert_ne!(one.name(), other.name());
    trip(&one);
    assert_state(&other, State::Closed);
}
