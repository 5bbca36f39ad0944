//! Circuits of keys without tower.

use tower::{Layer, service_fn};
use tower_breaker::{Policy, Store};

use crate::support::keyed::{builder, call, layer, names, upstream};
use crate::support::log::Log;
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn without_tower_a_key_has_the_same_circuit_as_in_a_layer() {
    let store = builder(fragile()).build();
    let hosts = store.keyed("up");
    let mut service = layer(&store).layer(service_fn(upstream));
    let down = || async { Err::<(), _>("down") };
    assert!(hosts.circuit("down").unwrap().execute(down).await.is_err());
    assert!(call(&mut service, "down").unwrap_err().is_rejected());
    call(&mut service, "a").unwrap();
    assert_eq!(hosts.circuit("a").unwrap().snapshot().tally.calls, 1);
    assert_eq!(names(&store), ["up:a", "up:down"]);
}

#[tokio::test(start_paused = true)]
async fn without_tower_keys_are_bounded_and_evicted_too() {
    let store = builder(fragile()).key_limit(2).build();
    let hosts = store.keyed("up");
    for n in 0..100 {
        assert!(hosts.circuit(&n.to_string()).is_some());
        advance(ms(1)).await;
    }
    assert_eq!(names(&store), ["up:98", "up:99"]);
    let in_use = [hosts.circuit("98"), hosts.circuit("99")];
    assert!(hosts.circuit("100").is_none(), "no room");
    drop(in_use);
    assert!(hosts.circuit("100").is_some());
}

#[tokio::test(start_paused = true)]
async fn without_tower_an_empty_key_has_no_circuit_and_is_logged() {
    let log = Log::default();
    let _guard = log.listen();
    let store = Store::in_memory();
    assert!(store.keyed("up").circuit("").is_none());
    assert!(store.circuits().is_empty());
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
}

#[test]
fn without_tower_keys_have_the_policy_that_was_set_for_them() {
    let store = Store::builder().policy("up:b", Policy::database()).build();
    let hosts = store.keyed("up").policy(Policy::cache());
    assert_eq!(hosts.circuit("a").unwrap().policy(), Policy::cache());
    assert_eq!(hosts.circuit("b").unwrap().policy(), Policy::database());
    assert_eq!(store.keyed("other").circuit("a").unwrap().policy(), Policy::default());
}

#[test]
fn a_key_limit_of_zero_means_no_circuits_of_keys() {
    let store = Store::builder().key_limit(0).build();
    assert!(store.keyed("up").circuit("a").is_none());
}

#[test]
#[should_panic(expected = "at most 64 bytes, this one has 65")]
fn without_tower_a_name_leaves_room_for_keys() {
    let _ = Store::in_memory().keyed("x".repeat(65));
}
