//! Memory: what a call allocates, and what a circuit keeps.

use std::future::ready;
use std::task::{Context, Waker};

use allocation_counter::measure;
use tower::{Layer, Service, service_fn};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy};

use crate::support::*;

#[test]
fn a_circuit_s_memory_does_not_grow_with_calls() {
    let windows = [
        Policy::builder().time_window_in_buckets(s(3_600), 60),
        Policy::builder().count_window(1_000),
        Policy::builder().no_window(),
    ];
    for policy in windows {
        let circuit = circuit(policy.consecutive_failures(10));
        fail(&circuit);
        let during = measure(|| {
            for call in 0..100_000_u32 {
                match call % 7 {
                    0 => fail(&circuit),
                    1 => ignore(&circuit),
                    _ => succeed(&circuit),
                }
            }
        });
        assert_eq!((during.count_total, during.bytes_current), (0, 0));
    }
}

#[test]
fn short_lived_stores_use_the_same_memory_again() {
    let once = || drop(store(fragile()).circuit("short-lived"));
    (0..100).for_each(|_| once());
    // Other tests take engines from the same pool, so now and then a new one is made here.
    let during = measure(|| (0..1_000).for_each(|_| once()));
    assert!(during.bytes_current < 100 * 4_096, "{during:?}");
}

#[test]
fn no_call_allocates_closed_open_or_with_a_clone_for_each() {
    let store = store(Policy::builder().slow_call_duration(s(1)));
    let inner = service_fn(|(): ()| ready(Ok::<_, ()>(())));
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures);
    let mut service = layer.layer(inner);
    let mut in_call = layer.reject_in_call().layer(inner);
    let mut cx = Context::from_waker(Waker::noop());
    let mut calls = || {
        for _ in 0..100 {
            if service.poll_ready(&mut cx).is_ready_and(|ready| ready.is_ok()) {
                let call = std::pin::pin!(service.call(()));
                assert!(call.poll(&mut cx).is_ready());
            }
            let mut clone = service.clone();
            if clone.poll_ready(&mut cx).is_ready_and(|ready| ready.is_ok()) {
                let call = std::pin::pin!(clone.call(()));
                assert!(call.poll(&mut cx).is_ready());
            }
            assert!(in_call.poll_ready(&mut cx).is_ready());
            let call = std::pin::pin!(in_call.call(()));
            assert!(call.poll(&mut cx).is_ready());
        }
    };
    calls();
    assert_eq!(measure(&mut calls).count_total, 0, "closed");
    let circuit = store.circuit("test");
    for _ in 0..5 {
        circuit.try_acquire().unwrap().settle(Outcome::failure());
    }
    assert!(!circuit.is_available());
    assert_eq!(measure(&mut calls).count_total, 0, "open");
    circuit.force_open("test");
    assert_eq!(measure(&mut calls).count_total, 0, "forced open");
}

trait IsReadyAnd<T> {
    fn is_ready_and(self, f: impl FnOnce(T) -> bool) -> bool;
}

impl<T> IsReadyAnd<T> for std::task::Poll<T> {
    fn is_ready_and(self, f: impl FnOnce(T) -> bool) -> bool {
        match self {
            Self::Ready(value) => f(value),
            Self::Pending => false,
        }
    }
}
