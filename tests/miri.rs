//! Small tests of threads for Miri, which finds undefined behaviour and data races. A program of
//! its own, as the other tests are too large for it. Run it with `scripts/miri`.

use std::time::Duration;

use tower_breaker::policy::Cancelled;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

/// A small number of calls, as Miri is a thousand times slower.
const CALLS: usize = 30;

fn call(circuit: &Circuit, n: usize) {
    if let Ok(permit) = circuit.try_acquire() {
        match n % 5 {
            0 => permit.settle(Outcome::failure()),
            1 => drop(permit),
            2 => permit.settle(Outcome::Ignored),
            _ => permit.settle(Outcome::Success),
        }
    }
}

#[test]
fn calls_of_threads_that_share_a_circuit_are_counted() {
    let policy = Policy::only()
        .failure_count(u64::MAX)
        .slow_call_duration(Duration::from_secs(60))
        .slow_call_rate(1.0)
        .minimum_calls(u64::MAX)
        .cancelled(Cancelled::Ignored);
    let circuit = Store::in_memory().circuit_with("shared", policy.build().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..CALLS).for_each(|n| call(&circuit, n)));
        }
        scope.spawn(|| (0..3).for_each(|_| drop(circuit.snapshot())));
    });
    let tally = circuit.snapshot().tally;
    let (counted, failed) = (3 * CALLS as u64 / 5 * 3, 3 * CALLS as u64 / 5);
    assert_eq!((tally.calls, tally.failures, tally.slow_calls), (counted, failed, 0));
}

#[test]
fn threads_can_open_reset_and_probe_one_circuit() {
    let policy = Policy::builder().consecutive_failures(1).open_for(Duration::from_nanos(1));
    let circuit = Store::in_memory().circuit_with("flapping", policy.build().unwrap());
    circuit.on_change(|_| ());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..CALLS).for_each(|n| call(&circuit, n)));
        }
        scope.spawn(|| (0..CALLS).for_each(|_| drop(circuit.reset())));
    });
    drop(circuit.reset());
    assert_eq!(circuit.state(), State::Closed);
}

#[test]
fn threads_can_reuse_engines_and_evict_keys() {
    let store = Store::builder().key_limit(2).build();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..CALLS / 3 {
                    let permit = Store::in_memory().circuit("short-lived").try_acquire();
                    let keyed = store.keyed("up").circuit(&format!("{}", (n + thread) % 4));
                    if let Some(circuit) = keyed {
                        call(&circuit, n);
                    }
                    drop(permit);
                }
            });
        }
    });
    assert!(store.circuits().len() <= 2);
}
