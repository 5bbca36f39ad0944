//! A test program of its own, as it must not have the feature `test-util`: with that the crate reads
//! tokio's clock, which has no ticks. It waits for real, for as long as it is told to.

use std::thread::sleep;
use std::time::Duration;

use tower_breaker::{Outcome, Policy, Store};

#[test]
fn who_waits_exactly_as_long_as_announced_is_not_rejected_for_the_same_interval() {
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
fn an_interval_of_whole_seconds_is_announced_as_these_seconds() {
    let policy =
        Policy::builder().consecutive_failures(1).open_for(Duration::from_secs(3)).jitter(0.0);
    let circuit = Store::builder().default_policy(policy.build().unwrap()).build().circuit("test");
    circuit.try_acquire().unwrap().settle(Outcome::failure());
    let open = circuit.try_acquire().unwrap_err();
    assert!(open.retry_after_seconds() <= Some(3), "{open}");
}
