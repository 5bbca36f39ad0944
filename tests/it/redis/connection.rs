//! The connection to Redis, while the server is frozen, busy, killed or replaced.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Move, Notice, OpenTerms, OverrideChange, RedisBackend,
    RedisConfig, View,
};
use tower_breaker::event::{Reason, Tally};

use super::records::{name, unavailable};
use crate::support::redis::{Ask, Server, connect, eventually, real, tag, until};
use crate::support::{ms, s};

const CLOSE: Move = Move::Closed { reason: Reason::Override };

async fn gap(notices: &mut Receiver<Notice>) {
    let gap = async { while notices.recv().await.unwrap() != Notice::Gap {} };
    tokio::time::timeout(s(20), gap).await.expect("a gap notice");
}

/// Waits for the next change.
async fn next_change(notices: &mut Receiver<Notice>) -> (CircuitName, View) {
    let next = async {
        loop {
            if let Notice::Changed { circuit, view, .. } = notices.recv().await.unwrap() {
                return (circuit, *view);
            }
        }
    };
    tokio::time::timeout(s(20), next).await.expect("a change")
}

/// Connects with the timeouts that services have.
async fn quick(server: &Server) -> RedisBackend {
    let backend = RedisBackend::connect(&server.config()).await.unwrap();
    eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
    backend
}

async fn within<T>(time: Duration, answer: Answer<'_, T>) -> Result<T, BackendError> {
    tokio::time::timeout(time, answer).await.expect("an answer in time")
}

/// Polls a future once.
async fn is_pending<T>(answer: &mut Answer<'_, T>) -> bool {
    poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await
}

/// Whether the connection was given up.
fn broken(backend: &RedisBackend) -> bool {
    format!("{backend:?}").contains("Broken")
}

#[test]
fn a_frozen_server_delays_no_call_and_is_used_again_when_it_thaws() {
    real(async {
        let server = Server::start();
        let backend = quick(&server).await;
        server.freeze();
        // What a call waits for. The timeout is 50 ms; a busy machine may be late to notice.
        let circuit = name("a");
        unavailable(within(ms(400), backend.acquire_probe(&circuit, 1, 1)).await);
        eventually("the connection to be given up", async || {
            unavailable(within(ms(1_500), backend.ping()).await);
            broken(&backend)
        })
        .await;
        // Without a connection, nothing waits.
        for _ in 0..100 {
            unavailable(within(ms(400), backend.load(&circuit)).await);
        }
        server.thaw();
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
    });
}

#[test]
fn a_restarted_server_is_used_again_with_a_gap_notice() {
    real(async {
        let mut server = Server::start();
        let backend = connect(&server.config()).await;
        let mut notices = backend.subscribe();
        server.kill();
        eventually("the broken connection", async || backend.ping().await.is_err()).await;
        while notices.try_recv().is_ok() {}
        server.restart();
        gap(&mut notices).await;
        let moved = backend.transition(&name("a"), 1, &CLOSE).await.unwrap();
        // On a busy machine the connection may break twice.
        assert_eq!(next_change(&mut notices).await, (name("a"), moved));
    });
}

#[test]
fn a_connection_closed_by_the_server_is_replaced_with_a_gap_notice() {
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
fn an_idle_connection_notices_a_frozen_server() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let mut notices = backend.subscribe();
        server.freeze();
        // There is no operation meanwhile.
        eventually("the broken connection", async || broken(&backend)).await;
        server.thaw();
        gap(&mut notices).await;
    });
}

/// Asserts that every ping is answered with this error, and that the connection is kept. There are
/// more pings than may go unanswered, and time for the subscription to ping too.
async fn answers_errors(backend: &RedisBackend, says: &str) {
    for _ in 0..20 {
        let message = unavailable(backend.ping().await);
        assert!(message.contains(says), "{message}");
    }
    tokio::time::sleep(s(2)).await;
    let message = unavailable(backend.load(&name("a")).await);
    assert!(!broken(backend), "{says}: {backend:?}, {message}");
}

