//! Circuits by name: which are shared, and which policy applies.

use tower::{Layer, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, CircuitName, ErrorsAsFailures, Outcome, Policy, State, Store,
};

use crate::support::log::Log;
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn handles_layers_clones_and_services_of_a_name_share_one_circuit() {
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
async fn two_stores_share_no_circuit() {
    trip(&store(fragile()).circuit("same"));
    assert_state(&store(fragile()).circuit("same"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_a_name_is_named_after_its_source_location() {
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
async fn the_first_policy_that_is_asked_for_applies() {
    let store = Store::in_memory();
    let early = store.circuit("early");
    assert_eq!(early.policy(), Policy::default());
    succeed(&early);

    let asked = store.circuit_with("early", Policy::database());
    assert_eq!(early.policy(), Policy::database(), "no other policy was asked for before");
    assert_eq!(asked.snapshot().tally.calls, 0, "the evidence starts anew");
    let second = store.circuit_with("early", Policy::cache());
    assert_eq!(second.policy(), Policy::database());
    assert_eq!(store.circuit("early").policy(), Policy::database());
}

#[tokio::test(start_paused = true)]
async fn a_policy_applied_later_keeps_an_override() {
    let store = Store::in_memory();
    store.circuit("a").force_open("a test");
    store.circuit_with("a", Policy::database());
    assert_state(&store.circuit("a"), State::ForcedOpen);
}

#[test]
fn get_makes_no_circuit() {
    let store = Store::in_memory();
    assert!(store.get("payments").is_none());
    assert!(store.circuits().is_empty());
    store.circuit("payments").force_open("test");
    assert_state(&store.get("payments").unwrap(), State::ForcedOpen);
    assert!(store.get("").is_none());
    assert!(store.get(&"x".repeat(1_000)).is_none());
}

#[test]
fn is_keyed_distinguishes_circuits_of_keys_from_named_ones() {
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
async fn a_policy_set_at_runtime_keeps_the_state_of_the_circuit() {
    let store = store(fragile());
    let circuit = store.circuit("a");
    trip(&circuit);
    store.set_policy("a", Policy::database());
    assert_eq!(circuit.policy(), Policy::database());
    assert_state(&circuit, State::Open);
    store.set_policy("a", Policy::cache());
    assert_eq!(circuit.policy(), Policy::cache(), "the last policy applies");
    store.set_policy("b", Policy::cache());
    assert!(store.get("b").is_none(), "setting a policy makes no circuit");
    assert_eq!(store.circuit("b").policy(), Policy::cache(), "a circuit that is made later has it");
}

#[test]
fn a_policy_in_code_neither_replaces_one_set_at_runtime_nor_warns() {
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
fn a_policy_set_at_runtime_outlives_an_evicted_circuit() {
    let store = Store::builder().key_limit(1).build();
    let keys = store.keyed("keys");
    store.set_policy("keys:a", Policy::cache());
    for key in ["a", "b", "a"] {
        let expected = if key == "a" { Policy::cache() } else { Policy::default() };
        assert_eq!(keys.circuit(key).unwrap().policy(), expected);
    }
}

#[test]
fn the_policy_in_force_after_a_race_is_the_remembered_one() {
    for _ in 0..200 {
        let store = Store::builder().key_limit(1).build();
        let keys = store.keyed("keys").policy(Policy::http_api());
        std::thread::scope(|scope| {
            scope.spawn(|| store.set_policy("keys:a", Policy::cache()));
            scope.spawn(|| store.set_policy("keys:a", Policy::database()));
            scope.spawn(|| keys.circuit("a"));
        });
        let in_force = keys.circuit("a").unwrap().policy();
        // Evicted and made again, it has the policy that the store remembers.
        let _ = keys.circuit("b");
        assert!(store.get("keys:a").is_none());
        assert_eq!(keys.circuit("a").unwrap().policy(), in_force);
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_durations_do_not_overflow() {
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
    for backend in [None, Some(MemoryBackend::new())] {
        let mut builder = Store::builder()
            .default_policy(policy.clone())
            .key_idle(max)
            .deadline(max)
            .report_interval(max);
        if let Some(backend) = backend {
            builder = builder.backend(backend);
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

#[test]
fn a_circuit_name_has_1_to_128_bytes() {
    assert!(CircuitName::new("x".repeat(128)).is_ok());
    assert!(CircuitName::new("").is_err());
    let long = CircuitName::new("ä".repeat(65)).unwrap_err();
    assert_eq!(long.to_string(), "a circuit's name has 1 to 128 bytes, this one has 130");
}

#[test]
#[should_panic(expected = "a circuit's name has 1 to 128 bytes, this one has 0")]
fn an_empty_circuit_name_panics() {
    Store::in_memory().circuit("");
}
