//! Redis answers, but does not do everything: the status says so, with the cause, and the log too.

use tower_breaker::State;
use tower_breaker::backend::RedisConfig;
use tower_breaker::event::BackendStatus;

use super::within;
use crate::support::log::Log;
use crate::support::redis::Server;
use crate::support::redis::replicas::{join, open_for_long};
use crate::support::replica::Replica;
use crate::support::{s, trip};

/// Runs `test` in real time on this thread, whose log the test reads.
fn on_one_thread(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

/// Lets a user do everything but this.
fn denied(server: &Server, rules: &[&str]) -> RedisConfig {
    let all = ["ACL", "SETUSER", "breaker", "on", ">secret", "~*", "&*", "+@all"];
    assert_eq!(server.cli(&[&all, rules].concat()), "OK");
    server.config().username("breaker").password("secret")
}

/// Asserts that the store shows what is impaired, and logs it, but not with each command.
async fn shows(replica: &Replica, log: &Log, cause: &str) {
    let impaired = || {
        let status = replica.store.backend();
        status != BackendStatus::Connected && status.to_string().to_lowercase().contains(cause)
    };
    let shown = within(10_000, impaired).await;
    let (status, lines) = (replica.store.backend(), log.lines());
    assert!(shown, "{status}; log: {lines:?}");
    let logged = lines.iter().filter(|line| line.to_lowercase().contains(cause)).count();
    assert!((1..=2).contains(&logged), "{lines:?}");
}

#[test]
fn a_server_without_memory_shows_in_the_status() {
    on_one_thread(async {
        let (server, log) = (Server::start(), Log::default());
        let _listening = log.listen();
        let replica = join(&server.config(), open_for_long()).await;
        assert!(within(5_000, || replica.store.backend() == BackendStatus::Connected).await);
        tokio::time::sleep(s(1)).await;
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        trip(&replica.circuit);
        shows(&replica, &log, "oom").await;
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        assert!(within(10_000, || replica.store.backend() == BackendStatus::Connected).await);
    });
}

#[test]
fn a_server_that_was_never_reached_is_not_connected() {
    on_one_thread(async {
        let server = Server::start();
        let config = server.config();
        drop(server);
        let replica = join(&config, open_for_long()).await;
        assert_ne!(replica.store.backend(), BackendStatus::Connected);
    });
}

#[test]
fn a_subscription_that_is_denied_shows_in_the_status() {
    on_one_thread(async {
        let (server, log) = (Server::start(), Log::default());
        let _listening = log.listen();
        let config = denied(&server, &["-subscribe"]);
        let replica = join(&config, open_for_long()).await;
        shows(&replica, &log, "subscribe").await;
        assert_eq!(replica.circuit.state(), State::Closed);
    });
}

#[test]
fn a_channel_that_is_denied_shows_in_the_status() {
    on_one_thread(async {
        let (server, log) = (Server::start(), Log::default());
        let _listening = log.listen();
        let config = denied(&server, &["resetchannels"]);
        let replica = join(&config, open_for_long()).await;
        shows(&replica, &log, "channel").await;
    });
}

#[test]
fn publishing_that_is_denied_shows_in_the_status() {
    on_one_thread(async {
        let (server, log) = (Server::start(), Log::default());
        let _listening = log.listen();
        let config = denied(&server, &["-publish"]);
        let replica = join(&config, open_for_long()).await;
        trip(&replica.circuit);
        shows(&replica, &log, "publish").await;
    });
}
