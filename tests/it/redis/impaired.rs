//! Redis answers, but not for every circuit, or not everything: what shows, and the way back.

use std::sync::{Arc, Mutex};

use tower_breaker::backend::{Impairment, RedisBackend, RedisConfig};
use tower_breaker::event::BackendStatus;
use tower_breaker::{Circuit, State, Store};

use super::edited::two_of_one_group;
use crate::support::log::Log;
use crate::support::redis::replicas::{join_patiently, named, open_for_long};
use crate::support::redis::{Cluster, Server, eventually, on_this_thread, override_key, record};
use crate::support::*;

type Statuses = Arc<Mutex<Vec<BackendStatus>>>;

/// A store that is connected, and everything that its observer is told.
async fn observed(config: &RedisConfig) -> (Store, Statuses) {
    let backend = RedisBackend::start(config).unwrap();
    backend.ready(s(5)).await;
    let statuses = Statuses::default();
    let seen = statuses.clone();
    let see = move |status: &BackendStatus| seen.lock().unwrap().push(status.clone());
    let store = named(store_on(backend, open_for_long())).on_backend(see).build();
    wait_for("the backend", || store.backend() == BackendStatus::Connected).await;
    (store, statuses)
}

/// The lines of this level that say this.
fn count(log: &Log, level: &str, says: &str) -> usize {
    let lines = log.lines();
    lines.iter().filter(|line| line.starts_with(level) && line.contains(says)).count()
}

/// Waits until an override of the circuit is acknowledged, and so is its end.
async fn acknowledges(circuit: &Circuit, when: &str) {
    let what = |what: &str| format!("{what} of {}, {when}", circuit.name());
    eventually(&what("an override"), async || circuit.force_closed("a test").await.is_ok()).await;
    eventually(&what("its end"), async || circuit.reset().await.is_ok()).await;
}

/// Asserts that a store was told of what was impaired, and of its end, and logged both once.
fn assert_told(statuses: &Statuses, log: &Log, is_it: impl Fn(&Impairment) -> bool, says: &str) {
    let statuses = statuses.lock().unwrap();
    let was = |status: &BackendStatus| status.impairments().iter().any(&is_it);
    let began = statuses.iter().position(was);
    let began = began.unwrap_or_else(|| panic!("{says}: {statuses:?}"));
    let ended = statuses[began..].contains(&BackendStatus::Connected);
    assert!(ended, "{says}: {statuses:?}");
    let lines = log.lines();
    let of = |start: &str| {
        let begins = |line: &&String| line.contains(start) && line.contains(says);
        lines.iter().filter(begins).count()
    };
    let (began, ended) = (of("message=impaired: "), of("message=no longer impaired: "));
    assert_eq!((began, ended), (1, 1), "{lines:?}");
}

