//! Memory: what a call allocates, and what a circuit keeps.

use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use tower::{Layer, Service, service_fn};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy, Store};

use crate::support::*;

#[test]
fn the_memory_of_a_circuit_does_not_grow_with_calls() {
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

/// Makes and drops one store after another, with other circuits in use.
fn short_lived_stores_beside(held: usize) {
    const STORES: usize = 400_000;
    let held: Vec<_> = (0..held).map(|_| Store::in_memory().circuit("held")).collect();
    let during = measure(|| {
        for _ in 0..STORES {
            drop(Store::in_memory().circuit("short-lived"));
        }
    });
    assert!(during.bytes_current < 10 << 20, "{} held: {during:?}", held.len());
}

#[test]
fn four_hundred_thousand_short_lived_stores_keep_no_memory() {
    short_lived_stores_beside(0);
}

#[test]
fn short_lived_stores_keep_no_memory_beside_eight_circuits_in_use() {
    short_lived_stores_beside(8);
}

#[test]
fn short_lived_stores_keep_no_memory_beside_20_000_circuits_in_use() {
    short_lived_stores_beside(20_000);
}

#[test]
fn no_call_allocates_in_any_state_or_with_a_clone_per_call() {
    let store = store(Policy::builder().slow_call_duration(s(1)));
    let inner = service_fn(|(): ()| ready(Ok::<_, ()>(())));
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures);
    let mut service = layer.layer(inner);
    let mut in_call = layer.reject_in_call().layer(inner);
    let mut cx = Context::from_waker(Waker::noop());
    let mut calls = || {
        for _ in 0..100 {
            call(&mut service, &mut cx);
            call(&mut service.clone(), &mut cx);
            call(&mut in_call, &mut cx);
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

/// One call, if the service is ready for it.
fn call<S: Service<()>>(service: &mut S, cx: &mut Context<'_>) {
    if let Poll::Ready(Ok(())) = service.poll_ready(cx) {
        assert!(pin!(service.call(())).poll(cx).is_ready());
    }
}
