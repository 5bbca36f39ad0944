//! Heartbeats: which replicas live, and whether they are watched.

use std::collections::BTreeSet;

use tower_breaker::backend::{Heartbeat, Notice, Roster};

use super::World;
use super::fixtures::name;
use crate::support::{ms, s};

pub(super) async fn heartbeats_count_live_replicas(world: impl World) {
    world.forget().await;
    let (one, other) = world.replicas();
    assert_eq!((one.live().await, one.live().await, other.live().await), (1, 1, 2));
    // Each start is one, until it is silent.
    let restarted = one.restarted();
    assert_eq!(restarted.live().await, 3);
    world.wait(Roster::LIVE + ms(100)).await;
    assert_eq!(other.live().await, 1);

    let impaired = Heartbeat { impaired: "not \"pushed\"".to_owned(), ..one.beat() };
    assert_eq!(one.heartbeat(&impaired).await.unwrap().live, 2);
    let replicas = other.replicas().await.unwrap();
    let ids: BTreeSet<_> = replicas.iter().map(|replica| replica.id.clone()).collect();
    let started = [&one, &other, &restarted].map(|replica| replica.sender.id.clone());
    assert_eq!(ids, started.into());
    for replica in &replicas {
        assert_eq!(replica.is_silent(), replica.id == restarted.sender.id, "{replica:?}");
        assert_eq!(replica.version, "1.2.3");
        let impaired = if replica.id == one.sender.id { "not \"pushed\"" } else { "" };
        assert_eq!(replica.impaired, impaired);
    }
    let named = replicas.iter().filter(|replica| replica.name == one.sender.name);
    assert_eq!(named.count(), 2);
}

pub(super) async fn heartbeats_say_that_the_cluster_is_watched(world: impl World) {
    world.forget().await;
    let (one, other) = world.replicas();
    assert!(!one.heartbeat(&one.beat()).await.unwrap().watched);
    other.watch().await.unwrap();
    for replica in [&one, &other] {
        assert!(replica.heartbeat(&replica.beat()).await.unwrap().watched);
    }
}

pub(super) async fn heartbeats_say_what_the_others_have_seen(world: impl World) {
    world.forget().await;
    let (one, other) = world.replicas();
    let now = one.call_roll(&name(), 0).await.unwrap().id;
    let newest = async |seen| {
        let heartbeat = Heartbeat { seen, ..other.beat() };
        other.heartbeat(&heartbeat).await.unwrap().newest
    };
    assert_eq!([newest(0).await, newest(now - 5).await, newest(now).await], [0, now - 5, now]);
    assert_eq!(newest(now - 5).await, now, "of all replicas");
    for forged in [now + 100_000, 1 << 53, u64::MAX] {
        assert_eq!(newest(forged).await, now);
    }
    assert_eq!(one.heartbeat(&one.beat()).await.unwrap().newest, now);
}

pub(super) async fn what_a_replica_publishes_reaches_every_subscriber(world: impl World) {
    let (one, other) = world.replicas();
    other.watch().await.unwrap();
    let mut notices = other.subscribe();
    let circuits = "{\"a\": \"ü\"}\n".repeat(1_000);
    one.publish(&one.sender, &circuits).await.unwrap();
    let next = async {
        loop {
            if let Notice::Circuits { sender, circuits } = notices.recv().await.unwrap()
                && sender == one.sender
            {
                return circuits;
            }
        }
    };
    assert_eq!(tokio::time::timeout(s(20), next).await.expect("a notice"), circuits);

    let error = one.publish(&one.sender, &"x".repeat(64 * 1024 + 1)).await.unwrap_err();
    assert!(!error.is_unavailable());
}
