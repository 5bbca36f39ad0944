//! Passwords: wrong ones, and those that change.

use tower_breaker::Store;
use tower_breaker::backend::RedisBackend;
use tower_breaker::event::BackendStatus;
use tower_breaker::overrides::PendingOverride;

use super::access::assert_refused;
use super::records::name;
use crate::support::log::Log;
use crate::support::redis::{Ask, Server, connect, eventually, on_this_thread, real};
use crate::support::{s, wait_for};

#[test]
fn a_refused_login_is_reported_without_the_password() {
    real(async {
        let server = Server::with_password("right");
        for (config, says) in [
            (server.config(), "asks for a password"),
            (server.config().password("hunter2"), "does not accept"),
            (server.config().username("unknown").password("hunter2"), "does not accept"),
        ] {
            assert_refused(&config, &[says], "at the start").await;
            // A backend that connects in the background goes on trying, and says what is wrong.
            let backend = RedisBackend::start(&config).unwrap();
            eventually("the reason", async || {
                let error = backend.ping().await.unwrap_err();
                let shown = format!("{error} {backend:?}");
                assert!(error.is_unavailable() && !shown.contains("hunter2"), "{shown}");
                shown.contains(says)
            })
            .await;
        }
        assert!(connect(&server.config().password("right")).await.ping().await.is_ok());
    });
}

#[test]
fn a_changed_password_is_reported_as_the_reason() {
    real(async {
        let server = Server::with_password("old");
        let backend = connect(&server.config().password("old")).await;
        server.cli(&["CONFIG", "SET", "requirepass", "new"]);
        server.cli_as("new", &["CLIENT", "KILL", "SKIPME", "yes"]);
        eventually("the reason", async || {
            let error = backend.load(&name("a")).await.err();
            error.is_some_and(|error| error.to_string().contains("does not accept"))
        })
        .await;
        server.cli_as("new", &["CONFIG", "SET", "requirepass", "old"]);
        eventually("a new connection", async || backend.load(&name("a")).await.is_ok()).await;
    });
}

#[test]
fn a_password_rotated_while_running_shows_once_it_is_needed() {
    on_this_thread(async {
        let server = Server::with_password("hunter2");
        let backend = connect(&server.config().password("hunter2")).await;
        let log = Log::default();
        let _listening = log.listen();
        let store = Store::builder().backend(backend).build();
        let circuit = store.circuit("a");
        wait_for("the backend", || store.backend() == BackendStatus::Connected).await;
        server.cli(&["CONFIG", "SET", "requirepass", "new"]);
        // A connection that was let in stays.
        tokio::time::sleep(s(3)).await;
        assert_eq!(store.backend(), BackendStatus::Connected);
        assert!(eventually_ok(|| circuit.force_closed("a test")).await);

        server.cli_as("new", &["CLIENT", "KILL", "SKIPME", "yes"]);
        let says = "does not accept the user name or the password";
        wait_for("the status", || store.backend().to_string().contains(says)).await;
        assert!(store.backend().is_degraded());
        assert!(circuit.acquire().await.is_ok());
        server.cli_as("new", &["CONFIG", "SET", "requirepass", "hunter2"]);
        wait_for("the way back", || store.backend() == BackendStatus::Connected).await;
        assert!(eventually_ok(|| circuit.reset()).await);
        let lines = log.lines();
        let of = |level: &str, says: &str| {
            lines.iter().filter(|line| line.starts_with(level) && line.contains(says)).count()
        };
        assert_eq!((of("WARN", says), of("INFO", "recovered")), (1, 1), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("hunter2")), "{lines:?}");
    });
}

/// Tries until an override is acknowledged.
async fn eventually_ok(change: impl Fn() -> PendingOverride) -> bool {
    let tries = async { while change().await.is_err() {} };
    tokio::time::timeout(s(20), tries).await.is_ok()
}
