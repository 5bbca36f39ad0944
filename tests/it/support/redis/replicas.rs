//! Replicas on a real Redis: how they join, and how a test waits for them.

use std::sync::atomic::{AtomicU64, Ordering};

use tower_breaker::backend::{RedisBackend, RedisConfig};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Policy, State, StoreBuilder};

use super::{Server, connect, eventually};
use crate::support::replica::Replica;
use crate::support::{ms, s, store_on, wait_for};

/// Opens after three failures, for half a second; one successful probe closes it.
pub(crate) fn policy() -> PolicyBuilder {
    Policy::builder()
        .consecutive_failures(3)
        .open_for(ms(500))
        .backoff(1.0, s(60))
        .probes(1)
        .successes_to_close(1)
        .probe_lease(s(2))
}

/// The same, but open for ten minutes.
pub(crate) fn open_for_long() -> PolicyBuilder {
    policy().open_for(s(600)).backoff(1.0, s(600))
}

/// A replica that has waited for Redis as long as `Store::redis` does.
pub(crate) async fn join(config: &RedisConfig, policy: PolicyBuilder) -> Replica {
    let backend = RedisBackend::start(config).unwrap();
    backend.ready(ms(500)).await;
    Replica::of(named(store_on(backend, policy)).build())
}

/// A replica that does not take a busy machine for a Redis that is down.
pub(crate) async fn join_patiently(server: &Server, policy: PolicyBuilder) -> Replica {
    let backend = watcher(server).await;
    Replica::of(named(store_on(backend, policy)).deadline(s(5)).build())
}

/// Gives a replica a name of its own: all replicas of a test run on one host.
pub(crate) fn named(store: StoreBuilder) -> StoreBuilder {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    store.replica(format!("replica {}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// A backend that reads the records, with more patience than a replica has.
pub(crate) async fn watcher(server: &Server) -> RedisBackend {
    connect(&server.config()).await
}

/// Replicas that are all connected.
pub(crate) async fn cluster(
    server: &Server,
    replicas: usize,
    policy: PolicyBuilder,
) -> Vec<Replica> {
    let mut joined = Vec::new();
    for _ in 0..replicas {
        joined.push(join(&server.config(), policy.clone()).await);
    }
    agree(&joined).await;
    joined
}

/// Waits until an override of one replica holds on all, and its end too: then all are connected.
pub(crate) async fn agree(replicas: &[Replica]) {
    let circuit = &replicas[0].circuit;
    all_are(replicas, |replica| replica.store.backend().is_connected()).await;
    eventually("an acknowledged override", || async { circuit.force_open("a test").await.is_ok() })
        .await;
    all_in(replicas, State::ForcedOpen).await;
    eventually("an acknowledged reset", || async { circuit.reset().await.is_ok() }).await;
    all_in(replicas, State::Closed).await;
}

pub(crate) async fn all_are(replicas: &[Replica], is_so: impl Fn(&Replica) -> bool) {
    wait_for("all replicas", || replicas.iter().all(&is_so)).await;
}

pub(crate) async fn all_in(replicas: &[Replica], state: State) {
    all_are(replicas, |replica| replica.circuit.state() == state).await;
}

pub(crate) async fn all_degraded(replicas: &[Replica]) {
    all_are(replicas, |replica| replica.store.backend().is_degraded()).await;
}

/// Makes successful calls until all are closed. Each is rejected or returns its own result.
pub(crate) async fn recover(replicas: &[Replica]) {
    eventually("all closed", || async {
        for replica in replicas {
            let called = replica.circuit.execute(|| async { Ok::<_, ()>(7) }).await;
            assert!(matches!(called, Ok(7)) || called.is_err_and(|error| error.is_rejected()));
        }
        replicas.iter().all(|replica| replica.circuit.state() == State::Closed)
    })
    .await;
}