/// The client soon gives up such a node, and then is in the same position as with one that refuses
/// connections: the next test.
#[test]
fn circuits_of_a_node_that_hangs_are_detached_before_any_others() {
    on_this_thread(async {
        let cluster = Cluster::with(&["--cluster-require-full-coverage", "no"]);
        let log = Log::default();
        let _listening = log.listen();
        let (store, statuses) = observed(&cluster.config()).await;
        // The node of the heartbeats, and that of the subscription, decide for all.
        let heartbeats = cluster.master_of("{cb}");
        let listens = |node: &Server| node.cli(&["PUBSUB", "NUMSUB", "cb:changes"]).ends_with('1');
        let is_plain = |node: &usize| *node != heartbeats && !listens(&cluster.nodes[*node]);
        let bad = (0..3).find(is_plain).expect("a third node");
        let there = store.circuit(cluster.circuit_on(bad));
        let others = [(bad + 1) % 3, (bad + 2) % 3];
        let others = others.map(|node| store.circuit(cluster.circuit_on(node)));
        for circuit in others.iter().chain([&there]) {
            acknowledges(circuit, "at first").await;
        }
        cluster.nodes[bad].freeze();
        // Something to send: otherwise the next poll would notice, up to 25 s later.
        fail(&there);
        wait_for("the status", || {
            matches!(store.backend().impairments(), [Impairment::GroupsUnreachable { .. }])
        })
        .await;
        assert!(there.snapshot().detached);
        trip(&there);
        for circuit in &others {
            assert!(!circuit.snapshot().detached);
        }
        cluster.nodes[bad].thaw();
        wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
        wait_for("its circuits", || !there.snapshot().detached).await;
        for circuit in others.iter().chain([&there]) {
            acknowledges(circuit, "afterwards").await;
        }
        let statuses = statuses.lock().unwrap();
        let is_it = |it: &Impairment| matches!(it, Impairment::GroupsUnreachable { .. });
        assert!(statuses.iter().any(|status| status.impairments().iter().any(is_it)));
        assert_eq!(statuses.last(), Some(&BackendStatus::Connected));
        // On a busy machine the client may have given it up.
        let ended = ["no longer impaired", "recovered"].map(|says| count(&log, "INFO", says));
        assert!(count(&log, "WARN", "groups cannot be used") >= 1, "{:?}", log.lines());
        assert!(ended.iter().sum::<usize>() >= 1, "{:?}", log.lines());
    });
}

/// The client connects to all nodes that the cluster names, or to none.
#[test]
fn a_node_that_refuses_connections_degrades_until_it_is_back_or_replaced() {
    on_this_thread(async {
        let mut cluster = Cluster::with(&["--cluster-require-full-coverage", "no"]);
        let (bad, log) = ((cluster.master_of("{cb}") + 1) % 3, Log::default());
        let _listening = log.listen();
        let (store, statuses) = observed(&cluster.config()).await;
        let circuits = [0, 1, 2].map(|node| store.circuit(cluster.circuit_on(node)));
        for circuit in &circuits {
            acknowledges(circuit, "at first").await;
        }
        cluster.nodes[bad].kill();
        wait_for("the status", || store.backend().is_degraded()).await;
        let reason = store.backend().to_string();
        assert!(reason.contains("redis cannot be reached"), "{reason}");
        trip(&circuits[bad]);
        cluster.nodes[bad].restart();
        wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
        for circuit in &circuits {
            acknowledges(circuit, "afterwards").await;
        }
        assert!(statuses.lock().unwrap().iter().any(BackendStatus::is_degraded));
        let lines = log.lines();
        assert_eq!(count(&log, "WARN", "redis cannot be reached"), 1, "{lines:?}");
        assert_eq!(count(&log, "INFO", "recovered"), 1, "{lines:?}");
    });
}

/// Lets a user do everything, and then these rules.
fn allow(server: &Server, rules: &[&str]) {
    let user = ["ACL", "SETUSER", "breaker", "on", ">secret", "~*", "&*", "+@all"];
    assert_eq!(server.cli(&[&user, rules].concat()), "OK");
}

#[test]
fn denied_pushes_show_while_they_last() {
    for (denied, kill) in [("-publish", false), ("-subscribe", true)] {
        on_this_thread(async {
            let server = Server::start();
            allow(&server, &[]);
            let log = Log::default();
            let _listening = log.listen();
            let config = server.config().username("breaker").password("secret");
            let (store, statuses) = observed(&config).await;
            let other = join_patiently(&server, open_for_long()).await;
            let circuit = store.circuit("test");
            allow(&server, &[denied]);
            if kill {
                server.cli(&["CLIENT", "KILL", "USER", "breaker"]);
            }
            // Something to publish.
            eventually("an override", async || circuit.force_open("a test").await.is_ok()).await;
            let word = denied[1..].to_uppercase();
            wait_for("the status", || {
                let status = store.backend();
                matches!(status.impairments(), [Impairment::NotPushed { cause }]
                    if cause.contains(&word) && cause.contains("docs/redis.md"))
            })
            .await;
            // Sharing goes on, more slowly.
            wait_for("the override", || other.circuit.state() == State::ForcedOpen).await;
            eventually("its end", async || other.circuit.reset().await.is_ok()).await;
            wait_for("its end", || circuit.state() == State::Closed).await;

            allow(&server, &[]);
            eventually("an override", async || circuit.force_open("a test").await.is_ok()).await;
            wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
            let is_it = |it: &Impairment| matches!(it, Impairment::NotPushed { .. });
            assert_told(&statuses, &log, is_it, "changes are not pushed");
        });
    }
}

