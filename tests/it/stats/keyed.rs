//! Sums over circuits of keys.

use tower::Layer;
use tower_breaker::{Outcome, Policy};

use crate::support::keyed::{builder, call, layer, upstream};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_totals_of_forgotten_keys_remain_in_the_sum() {
    let store = builder(fragile()).key_idle(s(60)).build();
    let hosts = store.keyed("up");
    for key in ["a", "b", "c"] {
        let circuit = hosts.circuit(key).unwrap();
        succeed(&circuit);
        fail(&circuit);
        rejected(&circuit);
    }
    let before = hosts.totals();
    advance(s(3_600)).await;
    for _ in 0..100 {
        advance(s(10)).await;
        let _ = hosts.circuit("d");
    }
    assert_eq!(store.circuits().len(), 1);
    let after = hosts.totals();
    assert_eq!((after.succeeded, after.failed.sum(), after.rejected), (3, 3, 3));
    assert_eq!(after.transitions, before.transitions);
}

#[test]
fn a_key_that_comes_back_starts_at_zero_and_adds_to_the_sum() {
    let store = builder(Policy::builder()).key_limit(1).build();
    let hosts = store.keyed("up");
    for key in ["a", "b", "a", "b"] {
        let circuit = hosts.circuit(key).unwrap();
        ignore(&circuit);
        drop(hold(&circuit));
        assert_eq!(circuit.snapshot().totals.permitted(), 2, "of this life of the circuit");
    }
    let totals = hosts.totals();
    assert_eq!((totals.ignored, totals.cancelled), (4, 4));
}

#[test]
fn layers_and_lookups_of_one_name_have_one_sum() {
    let store = builder(fragile()).key_limit(1).build();
    let mut service = layer(&store).layer(tower::service_fn(upstream));
    for request in ["fine", "down", "down", "other"] {
        let _ = call(&mut service, request);
    }
    store.keyed("second").circuit("key").unwrap().try_acquire().unwrap().settle(Outcome::Success);
    let totals = store.keyed("up").totals();
    assert_eq!((totals.succeeded, totals.failed.sum(), totals.rejected), (2, 1, 1));
    let all = store.keyed_totals();
    let names: Vec<_> =
        all.iter().map(|(name, totals)| (name.as_str(), totals.permitted())).collect();
    assert_eq!(names, [("second", 1), ("up", 3)]);
}

#[test]
fn a_named_circuit_is_in_no_sum() {
    let store = builder(fragile()).build();
    succeed(&store.circuit("up:key"));
    succeed(&store.keyed("up").circuit("key").unwrap());
    assert_eq!(store.keyed("up").totals().permitted(), 0);
    assert_eq!(store.circuit("up:key").snapshot().totals.succeeded, 2);
}
