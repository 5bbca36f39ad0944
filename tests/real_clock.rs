//! Tests on the real clock. A program of its own, as it must not have the feature `test-util`,
//! under which the crate reads the clock of tokio, which has no ticks. Its tests sleep for the
//! announced times.

use std::thread::sleep;
use std::time::Duration;

use tower_breaker::{Outcome, Policy, Store};

#[test]
fn a_retry_after_exactly_the_announced_time_is_admitted() {
    let policy = Policy::builder().consecutive_failures(1).open_for(Duration::from_millis(7));
    let store = Store::builder().default_policy(policy.build().unwrap()).build();
    for n in 0..100 {
        let circuit = store.circuit(format!("circuit {n}"));
        circuit.try_acquire().unwrap().settle(Outcome::failure());
        let wait = circuit.try_acquire().unwrap_err().retry_after().unwrap();
        sleep(wait);
        assert!(circuit.try_acquire().is_ok(), "rejected again after {wait:?}");
    }
}

#[test]
fn an_interval_of_whole_seconds_is_announced_as_that_number() {
    let policy =
        Policy::builder().consecutive_failures(1).open_for(Duration::from_secs(3)).jitter(0.0);
    let circuit = Store::builder().default_policy(policy.build().unwrap()).build().circuit("test");
    circuit.try_acquire().unwrap().settle(Outcome::failure());
    let rejection = circuit.try_acquire().unwrap_err();
    assert!(rejection.retry_after_seconds() <= Some(3), "{rejection}");
}
