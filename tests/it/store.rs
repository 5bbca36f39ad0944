//! Circuits by name: who shares, and whose policy holds.

use tower::{Layer, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy, State, Store,
};

use crate::support::log::Log;
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

#[test]
fn to_get_a_circuit_makes_none() {
    let store = Store::in_memory();
    assert!(store.get("payments").is_none());
    assert!(store.circuits().is_empty());
    store.circuit("payments").force_open("test");
    assert_state(&store.get("payments").unwrap(), State::ForcedOpen);
    assert!(store.get("").is_none());
    assert!(store.get(&"x".repeat(1_000)).is_none());
}

#[test]
fn circuits_of_keys_can_be_told_from_named_ones() {
    let store = Store::in_memory();
    store.circuit("named");
    store.circuit("up:by name");
    let hosts = store.keyed("up");
    let _ = (hosts.circuit("a"), hosts.circuit("by name"));
    let keyed = |circuit: &Circuit| (circuit.name().to_string(), circuit.is_keyed());
    let circuits: Vec<_> = store.circuits().iter().map(keyed).collect();
    let names = ["named", "up:a", "up:by name", "up:by%20name"];
    let expected = names.map(|name| (name.to_owned(), name == "up:a" || name == "up:by%20name"));
    assert_eq!(circuits, expected);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_changed_while_the_circuit_runs_and_its_state_stays() {
    let store = store(fragile());
    let circuit = store.circuit("a");
    trip(&circuit);
    store.set_policy("a", Policy::database());
    assert_eq!(circuit.policy(), Policy::database());
    assert_state(&circuit, State::Open);
    store.set_policy("a", Policy::cache());
    assert_eq!(circuit.policy(), Policy::cache(), "the last one holds");
    store.set_policy("b", Policy::cache());
    assert!(store.get("b").is_none(), "it makes no circuit");
    assert_eq!(store.circuit("b").policy(), Policy::cache(), "of one that is made later");
}

#[test]
fn a_policy_in_code_neither_undoes_one_set_at_runtime_nor_warns() {
    let log = Log::default();
    let _guard = log.listen();
    let store = Store::builder().policy("built", Policy::database()).build();
    for name in ["built", "later", "keys:a", "keys:later"] {
        store.set_policy(name, Policy::cache());
    }
    let layer = CircuitBreakerLayer::new(store.clone()).named("later").policy(Policy::http_api());
    let service = layer.layer(service_fn(|(): ()| async { Ok::<_, ()>(()) }));
    assert_eq!(service.circuit().policy(), Policy::cache());
    assert_eq!(store.circuit_with("built", Policy::http_api()).policy(), Policy::cache());
    let keys = store.keyed("keys").policy(Policy::http_api());
    assert_eq!(keys.circuit("a").unwrap().policy(), Policy::cache());
    assert_eq!(keys.circuit("b").unwrap().policy(), Policy::http_api());
    store.set_policy("keys:b", Policy::database());
    assert_eq!(keys.circuit("b").unwrap().policy(), Policy::database());
    assert!(log.lines().is_empty(), "{:?}", log.lines());
}

#[test]
fn a_policy_set_at_runtime_outlives_the_circuit_of_a_key() {
    let store = Store::builder().key_limit(1).build();
    let keys = store.keyed("keys");
    store.set_policy("keys:a", Policy::cache());
    for key in ["a", "b", "a"] {
        let expected = if key == "a" { Policy::cache() } else { Policy::default() };
        assert_eq!(keys.circuit(key).unwrap().policy(), expected);
    }
}

#[test]
fn of_policies_set_by_threads_at_once_the_remembered_one_is_in_force() {
    for _ in 0..200 {
        let store = Store::builder().key_limit(1).build();
        let keys = store.keyed("keys").policy(Policy::http_api());
        std::thread::scope(|scope| {
            scope.spawn(|| store.set_policy("keys:a", Policy::cache()));
            scope.spawn(|| store.set_policy("keys:a", Policy::database()));
            scope.spawn(|| keys.circuit("a"));
        });
        let in_force = keys.circuit("a").unwrap().policy();
        // Evicted and made again, it has what the store remembers.
        let _ = keys.circuit("b");
        assert!(store.get("keys:a").is_none());
        assert_eq!(keys.circuit("a").unwrap().policy(), in_force);
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_too_long() {
    let max = std::time::Duration::MAX;
    let policy = Policy::builder()
        .consecutive_failures(1)
        .time_window(max)
        .slow_call_duration(max)
        .slow_call_rate(0.5)
        .open_for(max)
        .backoff(2.0, max)
        .probe_lease(max)
        .build()
        .unwrap();
    for ledger in [None, Some(MemoryBackend::new())] {
        let mut builder = Store::builder()
            .default_policy(policy.clone())
            .key_idle(max)
            .deadline(max)
            .report_interval(max);
        if let Some(ledger) = ledger {
            builder = builder.backend(ledger);
        }
        let store = builder.build();
        for circuit in [store.circuit("a"), store.keyed("keys").circuit("a").unwrap()] {
            let call = async || circuit.execute(|| async { Err::<(), _>("down") }).await;
            assert!(!call().await.unwrap_err().is_rejected());
            assert!(call().await.unwrap_err().is_rejected());
            advance(s(3_600)).await;
            let forced = tower_breaker::overrides::Override::force_closed("test").lasting(max);
            drop(circuit.set_override(forced));
            tokio::time::sleep(s(60)).await;
            assert_state(&circuit, State::ForcedClosed);
            circuit.reset().await.unwrap();
            let error = Outcome::Failure { retry_after: Some(max) };
            circuit.acquire().await.unwrap().settle(error);
            tokio::time::sleep(s(60)).await;
            assert_state(&circuit, State::Open);
            let _ = circuit.snapshot();
        }
        assert!(store.shutdown(max).await);
    }
}
