//! Circuits, and real calls through them.

use std::io;
use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Policy, State, Store};

/// So many failures in a row open a circuit of the tests.
pub(crate) const THRESHOLD: u64 = 3;

/// Opens after three failures in a row, or half of ten calls. Probes come after a minute.
pub(crate) fn policy() -> Policy {
    probing_after(Duration::from_secs(60))
}

/// The same with another open interval.
pub(crate) fn probing_after(open_for: Duration) -> Policy {
    Policy::builder()
        .consecutive_failures(THRESHOLD)
        .failure_rate(0.5)
        .minimum_calls(10)
        .open_for(open_for)
        .successes_to_close(3)
        .build()
        .unwrap()
}

pub(crate) fn store() -> Store {
    Store::builder().default_policy(policy()).replica("orders-7c").build()
}

async fn upstream(good: bool) -> io::Result<()> {
    if good { Ok(()) } else { Err(io::Error::other("503 Service Unavailable")) }
}

/// Makes calls through a circuit that end as `results` says, `true` for a success.
pub(crate) async fn call(store: &Store, name: &str, results: &[bool]) {
    let layer = CircuitBreakerLayer::new(store.clone())
        .named(name.to_owned())
        .classify(ErrorsAsFailures)
        .reject_in_call();
    let service = ServiceBuilder::new().layer(layer).service_fn(upstream);
    for result in results {
        let _ = service.clone().oneshot(*result).await;
    }
}

/// Opens a circuit by real failing calls.
pub(crate) async fn trip(store: &Store, name: &str) {
    for _ in 0..THRESHOLD {
        call(store, name, &[false]).await;
    }
    assert_eq!(store.circuit(name.to_owned()).state(), State::Open);
}
