//! Circuits by name: who shares, and whose policy holds.

use tower::{Layer, service_fn};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Policy, State, Store};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_name_is_one_circuit_for_handles_layers_clones_and_services() {
    let store = store(fragile());
    let layer = CircuitBreakerLayer::new(store.clone()).named("shared").classify(ErrorsAsFailures);
    let inner = service_fn(|(): ()| async { Ok::<_, ()>(()) });
    let services = [layer.layer(inner), layer.clone().layer(inner).clone()];
    trip(&store.clone().circuit("shared"));
    for service in services {
        assert_state(service.circuit(), State::Open);
    }
    assert_state(&store.circuit("another"), State::Closed);
    let names: Vec<_> = store.circuits().iter().map(|c| c.name().to_string()).collect();
    assert_eq!(names, ["another", "shared"]);
}

#[tokio::test(start_paused = true)]
async fn stores_do_not_share() {
    trip(&store(fragile()).circuit("same"));
    assert_state(&store(fragile()).circuit("same"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_a_name_is_named_after_its_place() {
    let store = store(fragile());
    let make = || CircuitBreakerLayer::new(store.clone()).classify(ErrorsAsFailures);
    let inner = service_fn(|(): ()| async { Ok::<_, ()>(()) });
    let (one, same) = (make().layer(inner), make().layer(inner));
    let other = CircuitBreakerLayer::new(store.clone()).classify(ErrorsAsFailures).layer(inner);
    assert_eq!(one.circuit().name(), same.circuit().name());
    assert_ne!(one.circuit().name(), other.circuit().name());
    let name = one.circuit().name().to_string();
    assert!(name.contains("tests/it/store.rs:"), "{name}");
}

#[tokio::test(start_paused = true)]
async fn the_first_policy_that_is_asked_for_holds() {
    let store = Store::in_memory();
    let early = store.circuit("late to the party");
    assert_eq!(early.policy(), Policy::default());
    succeed(&early);

    let asked = store.circuit_with("late to the party", Policy::database());
    assert_eq!(early.policy(), Policy::database(), "nobody had asked before");
    assert_eq!(asked.snapshot().tally.calls, 0, "evidence starts anew");
    let second = store.circuit_with("late to the party", Policy::cache());
    assert_eq!(second.policy(), Policy::database());
    assert_eq!(store.circuit("late to the party").policy(), Policy::database());
}

#[tokio::test(start_paused = true)]
async fn a_policy_put_in_force_later_leaves_an_override_alone() {
    let store = Store::in_memory();
    store.circuit("a").force_open("by hand");
    store.circuit_with("a", Policy::database());
    assert_state(&store.circuit("a"), State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_outlives_its_store_where_it_is_used() {
    let circuit = store(fragile()).circuit("orphan");
    // Whatever is made meanwhile is not made of it.
    let others: Vec<_> = (0..100).map(|_| store(fragile()).circuit("other")).collect();
    trip(&circuit);
    assert!(others.iter().all(|other| other.state() == State::Closed));
    assert_state(&circuit.clone(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_made_of_an_old_one_knows_nothing_of_it() {
    // More than enough for one engine to be used again, and its late permits with it.
    let mut late = Vec::new();
    for _ in 0..1_000 {
        let circuit = store(fragile()).circuit("short-lived");
        assert_eq!(circuit.snapshot().generation, 1);
        assert_eq!((circuit.snapshot().tally.calls, circuit.snapshot().stale_results), (0, 0));
        late.push(hold(&circuit));
        trip(&circuit);
    }
    let circuit = store(fragile()).circuit("the last");
    let before = evidence(&circuit);
    for permit in late {
        permit.settle(tower_breaker::Outcome::failure());
    }
    assert_eq!(evidence(&circuit), before);
    assert_eq!(circuit.snapshot().stale_results, 0, "they were other circuits' calls");
}
