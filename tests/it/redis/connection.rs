//! The connection to Redis: a server that is frozen, killed or replaced while it is used.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Move, Notice, OpenTerms, RedisBackend, RedisConfig,
};
use tower_breaker::event::{Reason, Tally};

use super::records::{name, unavailable};
use crate::support::redis::{Server, connect, eventually, real, until};
use crate::support::{ms, s};

const CLOSE: Move = Move::Closed { reason: Reason::Override };

async fn gap(notices: &mut Receiver<Notice>) {
    let told = async { while notices.recv().await.unwrap() != Notice::Gap {} };
    tokio::time::timeout(s(20), told).await.expect("to be told of a gap");
}

/// Connects with the timeout that services have.
async fn quick(server: &Server) -> RedisBackend {
    let backend = RedisBackend::connect(&server.config()).await.unwrap();
    eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
    backend
}

async fn within<T>(time: Duration, answer: Answer<'_, T>) -> Result<T, BackendError> {
    tokio::time::timeout(time, answer).await.expect("an answer in time")
}

/// Asks a future once.
async fn is_pending<T>(answer: &mut Answer<'_, T>) -> bool {
    poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await
}

/// Whether the connection was given up.
fn broken(backend: &RedisBackend) -> bool {
    format!("{backend:?}").contains("Broken")
}

#[test]
fn a_frozen_server_holds_nobody_up_and_is_used_again_when_it_thaws() {
    real(async {
        let server = Server::start();
        let backend = quick(&server).await;
        server.freeze();
        // The timeout is 20 ms; a busy machine may be late to notice.
        unavailable(within(ms(200), backend.load(&name("a"))).await);
        eventually("the connection to be given up", async || {
            unavailable(within(ms(200), backend.ping()).await);
            broken(&backend)
        })
        .await;
        server.thaw();
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
    });
}

#[test]
fn a_server_that_restarts_is_used_again_and_a_gap_is_told() {
    real(async {
        let mut server = Server::start();
        let backend = connect(&server.config()).await;
        let mut notices = backend.subscribe();
        server.kill();
        eventually("the loss", async || backend.ping().await.is_err()).await;
        while notices.try_recv().is_ok() {}
        server.restart();
        gap(&mut notices).await;
        let moved = backend.transition(&name("a"), 1, &CLOSE).await.unwrap();
        let told = async {
            loop {
                // A busy machine may lose the connection twice.
                let notice = notices.recv().await.unwrap();
                if notice != Notice::Gap {
                    return notice;
                }
            }
        };
        let told = tokio::time::timeout(s(20), told).await.unwrap();
        assert_eq!(told, Notice::View(name("a"), Box::new(moved)));
    });
}

#[test]
fn a_connection_that_the_server_ends_is_made_anew_and_a_gap_is_told() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let mut notices = backend.subscribe();
        server.cli(&["CLIENT", "KILL", "SKIPME", "yes"]);
        gap(&mut notices).await;
        backend.ping().await.unwrap();
    });
}

#[test]
fn an_idle_connection_to_a_frozen_server_is_noticed() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let mut notices = backend.subscribe();
        server.freeze();
        // Nobody asks anything.
        eventually("the loss", async || broken(&backend)).await;
        server.thaw();
        gap(&mut notices).await;
    });
}

/// Pings more often than are lost before a connection is made anew, and lets the one that serves the
/// subscription ping as well. Each is answered, with this.
async fn answered(backend: &RedisBackend, says: &str) {
    for _ in 0..20 {
        let said = unavailable(backend.ping().await);
        assert!(said.contains(says), "{said}");
    }
    tokio::time::sleep(s(2)).await;
    let said = unavailable(backend.load(&name("a")).await);
    assert!(!broken(backend), "{says}: {backend:?}, {said}");
}

/// It answers, hears what is told, and gives nobody another's answer.
async fn all_is_well(backend: &RedisBackend) {
    eventually("an answer", async || backend.ping().await.is_ok()).await;
    eventually("a subscription", async || format!("{backend:?}").contains("Subscribed")).await;
    let mut notices = backend.subscribe();
    let terms = OpenTerms { interval: s(60), probes: 1, ..OpenTerms::default() };
    let open = Move::Open { terms, reason: Reason::FailureCount, tally: Tally::default() };
    let [a, b] = ["well a", "well b"].map(name);
    let opened = backend.transition(&a, 1, &open).await.unwrap();
    assert_eq!(backend.load(&b).await.unwrap().generation, 1);
    assert_eq!(backend.load(&a).await.unwrap().generation, opened.generation);
    let told = tokio::time::timeout(s(20), notices.recv()).await.unwrap().unwrap();
    assert_eq!(told, Notice::View(a, Box::new(opened)));
}

