//! A slow server stalls for a moment, or drops all connections: the fleet comes back.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_breaker::backend::RedisBackend;
use tower_breaker::event::BackendStatus;
use tower_breaker::{Circuit, Outcome, Store};

use super::{is_synced, within};
use crate::support::redis::{Server, real};
use crate::support::{ms, s, wait_for};

/// A server that is stopped eight of ten milliseconds, until this is dropped.
struct Slowed {
    shell: Child,
    server: String,
}

impl Slowed {
    fn new(server: &Server) -> Self {
        let info = server.cli(&["INFO", "server"]);
        let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        let server = line.expect("an id").trim().to_owned();
        // It reads from a pipe that stays empty: a sleep without a process. It ends with the server
        // or with the test.
        let script = "exec 3<> <(:); parent=$PPID
            while kill -0 $parent && kill -STOP $1; do
                read -t 0.008 -u 3; kill -CONT $1 || exit; read -t 0.002 -u 3
            done; kill -CONT $1";
        let mut shell = Command::new("bash");
        shell.args(["-c", script, "slow", &server]).stderr(std::process::Stdio::null());
        Self { shell: shell.spawn().expect("bash"), server }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        let _ = Command::new("kill").args(["-CONT", &self.server]).status();
    }
}

struct Fleet {
    stores: Vec<(Store, Vec<Circuit>)>,
    /// How often a store became degraded or connected.
    changes: Arc<AtomicUsize>,
}

impl Fleet {
    /// Stores that all know all of their circuits.
    async fn join(server: &Server, stores: usize, circuits: usize) -> Self {
        let changes = Arc::new(AtomicUsize::new(0));
        let mut joined = Vec::new();
        for _ in 0..stores {
            let backend = RedisBackend::start(&server.config()).unwrap();
            backend.ready(s(5)).await;
            let counter = changes.clone();
            let count = move |_: &BackendStatus| {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            let store = Store::builder().backend(backend).on_backend(count).build();
            let circuits: Vec<_> = (0..circuits).map(|n| store.circuit(n.to_string())).collect();
            wait_for("all circuits", || is_synced(&store, &circuits)).await;
            joined.push((store, circuits));
        }
        Self { stores: joined, changes }
    }

    fn unsynced(&self) -> usize {
        let unsynced = |(store, circuits): &&(Store, Vec<Circuit>)| !is_synced(store, circuits);
        self.stores.iter().filter(unsynced).count()
    }

    fn detached(&self) -> usize {
        let circuits = self.stores.iter().flat_map(|(_, circuits)| circuits);
        circuits.filter(|circuit| circuit.snapshot().detached).count()
    }

    /// Calls each circuit once, spread over half a second.
    async fn call(&self) {
        for tenth in 0..10 {
            for (_, circuits) in &self.stores {
                for circuit in circuits.iter().skip(tenth).step_by(10) {
                    if let Ok(permit) = circuit.try_acquire() {
                        permit.settle(Outcome::Success);
                    }
                }
            }
            tokio::time::sleep(ms(50)).await;
        }
    }

    async fn is_back_in_five_seconds(&self) {
        let back = within(5_000, || self.unsynced() == 0).await;
        let (stores, circuits) = (self.unsynced(), self.detached());
        assert!(back, "{stores} stores are not synced, {circuits} circuits detached");
    }
}

#[test]
fn a_stall_of_400_ms_is_over_in_five_seconds() {
    real(async {
        let (server, fleet, _slowed) = slowed_fleet().await;
        assert_eq!(server.cli(&["CLIENT", "PAUSE", "400", "ALL"]), "OK");
        fleet.call().await;
        fleet.is_back_in_five_seconds().await;
    });
}

#[test]
fn the_loss_of_all_connections_is_over_in_five_seconds() {
    real(async {
        let (server, fleet, _slowed) = slowed_fleet().await;
        for kind in ["normal", "pubsub"] {
            server.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        }
        tokio::time::sleep(ms(200)).await;
        fleet.is_back_in_five_seconds().await;
    });
}

async fn slowed_fleet() -> (Server, Fleet, Slowed) {
    let server = Server::start();
    let fleet = Fleet::join(&server, 24, 1000).await;
    let slowed = Slowed::new(&server);
    fleet.call().await;
    fleet.call().await;
    assert_eq!(fleet.detached(), 0, "a slow server is no stall");
    (server, fleet, slowed)
}

#[test]
fn a_replica_comes_back_from_an_outage_once() {
    real(async {
        let server = Server::start();
        let fleet = Fleet::join(&server, 5, 5000).await;
        let before = fleet.changes.load(Ordering::Relaxed);
        server.freeze();
        let degraded = || fleet.stores.iter().all(|(store, _)| store.backend().is_degraded());
        for _ in 0..10 {
            fleet.call().await;
        }
        let noticed = degraded();
        server.thaw();
        assert!(noticed, "five seconds without an answer");
        let _slowed = Slowed::new(&server);
        fleet.is_back_in_five_seconds().await;
        tokio::time::sleep(s(2)).await;
        let changes = fleet.changes.load(Ordering::Relaxed) - before;
        assert_eq!(changes, 2 * 5, "each is degraded once, and back once");
    });
}
