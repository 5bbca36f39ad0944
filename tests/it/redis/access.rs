//! Access to Redis: permissions, and servers that cannot be used.

use tower_breaker::Store;
use tower_breaker::backend::{
    Backend, Impairment, Move, Notice, OpenTerms, OverrideChange, Probed, RedisBackend,
    RedisConfig, Sender,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::OverrideRecord;

use super::records::{OPEN, TERMS, forced, name, report};
use crate::support::log::Log;
use crate::support::redis::{Ask, Cluster, Server, connect, eventually, on_this_thread, real};
use crate::support::{s, wait_for};

const DOCS: &str = include_str!("../../../docs/redis.md");

/// Asserts that `connect` fails with one of these messages, and never shows the password. On a busy
/// machine it may fail for another reason first.
pub(super) async fn assert_refused(config: &RedisConfig, says: &[&str], when: &str) {
    let mut said = String::new();
    for _ in 0..5 {
        let Err(error) = RedisBackend::connect(config).await else {
            panic!("{when}: connected");
        };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{when}: {shown}");
        said = error.to_string();
        if says.iter().any(|word| said.contains(word)) {
            return;
        }
    }
    panic!("{when}: {said}");
}

/// The permissions in the line of `docs/redis.md` that begins like this.
fn permissions(start: &str) -> Vec<&'static str> {
    let line = DOCS.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("docs/redis.md has {start:?}")).split(' ').collect()
}

/// Makes a user with these permissions and no others.
fn allow(server: &Server, rules: &[&str]) {
    // In Redis 6.2 a new user may use all channels.
    let user = ["ACL", "SETUSER", "breaker", "reset", "on", ">hunter2", "resetchannels"];
    assert_eq!(server.cli(&[&user, rules].concat()), "OK");
}

#[test]
fn the_permissions_in_the_docs_are_sufficient_and_all_needed() {
    let rules = permissions("ACL SETUSER breaker on >secret resetchannels ");
    real(async {
        let server = Server::start();
        allow(&server, &rules);
        let config = server.config().username("breaker").password("hunter2");
        let backend = connect(&config).await;
        let mut notices = backend.subscribe();
        let opened = backend.transition(&name("a"), 1, &OPEN).await.unwrap();
        backend.set_override(&name("a"), &OverrideChange::Set(forced())).await.unwrap();
        backend.set_override(&name("a"), &OverrideChange::Clear).await.unwrap();
        backend.report("r", 1, &report("b", 10)).await.unwrap();
        backend.restore(&name("c"), &opened).await.unwrap();
        backend.ping().await.unwrap();
        assert_eq!(backend.replicas().await.unwrap().len(), 1);
        tokio::time::timeout(s(20), notices.recv()).await.expect("a notice").unwrap();
        backend.watch().await.unwrap();
        let sender = Sender { name: "r".to_owned(), id: "r 1".to_owned() };
        backend.publish(&sender, "all closed").await.unwrap();
        let described =
            async { while !matches!(notices.recv().await.unwrap(), Notice::Circuits { .. }) {} };
        tokio::time::timeout(s(20), described).await.expect("a description");
        backend.close().await.unwrap();

        // What it is for shows later: the next test.
        for missing in rules.iter().filter(|rule| **rule != "+unsubscribe") {
            let others: Vec<_> = rules.iter().copied().filter(|rule| rule != missing).collect();
            allow(&server, &others);
            let command = missing.trim_start_matches('+');
            assert_refused(&config, &[command, "Permissions"], missing).await;
        }
    });
}

#[test]
fn without_unsubscribe_a_replica_that_has_watched_goes_on_listening() {
    let rules = permissions("ACL SETUSER breaker on >secret resetchannels ");
    real(async {
        let server = Server::start();
        let config = server.config().username("breaker").password("hunter2");
        let listeners = || server.cli(&["PUBSUB", "NUMSUB", "cb:circuits"]);
        for denied in [false, true] {
            let is_needed = |rule: &&&str| !denied || **rule != "+unsubscribe";
            let rules: Vec<_> = rules.iter().filter(is_needed).copied().collect();
            allow(&server, &rules);
            let backend = connect(&config).await;
            backend.watch().await.unwrap();
            wait_for("a subscription", || listeners() == "cb:circuits\n1").await;
            let silent = async { wait_for("its end", || listeners() == "cb:circuits\n0").await };
            let ended = tokio::time::timeout(s(19), silent).await.is_ok();
            assert_eq!(ended, !denied, "{}", listeners());
            // Nothing else is the worse for it.
            backend.ping().await.unwrap();
            backend.load(&name("a")).await.unwrap();
        }
    });
}

