//! The vocabulary of the tests: verbs on a circuit, and fixtures.

pub(crate) mod checker;
pub(crate) mod faulty;
pub(crate) mod grpc;
pub(crate) mod keyed;
#[cfg(feature = "tower")]
pub(crate) mod layers;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod order;
pub(crate) mod outage;
pub(crate) mod partial;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod replica;
pub(crate) mod schedule;
pub(crate) mod sim;
pub(crate) mod traffic;
pub(crate) mod upstream;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tower_breaker::backend::Backend;
use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::event::{Event, Reason, Transition};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::stats::Totals;
use tower_breaker::{Circuit, Outcome, Policy, Rejected, State, Store, StoreBuilder};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A circuit without jitter, so that its intervals are known.
#[track_caller]
pub(crate) fn circuit(policy: PolicyBuilder) -> Circuit {
    store(policy).circuit("test")
}

#[track_caller]
pub(crate) fn store(policy: PolicyBuilder) -> Store {
    Store::builder().default_policy(policy.jitter(0.0).build().unwrap()).build()
}

/// A store on a backend, without jitter.
pub(crate) fn store_on(backend: impl Backend, policy: PolicyBuilder) -> StoreBuilder {
    Store::builder().default_policy(policy.jitter(0.0).build().unwrap()).backend(backend)
}

/// Opens after one failure, for 10 s; one successful probe closes it.
pub(crate) fn fragile() -> PolicyBuilder {
    Policy::builder()
        .consecutive_failures(1)
        .open_for(s(10))
        .backoff(2.0, s(60))
        .probes(1)
        .successes_to_close(1)
        .probe_lease(s(5))
}

/// Starts a call, which the test settles.
#[track_caller]
pub(crate) fn hold(circuit: &Circuit) -> Permit {
    match circuit.try_acquire() {
        Ok(permit) => permit,
        Err(rejected) => panic!("should have been admitted: {rejected}"),
    }
}

#[track_caller]
pub(crate) fn succeed(circuit: &Circuit) {
    hold(circuit).settle(Outcome::Success);
}

#[track_caller]
pub(crate) fn fail(circuit: &Circuit) {
    hold(circuit).settle(Outcome::failure());
}

#[track_caller]
pub(crate) fn ignore(circuit: &Circuit) {
    hold(circuit).settle(Outcome::Ignored);
}

#[track_caller]
pub(crate) fn times(n: usize, verb: impl Fn(&Circuit), circuit: &Circuit) {
    for _ in 0..n {
        verb(circuit);
    }
}

#[track_caller]
pub(crate) fn rejected(circuit: &Circuit) -> Rejected {
    match circuit.try_acquire() {
        Ok(_) => panic!("should have been rejected"),
        Err(rejected) => rejected,
    }
}

#[track_caller]
pub(crate) fn assert_state(circuit: &Circuit, state: State) {
    assert_eq!(circuit.state(), state, "{:?}", circuit.snapshot());
}

/// Opens the circuit by failures.
#[track_caller]
pub(crate) fn trip(circuit: &Circuit) {
    while circuit.state() != State::Open {
        fail(circuit);
    }
}

/// The time that [`advance`] moves.
#[expect(clippy::disallowed_methods, reason = "tests have no other clock")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

pub(crate) async fn advance(time: Duration) {
    tokio::time::advance(time).await;
}

/// Waits until an open circuit would admit a probe.
pub(crate) async fn wait_out(circuit: &Circuit) {
    let wait = circuit.snapshot().retry_after.expect("an open circuit");
    advance(wait).await;
}

/// Opens the circuit, and waits until it would admit a probe.
pub(crate) async fn open_until_due(circuit: &Circuit) {
    trip(circuit);
    wait_out(circuit).await;
}

/// Waits until something has happened elsewhere, for example in a server.
pub(crate) async fn wait_for(what: &str, happened: impl Fn() -> bool) {
    let until = async {
        while !happened() {
            tokio::time::sleep(ms(1)).await;
        }
    };
    assert!(tokio::time::timeout(s(60), until).await.is_ok(), "waited for {what}");
}

/// Receives a part of every transition of the circuit from now on.
pub(crate) fn observe<T: Send + 'static>(
    circuit: &Circuit,
    part: impl Fn(&Transition) -> T + Send + Sync + 'static,
) -> Receiver<T> {
    let (sender, received) = channel();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event {
            // The test may have dropped the receiver.
            let _ = sender.send(part(transition));
        }
    });
    received
}

/// Receives the reason of every transition from now on.
pub(crate) fn reasons(circuit: &Circuit) -> Receiver<Reason> {
    observe(circuit, |transition| transition.reason)
}

/// Receives every event of the circuit from now on.
pub(crate) fn events(circuit: &Circuit) -> Receiver<Event> {
    let (sender, received) = channel();
    circuit.on_change(move |event| {
        // The test may have dropped the receiver.
        let _ = sender.send(event.clone());
    });
    received
}

/// Receives the generation of every transition from now on.
pub(crate) fn generations(circuit: &Circuit) -> Receiver<u64> {
    observe(circuit, |transition| transition.generation)
}

/// Long enough to tell a test that hangs from one that is slow.
pub(crate) const HANGS: Duration = Duration::from_secs(20);

/// Runs `test` on a thread of its own, so that it fails if it hangs.
#[track_caller]
pub(crate) fn must_end(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(HANGS) {
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

/// What must not change while nothing happens: all but the times, the count of stale
/// results, and the totals.
pub(crate) fn evidence(circuit: &Circuit) -> Snapshot {
    let mut snapshot = circuit.snapshot();
    snapshot.since = Duration::ZERO;
    snapshot.retry_after = None;
    snapshot.stale_results = 0;
    snapshot.totals = Totals::default();
    snapshot
}

/// Runs `test` on a paused clock.
pub(crate) fn paused<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}