/// Asserts that operations and notices work, and that every answer belongs to its request.
async fn assert_works(backend: &RedisBackend) {
    eventually("an answer", async || backend.ping().await.is_ok()).await;
    eventually("a subscription", async || format!("{backend:?}").contains("Subscribed")).await;
    let mut notices = backend.subscribe();
    let terms = OpenTerms { interval: s(60), probes: 1, ..OpenTerms::default() };
    let (reason, tally) = (Reason::FailureCount, Tally::default());
    let open = Move::Open { terms, reason, tally, last_error: None };
    let [a, b] = ["works a", "works b"].map(name);
    let opened = backend.transition(&a, 1, &open).await.unwrap();
    assert_eq!(backend.load(&b).await.unwrap().generation, 1);
    assert_eq!(backend.load(&a).await.unwrap().generation, opened.generation);
    assert_eq!(next_change(&mut notices).await, (a, opened));
}

/// How many connections there have been, this one included.
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
fn a_busy_server_keeps_its_connections() {
    real(async {
        let server = Server::with(&["--lua-time-limit", "10"]);
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        let before = connections(&server);
        busy(&server, async {
            eventually("the error", async || {
                backend.ping().await.is_err_and(|error| error.to_string().contains("BUSY"))
            })
            .await;
            answers_errors(&backend, "BUSY").await;
        });
        assert_works(&backend).await;
        assert_eq!(connections(&server), before + 3, "of the script, its end, and this question");
    });
}

#[test]
fn a_backend_started_while_the_server_is_busy_works_afterwards() {
    real(async {
        let server = Server::with(&["--lua-time-limit", "10"]);
        let before = connections(&server);
        let mut backend = None;
        busy(&server, async {
            let config = server.config().command_timeout(s(5));
            let new = RedisBackend::start(&config).unwrap();
            eventually("the error", async || {
                new.ping().await.is_err_and(|error| error.to_string().contains("BUSY"))
            })
            .await;
            // It asks every second whether it can subscribe.
            tokio::time::sleep(s(3)).await;
            backend = Some(new);
        });
        assert_works(&backend.unwrap()).await;
        assert_eq!(
            connections(&server),
            before + 4,
            "of the backend, the script, its end, and this question"
        );
    });
}

#[test]
fn a_server_that_cannot_save_keeps_its_connections() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        backend.load(&name("a")).await.unwrap();
        let folder = server.cli(&["CONFIG", "GET", "dir"]);
        // A folder in place of the file, so that Redis cannot save.
        let file = std::path::Path::new(folder.lines().nth(1).unwrap()).join("dump.rdb");
        std::fs::create_dir(&file).unwrap();
        server.cli(&["CONFIG", "SET", "save", "3600 1"]);
        server.cli(&["BGSAVE"]);
        eventually("the error", async || {
            backend.ping().await.is_err_and(|error| error.to_string().contains("MISCONF"))
        })
        .await;
        let before = connections(&server);
        for _ in 0..20 {
            let message = unavailable(backend.ping().await);
            assert!(message.contains("MISCONF"), "{message}");
        }
        // Reads work and writes fail.
        backend.load(&name("a")).await.unwrap();
        assert!(unavailable(backend.transition(&name("a"), 1, &CLOSE).await).contains("MISCONF"));
        tokio::time::sleep(s(6)).await;
        assert!(!broken(&backend), "{backend:?}");

        std::fs::remove_dir(&file).unwrap();
        server.cli(&["BGSAVE"]);
        assert_works(&backend).await;
        assert_eq!(connections(&server), before + 2, "of BGSAVE, and this question");
    });
}