#[test]
fn a_full_server_is_an_event_and_so_is_its_end() {
    on_this_thread(async {
        let (server, log) = (Server::start(), Log::default());
        let _listening = log.listen();
        let (store, statuses) = observed(&server.config()).await;
        let circuit = store.circuit("test");
        acknowledges(&circuit, "at first").await;
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        assert_eq!(server.cli(&["PING"]), "PONG");
        wait_for("the status", || store.backend().is_degraded()).await;
        assert!(store.backend().to_string().contains("OOM"), "{}", store.backend());
        // It holds here, and its caller is told that it is not known elsewhere.
        let began = now();
        let unknown = circuit.force_open("a test").await.unwrap_err();
        assert!(began.elapsed() < s(1) && unknown.is_unavailable(), "{unknown}");
        assert_state(&circuit, State::ForcedOpen);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
        wait_for("the override", || server.cli(&["EXISTS", &override_key("test")]) == "1").await;
        let statuses = statuses.lock().unwrap().clone();
        let kinds: Vec<_> = statuses.iter().map(BackendStatus::is_degraded).collect();
        assert!(kinds.ends_with(&[true, false]), "{statuses:?}");
        assert_eq!((count(&log, "WARN", "OOM"), count(&log, "INFO", "recovered")), (1, 1));
    });
}

#[test]
fn a_record_that_cannot_be_read_concerns_its_circuit_only() {
    on_this_thread(async {
        let [good, bad] = two_of_one_group();
        let far = "99999999999999999999";
        let newer = ["HSET", &record(&bad), "schema", "3"].map(str::to_owned).to_vec();
        let ahead = ["HSET", &record(&bad), "generation", "9000000000000000"];
        let ahead = ahead.map(str::to_owned).to_vec();
        let other = ["SET", &record(&bad), "a string"].map(str::to_owned).to_vec();
        let list = ["RPUSH", &override_key(&bad), far].map(str::to_owned).to_vec();
        for (command, says) in
            [(newer, "newer version"), (ahead, "corrupt"), (other, "not ours"), (list, "not ours")]
        {
            let (server, log) = (Server::start(), Log::default());
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            server.cli(&command);
            let stored = server.cli(&["DUMP", command[1]]);
            let _listening = log.listen();
            let (store, statuses) = observed(&server.config()).await;
            let [one, other] = [&good, &bad].map(|name| store.circuit(name.clone()));
            wait_for("the status", || {
                matches!(store.backend().impairments(),
                    [Impairment::CircuitsDetached { circuits: 1, cause }] if cause.contains(says))
            })
            .await;
            acknowledges(&one, "meanwhile").await;
            assert!(!one.snapshot().detached && other.snapshot().detached);
            trip(&other);
            assert!(other.force_closed("a test").await.is_err(), "{says}");
            assert_eq!(server.cli(&["DUMP", command[1]]), stored, "{says}: changed");
            let lines = log.lines();
            let named = lines.iter().filter(|line| {
                line.starts_with("WARN")
                    && line.contains(&format!("circuit={bad}"))
                    && line.contains(says)
            });
            assert_eq!(named.count(), 1, "{lines:?}");

            server.cli(&["DEL", command[1]]);
            wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
            let is_it = |it: &Impairment| matches!(it, Impairment::CircuitsDetached { .. });
            assert_told(&statuses, &log, is_it, "1 circuit is detached");
            wait_for("its override", || {
                server.cli(&["HGET", &override_key(&bad), "state"]) == "forced_closed"
            })
            .await;
        }
    });
}