/// How many have connected so far, this one included.
fn connections(server: &Server) -> u64 {
    let info = server.cli(&["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}

/// Keeps `server` busy with a script for as long as `meanwhile` takes.
fn busy(server: &Server, meanwhile: impl Future<Output = ()>) {
    std::thread::scope(|scope| {
        let script = ["EVAL", "while true do end", "0"];
        let running = scope.spawn(move || server.cli(&script));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(meanwhile);
        });
        assert_eq!(server.cli(&["SCRIPT", "KILL"]), "OK");
        assert!(running.join().unwrap().starts_with('-'));
    });
}

#[test]
fn a_server_that_is_busy_is_no_lost_connection() {
    real(async {
        let server = Server::with(&["--lua-time-limit", "10"]);
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        let before = connections(&server);
        busy(&server, async {
            eventually("it to say so", async || {
                backend.ping().await.is_err_and(|error| error.to_string().contains("BUSY"))
            })
            .await;
            answered(&backend, "BUSY").await;
        });
        all_is_well(&backend).await;
        assert_eq!(connections(&server), before + 3, "the script, its end, and who looks");
    });
}

#[test]
fn who_comes_while_a_server_is_busy_is_served_when_it_is_not() {
    real(async {
        let server = Server::with(&["--lua-time-limit", "10"]);
        let before = connections(&server);
        let mut backend = None;
        busy(&server, async {
            let config = server.config().command_timeout(s(5));
            let new = RedisBackend::start(&config).unwrap();
            eventually("it to say so", async || {
                new.ping().await.is_err_and(|error| error.to_string().contains("BUSY"))
            })
            .await;
            // It is asked every second whether a subscription can be had.
            tokio::time::sleep(s(3)).await;
            backend = Some(new);
        });
        all_is_well(&backend.unwrap()).await;
        assert_eq!(connections(&server), before + 4, "it, the script, its end, and who looks");
    });
}

#[test]
fn a_server_that_cannot_save_is_no_lost_connection() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        let folder = server.cli(&["CONFIG", "GET", "dir"]);
        // What cannot be replaced by a file that is saved.
        let file = std::path::Path::new(folder.lines().nth(1).unwrap()).join("dump.rdb");
        std::fs::create_dir(&file).unwrap();
        server.cli(&["CONFIG", "SET", "save", "3600 1"]);
        server.cli(&["BGSAVE"]);
        eventually("it to say so", async || {
            backend.ping().await.is_err_and(|error| error.to_string().contains("MISCONF"))
        })
        .await;
        let before = connections(&server);
        for _ in 0..20 {
            let said = unavailable(backend.ping().await);
            assert!(said.contains("MISCONF"), "{said}");
        }
        // What is there can be read, and nothing be written.
        backend.load(&name("a")).await.unwrap();
        assert!(unavailable(backend.transition(&name("a"), 1, &CLOSE).await).contains("MISCONF"));
        tokio::time::sleep(s(6)).await;
        assert!(!broken(&backend), "{backend:?}");

        std::fs::remove_dir(&file).unwrap();
        server.cli(&["BGSAVE"]);
        all_is_well(&backend).await;
        assert_eq!(connections(&server), before + 2, "who saves, and who looks");
    });
}

#[test]
fn a_server_that_loads_is_connected_to_once() {
    real(async {
        // Each key takes 15 ms to load. In between the server answers, at least every 2 MB.
        let mut server = Server::with(&["--key-load-delay", "15000", "--rdbcompression", "no"]);
        for n in 0..300 {
            server.cli(&["SET", &format!("{n}"), &"x".repeat(200_000)]);
        }
        assert_eq!(server.cli(&["SAVE"]), "OK");
        server.kill();
        server.restart();
        let before = connections(&server);
        let backend = RedisBackend::start(&server.config().command_timeout(s(5))).unwrap();
        eventually("it to say so", async || {
            backend.ping().await.is_err_and(|error| error.to_string().contains("LOADING"))
        })
        .await;
        all_is_well(&backend).await;
        assert_eq!(connections(&server), before + 2, "it, and who looks");
    });
}

