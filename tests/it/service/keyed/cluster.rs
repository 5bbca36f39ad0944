//! Circuits of keys, in a store with a backend.

use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{Error, State};

use crate::support::keyed::{builder, layer, names, upstream};
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn circuits_of_keys_are_shared_by_the_cluster() {
    let backend = MemoryBackend::new();
    let replica = || {
        let store = builder(fragile()).backend(backend.clone()).build();
        layer(&store).layer(service_fn(upstream))
    };
    let (one, other) = (replica(), replica());
    one.clone().oneshot("down").await.unwrap_err();
    tokio::time::sleep(ms(200)).await;
    // The first call of a key waits for the record of the circuit.
    let error = other.clone().oneshot("down").await.unwrap_err();
    assert!(error.is_rejected(), "{error:?}");
    other.clone().oneshot("a").await.unwrap();

    tokio::time::sleep(s(10)).await;
    let (a, b) = tokio::join!(one.oneshot("down"), other.oneshot("down"));
    let probes = [a, b].iter().filter(|result| matches!(result, Err(Error::Inner(_)))).count();
    assert_eq!(probes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_circuit_reports_to_the_cluster_when_it_is_used_again() {
    let backend = MemoryBackend::new();
    let up = Upstream::new(Does::Succeed);
    let replica = || {
        let policy = fragile().consecutive_failures(2);
        let store = builder(policy).backend(backend.clone()).key_idle(s(60)).build();
        let up = up.clone();
        let inner = service_fn(move |request: &'static str| {
            let up = up.clone();
            async move { if request == "a" { up.oneshot(()).await } else { Ok(()) } }
        });
        let service = layer(&store).layer(inner);
        (store, service)
    };
    let ((store, one), (_other_store, other)) = (replica(), replica());
    for _ in 0..5 {
        one.clone().oneshot("a").await.unwrap();
        tokio::time::sleep(ms(500)).await;
    }
    for _ in 0..6 {
        tokio::time::sleep(s(30)).await;
        one.clone().oneshot("b").await.unwrap();
    }
    assert_eq!(names(&store), ["up:b"]);

    up.now(Does::Fail);
    one.clone().oneshot("a").await.unwrap_err();
    tokio::time::sleep(ms(500)).await;
    other.clone().oneshot("a").await.unwrap_err();
    tokio::time::sleep(ms(500)).await;
    assert_state(&store.circuit("up:a"), State::Open);
    assert!(store.shutdown(s(1)).await, "no sync task is left");
}