#[test]
fn the_permissions_in_the_docs_suffice_for_cluster_and_sentinel() {
    let rules = permissions("ACL SETUSER breaker on >secret resetchannels ");
    let with = |more: &str| [rules.clone(), permissions(more)].concat();
    real(async {
        let cluster = Cluster::start();
        for node in &cluster.nodes {
            allow(node, &with("In a Cluster: "));
        }
        let config = cluster.config().username("breaker").password("hunter2");
        for circuit in ["a", "b", "c", "d"] {
            connect(&config).await.transition(&name(circuit), 1, &OPEN).await.unwrap();
        }

        let master = Server::start();
        allow(&master, &with("Behind Sentinel: "));
        let sentinel = Server::sentinel("main", &master);
        let config = RedisConfig::sentinel("main", [("127.0.0.1", sentinel.port())]);
        let config = config.username("breaker").password("hunter2");
        connect(&config).await.transition(&name("a"), 1, &OPEN).await.unwrap();
    });
}

#[test]
fn a_permission_that_was_revoked_is_a_refusal() {
    real(async {
        let server = Server::start();
        let all = ["ACL", "SETUSER", "breaker", "on", ">hunter2", "~*", "&*", "+@all"];
        assert_eq!(server.cli(&all), "OK");
        let config = server.config().username("breaker").password("hunter2");
        let backend = connect(&config).await;
        server.cli(&["ACL", "SETUSER", "breaker", "-hmget"]);
        let error = backend.load(&name("a")).await.unwrap_err();
        assert!(!error.is_unavailable() && error.to_string().contains("Permissions"), "{error}");
    });
}

#[test]
fn a_script_without_some_permissions_loses_no_data() {
    const ALL: [&str; 6] = ["breaker", "on", ">hunter2", "~*", "&*", "+@all"];
    real(async {
        let server = Server::start();
        assert_eq!(server.cli(&[&["ACL", "SETUSER"], &ALL[..]].concat()), "OK");
        let owner = connect(&server.config()).await;
        let user = connect(&server.config().username("breaker").password("hunter2")).await;
        for denied in ["hset", "hdel", "del", "pexpire"] {
            let [open, half, forced_open] =
                ["open", "half", "forced"].map(|what| name(&format!("{what} {denied}")));
            let opened = owner.transition(&open, 1, &OPEN).await.unwrap();
            let terms = OpenTerms { interval: s(0), ..TERMS };
            let (reason, tally) = (Reason::FailureCount, Tally::default());
            let at_once = Move::Open { terms, reason, tally, last_error: None };
            let generation = owner.transition(&half, 1, &at_once).await.unwrap().generation;
            let (lease, half_open) = owner.acquire_probe(&half, generation, 1).await.unwrap();
            let lease = lease.expect("a lease");
            let set = OverrideChange::Set(forced());
            let overridden = owner.set_override(&forced_open, &set).await.unwrap();
            let mut newer = overridden.clone();
            newer.generation = opened.generation + 1;
            newer.overridden.version += 1;

            let seen = async || {
                let (a, b) = (owner.load(&open).await.unwrap(), owner.load(&half).await.unwrap());
                (a.generation, b.generation, owner.load(&forced_open).await.unwrap().overridden)
            };
            let mut last = seen().await;
            assert_eq!(
                last,
                (opened.generation, half_open.generation, overridden.overridden.clone())
            );
            let mut kept = async |step: &str, refused: bool| {
                let step = format!("without {denied}, {step}");
                assert!(refused || denied != "hset", "{step}: done");
                let now = seen().await;
                let is_newer = now.0 >= last.0 && now.1 >= last.1;
                assert!(is_newer && now.2.version >= last.2.version, "{step}: {last:?} {now:?}");
                // PEXPIRE is the last command: the others have run when it is refused.
                assert!(!refused || denied == "pexpire" || now == last, "{step}: {last:?} {now:?}");
                last = now;
            };
            let rule = format!("-{denied}");
            assert_eq!(server.cli(&["ACL", "SETUSER", "breaker", &rule]), "OK");
            let closed = Move::Closed { reason: Reason::Override };
            let did = user.transition(&open, opened.generation, &closed).await;
            kept("a transition", did.is_err()).await;
            let (reason, last_error) = (Reason::ProbeFailed, None);
            let failed = Probed::Failed { terms: TERMS, reason, last_error };
            let did = user.settle_probe(&half, lease, &Probed::Passed).await;
            kept("a probe that passed", did.is_err()).await;
            let did = user.settle_probe(&half, lease, &failed).await;
            kept("a probe that failed", did.is_err()).await;
            let did = user.set_override(&forced_open, &OverrideChange::Clear).await;
            kept("the end of an override", did.is_err()).await;
            let other = OverrideRecord { reason: "another".to_owned(), ..forced() };
            let did = user.set_override(&forced_open, &OverrideChange::Set(other)).await;
            kept("an override", did.is_err()).await;
            let did = user.set_override(&forced_open, &OverrideChange::Reset).await;
            kept("a reset", did.is_err()).await;
            for circuit in [&open, &forced_open] {
                let did = user.restore(circuit, &newer).await;
                kept("a restored view", did.is_err()).await;
            }
            assert_eq!(server.cli(&["ACL", "SETUSER", "breaker", "+@all"]), "OK");
        }
    });
}