#[test]
fn what_was_sent_for_a_caller_that_has_gone_has_no_effect_later() {
    real(async {
        let server = Server::start();
        let backend = quick(&server).await;
        // The server knows the scripts, or it would have to be sent them again first.
        let warm = name("warm");
        eventually("an answer", async || {
            let moved = backend.transition(&warm, 1, &CLOSE).await.is_ok();
            moved && backend.set_override(&warm, None).await.is_ok()
        })
        .await;
        let before = server.calls("evalsha");
        server.freeze();
        for n in 0..20 {
            let circuit = name(&format!("ghost {n}"));
            // Given up by the timeout, or by dropping the future.
            if n % 2 == 0 {
                unavailable(backend.transition(&circuit, 1, &CLOSE).await);
            } else {
                let _ = tokio::time::timeout(ms(1), backend.set_override(&circuit, None)).await;
            }
        }
        // Time itself is what is waited for: until no command may act any more.
        tokio::time::sleep(ms(100)).await;
        server.thaw();
        until("the server to have seen them", || server.calls("evalsha") > before);
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
        assert_eq!(server.cli(&["KEYS", "*ghost*"]), "");
    });
}

#[test]
fn a_clock_that_jumps_costs_one_more_command_and_no_error() {
    // Pausing tokio's clock, which is ours, needs a runtime of one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start();
        let config = server.config().command_timeout(ms(500));
        let backend = RedisBackend::connect(&config).await.unwrap();
        backend.load(&name("a")).await.unwrap();
        let (before, start) = (server.calls("evalsha"), server.millis());
        tokio::time::pause();
        until("the server's clock to be ahead", || server.millis() > start + 1_000);
        tokio::time::resume();
        backend.load(&name("a")).await.unwrap();
        assert_eq!(server.calls("evalsha"), before + 2);
        backend.load(&name("a")).await.unwrap();
        assert_eq!(server.calls("evalsha"), before + 3);
    });
}

#[test]
fn more_commands_than_can_be_under_way_fail_at_once() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        server.freeze();
        let (circuit, mut waiting) = (name("a"), Vec::new());
        for _ in 0..256 {
            let mut load = backend.load(&circuit);
            assert!(is_pending(&mut load).await);
            waiting.push(load);
        }
        let said = unavailable(backend.load(&circuit).await);
        assert!(said.contains("too many"), "{said}");
        // Who gives up frees a place.
        drop(waiting.pop());
        let mut load = backend.load(&circuit);
        assert!(is_pending(&mut load).await);
        drop((load, waiting));
        server.thaw();
        eventually("an answer", async || backend.load(&circuit).await.is_ok()).await;
    });
}

#[test]
fn the_last_handle_takes_the_connection_with_it() {
    real(async {
        let server = Server::start();
        let clients = || server.cli(&["CLIENT", "LIST"]).lines().count();
        let backend = connect(&server.config()).await;
        until("ours, and the one that asks", || clients() == 2);
        let other = backend.clone();
        drop(backend);
        other.ping().await.unwrap();
        drop(other);
        until("the connection to end", || clients() == 1);

        let closed = connect(&server.config()).await;
        closed.close().await.unwrap();
        assert!(unavailable(closed.load(&name("a")).await).contains("closed"));
        assert!(closed.ping().await.is_err());
        until("the connection to end", || clients() == 1);
    });
}

#[test]
fn sentinels_lead_to_the_new_master() {
    real(async {
        let mut master = Server::start();
        let replica = Server::with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
        until("a replica", || replica.cli(&["INFO", "replication"]).contains("link_status:up"));
        let sentinel = Server::sentinel("main", &master);
        until("a sentinel that knows all", || {
            sentinel.cli(&["SENTINEL", "REPLICAS", "main"]).contains("127.0.0.1")
        });
        let config = RedisConfig::sentinel("main", [("127.0.0.1", sentinel.port())]);
        let backend = connect(&config).await;
        let terms = OpenTerms { interval: s(60), probes: 1, ..OpenTerms::default() };
        let tally = Tally::default();
        let open = Move::Open { terms, reason: Reason::FailureCount, tally };
        let opened = backend.transition(&name("a"), 1, &open).await.unwrap();
        until("replication", || replica.cli(&["KEYS", "*"]).contains("{cb:a}"));

        let mut notices = backend.subscribe();
        master.kill();
        gap(&mut notices).await;
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
        assert_eq!(backend.load(&name("a")).await.unwrap().generation, opened.generation);
        let closed = backend.transition(&name("a"), opened.generation, &CLOSE).await.unwrap();
        assert!(closed.generation > opened.generation);
        assert!(replica.cli(&["ROLE"]).starts_with("master"));
    });
}
