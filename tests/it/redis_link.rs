//! The connection to Redis: a server that is frozen, killed or replaced while it is used.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Move, Notice, Opening, RedisBackend, RedisConfig,
};
use tower_breaker::{Reason, Tally};

use crate::redis_backend::{name, unavailable};
use crate::support::redis::{Server, connect, eventually, real, until};
use crate::support::{ms, s};

const CLOSE: Move = Move::Closed { reason: Reason::ByHand };

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

#[test]
fn what_was_sent_for_a_caller_that_has_gone_has_no_effect_later() {
    real(async {
        let server = Server::start();
        let backend = quick(&server).await;
        // The server knows the scripts, or it would have to be sent them again first.
        let warm = name("warm");
        eventually("an answer", async || {
            let moved = backend.transition(&warm, 1, &CLOSE).await.is_ok();
            moved && backend.impose(&warm, None).await.is_ok()
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
                let _ = tokio::time::timeout(ms(1), backend.impose(&circuit, None)).await;
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
        let opening = Opening { interval: s(60), probes: 1, ..Opening::default() };
        let tally = Tally::default();
        let open = Move::Open { opening, reason: Reason::FailureCount, tally };
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