#[test]
fn a_server_that_may_evict_overrides_is_warned_of() {
    on_this_thread(async {
        let server = Server::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
        let backend = connect(&server.config()).await;
        let log = Log::default();
        let _listening = log.listen();
        let store = Store::builder().backend(backend.clone()).build();
        wait_for("the status", || store.backend().is_connected()).await;
        let status = store.backend();
        assert!(matches!(status.impairments(), [Impairment::Unsafe { .. }]), "{status}");
        let lines = log.lines();
        let warned = lines.iter().filter(|it| it.contains("WARN") && it.contains("allkeys-lru"));
        assert_eq!(warned.count(), 1, "{lines:?}");
        store.shutdown(s(5)).await;

        // A user without permission to ask gets no warning, and no error either.
        allow(&server, &permissions("ACL SETUSER breaker on >secret resetchannels "));
        let config = server.config().username("breaker").password("hunter2");
        assert_eq!(connect(&config).await.impairments(), []);

        for harmless in [["maxmemory", "0"], ["maxmemory-policy", "volatile-lru"]] {
            server.cli(&[&["CONFIG", "SET"], &harmless[..]].concat());
            assert_eq!(connect(&server.config()).await.impairments(), []);
            server.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
        }
    });
}

/// Starts a server that is no Redis, and answers every request with `answer`. Returns its port.
fn fake_server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 512];
            while let Ok(n @ 1..) = stream.read(&mut request) {
                if stream.write_all(&answer(&request[..n])).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    let answer = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
    let port = fake_server(|_| answer.to_vec());
    real(async {
        let config = RedisConfig::new("127.0.0.1", port);
        assert_refused(&config, &["6.2 or later"], "an old server").await;
    });
}

#[test]
fn a_password_repeated_by_the_server_is_not_shown() {
    let unknown = |command: &str| {
        let args = "with args beginning with: `breaker`, `hunter2`, ";
        format!("-ERR unknown command `{command}`, {args}\r\n").into_bytes()
    };
    let ports = [
        fake_server(<[u8]>::to_vec),
        fake_server(|request| [b"HTTP/1.1 400 Bad Request\r\n\r\n", request].concat()),
        fake_server(move |_| unknown("AUTH")),
        fake_server(move |_| unknown("HELLO")),
    ];
    real(async {
        for port in ports {
            let config = RedisConfig::new("127.0.0.1", port);
            let config = config.username("breaker").password("hunter2");
            // This asserts that the password is not shown.
            assert_refused(&config, &["redis"], "no Redis").await;
        }
    });
}

#[test]
fn a_missing_server_is_an_error_at_once_or_waited_for() {
    real(async {
        let mut server = Server::start();
        let config = server.config().command_timeout(s(2));
        server.kill();
        assert_refused(&config, &["cannot be reached"], "no server").await;
        let backend = RedisBackend::start(&config).unwrap();
        let error = backend.load(&name("a")).await.unwrap_err();
        assert!(error.is_unavailable());
        server.restart();
        eventually("an answer", async || backend.load(&name("a")).await.is_ok()).await;
    });
}

#[test]
fn a_server_that_is_no_cluster_is_refused_as_one() {
    real(async {
        let server = Server::start();
        let config = RedisConfig::cluster([("127.0.0.1", server.port())]);
        assert_refused(&config, &["cluster support disabled"], "no cluster").await;
    });
}

#[cfg(feature = "redis-tls")]
#[test]
fn a_server_with_unexpected_tls_is_refused() {
    real(async {
        let tls = crate::support::redis::TlsServer::start();
        let plain = tls.server.config().tls_ca_file(tls.ca_file());
        assert_refused(&plain, &["TLS"], "TLS to a plain port").await;
        assert_refused(&tls.config(), &["TLS"], "plain to a TLS port").await;
        let unknown = tls.config().tls();
        assert_refused(&unknown, &["not accepted: unknown issuer"], "an unknown certificate").await;
        let nowhere = tls.config().tls_ca_file("/nowhere/ca.crt");
        assert_refused(&nowhere, &["/nowhere/ca.crt"], "no such file").await;
    });
}

#[cfg(feature = "redis-tls")]
#[test]
fn over_tls_an_expired_or_foreign_certificate_is_refused() {
    use crate::support::redis::TlsServer;
    on_this_thread(async {
        for (tls, says) in [
            (TlsServer::expired(), "not accepted: expired"),
            (TlsServer::of_another_host(), "not accepted: not valid for name"),
        ] {
            let config = tls.config().tls_ca_file(tls.ca_file());
            assert_refused(&config, &[says], says).await;
            // A store that connects in the background decides without it, and says why.
            let log = Log::default();
            let _listening = log.listen();
            let store = Store::builder().backend(RedisBackend::start(&config).unwrap()).build();
            wait_for("the status", || store.backend().to_string().contains(says)).await;
            assert!(store.backend().is_degraded(), "{}", store.backend());
            let warned = |line: &&String| line.starts_with("WARN") && line.contains(says);
            assert_eq!(log.lines().iter().filter(warned).count(), 1, "{:?}", log.lines());
            assert!(store.circuit("a").acquire().await.is_ok());
        }
    });
}
