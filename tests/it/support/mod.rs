//! The vocabulary of the tests: verbs on a circuit, and a service that obeys.

pub(crate) mod checker;
pub(crate) mod faulty;
pub(crate) mod grpc;
pub(crate) mod keyed;
#[cfg(feature = "tower")]
pub(crate) mod layers;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod partial;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod schedule;
pub(crate) mod sim;
pub(crate) mod upstream;

use std::time::Duration;

use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Outcome, Policy, Rejected, State, Store};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A circuit without jitter, so that its times are known.
#[track_caller]
pub(crate) fn circuit(policy: PolicyBuilder) -> Circuit {
    store(policy).circuit("test")
}

#[track_caller]
pub(crate) fn store(policy: PolicyBuilder) -> Store {
    Store::builder().default_policy(policy.jitter(0.0).build().unwrap()).build()
}

/// Opens after one failure, for 10 s; one good probe closes it.
pub(crate) fn fragile() -> PolicyBuilder {
    Policy::builder()
        .consecutive_failures(1)
        .open_for(s(10))
        .backoff(2.0, s(60))
        .probes(1)
        .successes_to_close(1)
        .probe_lease(s(5))
}

/// Makes a call that is to be settled later.
#[track_caller]
pub(crate) fn hold(circuit: &Circuit) -> Permit {
    match circuit.try_acquire() {
        Ok(permit) => permit,
        Err(open) => panic!("should have been admitted: {open}"),
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
        Err(open) => open,
    }
}

#[track_caller]
pub(crate) fn assert_state(circuit: &Circuit, state: State) {
    assert_eq!(circuit.state(), state, "{:?}", circuit.snapshot());
}

/// Opens the circuit by failures, and waits until it would let a probe pass.
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

/// Waits until an open circuit would let a probe pass.
pub(crate) async fn wait_out(circuit: &Circuit) {
    let wait = circuit.snapshot().retry_after.expect("an open circuit");
    advance(wait).await;
}

/// Waits until something that happens elsewhere, in a server say, has happened.
pub(crate) async fn wait_for(what: &str, happened: impl Fn() -> bool) {
    let until = async {
        while !happened() {
            tokio::time::sleep(ms(1)).await;
        }
    };
    assert!(tokio::time::timeout(s(60), until).await.is_ok(), "waited for {what}");
}

/// What must not change when nothing may happen: all but the times and the count of stale results.
pub(crate) fn evidence(circuit: &Circuit) -> Snapshot {
    let mut snapshot = circuit.snapshot();
    snapshot.since = Duration::ZERO;
    snapshot.retry_after = None;
    snapshot.stale_results = 0;
    snapshot
}

/// Runs `test` on a clock that stands still.
pub(crate) fn paused<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}
