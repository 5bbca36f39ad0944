//! What thousands of circuits, forged messages and a server in trouble must not change, on a real
//! Redis.

mod clock;
mod denied;
mod forged;
mod keys;
mod stall;

use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Circuit, Store};

use crate::support::ms;
use crate::support::redis::Server;
use crate::support::replica::Replica;

/// All keys that contain this.
fn keys(server: &Server, part: &str) -> Vec<String> {
    let found = server.cli(&["KEYS", &format!("*{part}*")]);
    found.lines().filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

/// The keys of a circuit's records that have this field.
fn records_with(server: &Server, circuit: &str, field: &str) -> Vec<String> {
    let has = |key: &String| {
        server.cli(&["TYPE", key]) == "hash" && server.cli(&["HEXISTS", key, field]) == "1"
    };
    keys(server, circuit).into_iter().filter(has).collect()
}

/// Replicas that are connected, and have their changes pushed.
async fn cluster(server: &Server, number: usize, policy: PolicyBuilder) -> Vec<Replica> {
    crate::support::redis::replicas::cluster(server, number, policy).await
}

fn is_synced(store: &Store, circuits: &[Circuit]) -> bool {
    let connected = store.backend().to_string() == "connected";
    connected && circuits.iter().all(|circuit| !circuit.snapshot().detached)
}

/// Waits this long at most.
async fn within(millis: u64, happened: impl Fn() -> bool) -> bool {
    for _ in 0..millis / 10 {
        if happened() {
            return true;
        }
        tokio::time::sleep(ms(10)).await;
    }
    happened()
}
