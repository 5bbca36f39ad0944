//! Real Redis servers, and waiting in real time.

mod ask;
mod cluster;
mod protocol;
pub(crate) mod replicas;
mod server;
#[cfg(feature = "redis-tls")]
mod tls;

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{Group, RedisBackend, RedisConfig};

pub(crate) use self::ask::Ask;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::server::Server;
#[cfg(feature = "redis-tls")]
pub(crate) use self::tls::TlsServer;
use super::s;

/// Longer than anything here takes on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// How often a condition is checked.
const CHECK_EVERY: Duration = Duration::from_millis(2);

/// Waits for a condition that is certain to hold at some time.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LONG.as_millis() / CHECK_EVERY.as_millis() {
        if is_so() {
            return;
        }
        std::thread::sleep(CHECK_EVERY);
    }
    panic!("waited in vain for {what}");
}

/// The same, without blocking other tasks.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let checking = async {
        while !is_so().await {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(LONG, checking).await;
    assert!(found.is_ok(), "waited in vain for {what}");
}

/// Connects, with enough time for a busy machine.
pub(crate) async fn connect(config: &RedisConfig) -> RedisBackend {
    let config = config.clone().command_timeout(s(5));
    let connecting = async {
        loop {
            match RedisBackend::connect(&config).await {
                Ok(backend) => return backend,
                Err(error) => assert!(error.is_unavailable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(LONG, connecting).await.expect("a connection")
}

/// The key of a circuit's record, if nothing in its name is escaped.
pub(crate) fn record(circuit: &str) -> String {
    key('c', circuit)
}

/// The key of a circuit's override.
pub(crate) fn override_key(circuit: &str) -> String {
    key('o', circuit)
}

fn key(kind: char, circuit: &str) -> String {
    format!("{}:{kind}:{circuit}", tag(circuit))
}

/// The hash tag of a circuit's keys.
pub(crate) fn tag(circuit: &str) -> String {
    let name = CircuitName::new(circuit.to_owned()).unwrap();
    format!("{{cb:{}}}", Group::of(&name).number())
}

/// Runs `test` in real time, on two threads.
pub(crate) fn real<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// Runs `test` in real time on this thread, whose log the test reads.
pub(crate) fn on_this_thread<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test)
}