#[test]
fn a_loading_server_gets_one_connection() {
    real(async {
        // Each key takes 15 ms to load. The server answers in between, at least every 2 MB.
        let mut server = Server::with(&["--key-load-delay", "15000", "--rdbcompression", "no"]);
        for n in 0..300 {
            server.cli(&["SET", &format!("{n}"), &"x".repeat(200_000)]);
        }
        assert_eq!(server.cli(&["SAVE"]), "OK");
        server.kill();
        server.restart();
        let before = connections(&server);
        let backend = RedisBackend::start(&server.config().command_timeout(s(5))).unwrap();
        eventually("the error", async || {
            backend.ping().await.is_err_and(|error| error.to_string().contains("LOADING"))
        })
        .await;
        assert_works(&backend).await;
        assert_eq!(connections(&server), before + 2, "of the backend, and this question");
    });
}

#[test]
fn a_command_given_up_by_its_caller_has_no_effect_later() {
    real(async {
        let server = Server::start();
        let backend = quick(&server).await;
        // The server must have the scripts, or the first command would be another one.
        let warm = name("warm");
        eventually("an answer", async || {
            let moved = backend.transition(&warm, 1, &CLOSE).await.is_ok();
            moved && backend.set_override(&warm, &OverrideChange::Clear).await.is_ok()
        })
        .await;
        let before = server.calls("evalsha");
        server.freeze();
        for n in 0..20 {
            let circuit = name(&format!("ghost-{n}"));
            // Given up by the timeout, or by dropping the future.
            if n == 0 {
                unavailable(backend.transition(&circuit, 1, &CLOSE).await);
            } else {
                let clear = backend.set_override(&circuit, &OverrideChange::Clear);
                let _ = tokio::time::timeout(ms(1), clear).await;
            }
        }
        // After this time no command may have an effect.
        tokio::time::sleep(ms(1_100)).await;
        server.thaw();
        until("the server to read them", || server.calls("evalsha") > before);
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
        assert_eq!(server.cli(&["KEYS", "*ghost*"]), "");
    });
}

#[test]
fn a_clock_jump_costs_one_more_command_and_no_error() {
    // Pausing tokio's clock, which is ours, needs a runtime of one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start();
        let config = server.config();
        let backend = RedisBackend::connect(&config).await.unwrap();
        backend.load(&name("a")).await.unwrap();
        let (before, start) = (server.calls("evalsha"), server.millis());
        tokio::time::pause();
        until("the server's clock to be ahead", || server.millis() > start + 1_500);
        tokio::time::resume();
        backend.load(&name("a")).await.unwrap();
        assert_eq!(server.calls("evalsha"), before + 2);
        backend.load(&name("a")).await.unwrap();
        assert_eq!(server.calls("evalsha"), before + 3);
    });
}

#[test]
fn commands_above_the_limit_in_flight_fail_at_once() {
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
        let message = unavailable(backend.load(&circuit).await);
        assert!(message.contains("too many"), "{message}");
        // A caller that gives up makes room.
        drop(waiting.pop());
        let mut load = backend.load(&circuit);
        assert!(is_pending(&mut load).await);
        drop((load, waiting));
        server.thaw();
        eventually("an answer", async || backend.load(&circuit).await.is_ok()).await;
    });
}

#[test]
fn the_drop_of_the_last_handle_closes_the_connection() {
    real(async {
        let server = Server::start();
        let clients = || server.cli(&["CLIENT", "LIST"]).lines().count();
        let backend = connect(&server.config()).await;
        until("our connection, and that of the question", || clients() == 2);
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
        until("a sentinel that knows the replica", || {
            sentinel.cli(&["SENTINEL", "REPLICAS", "main"]).contains("127.0.0.1")
        });
        let config = RedisConfig::sentinel("main", [("127.0.0.1", sentinel.port())]);
        let backend = connect(&config).await;
        let terms = OpenTerms { interval: s(60), probes: 1, ..OpenTerms::default() };
        let tally = Tally::default();
        let open = Move::Open { terms, reason: Reason::FailureCount, tally, last_error: None };
        let opened = backend.transition(&name("a"), 1, &open).await.unwrap();
        let record = format!("{}:c:a", tag("a"));
        until("replication", || replica.cli(&["KEYS", "*"]).contains(&record));

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
