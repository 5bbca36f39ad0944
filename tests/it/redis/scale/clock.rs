//! The server's clock goes back, as in a failover to a server whose clock is behind.

use tower_breaker::State;

use super::{cluster, records_with, within};
use crate::support::redis::replicas::{all_in, join, policy};
use crate::support::redis::{Server, real};
use crate::support::{ms, s, trip};

const HOUR: u64 = 3_600_000;

#[test]
fn a_clock_an_hour_behind_prolongs_no_open_interval() {
    real(async {
        let server = Server::start();
        let policy = || policy().open_for(s(2)).backoff(1.0, s(2));
        let replicas = cluster(&server, 2, policy()).await;
        trip(&replicas[0].circuit);
        all_in(&replicas, State::Open).await;
        // As if written by a clock that was an hour ahead.
        let records = records_with(&server, "test", "until");
        assert_eq!(records.len(), 1, "{records:?}");
        let until = server.number(&["HGET", &records[0], "until"]) + HOUR;
        server.cli(&["HSET", &records[0], "until", &until.to_string()]);

        let fresh = join(&server.config(), policy()).await;
        assert!(within(5_000, || fresh.circuit.state() == State::Open).await);
        let wait = fresh.circuit.snapshot().retry_after.expect("an open circuit");
        assert!(wait <= s(2), "the interval is 2 s, and {wait:?} remain");
        let probe = async {
            loop {
                if let Ok(permit) = fresh.circuit.acquire().await {
                    return permit.is_probe();
                }
                tokio::time::sleep(ms(50)).await;
            }
        };
        assert!(tokio::time::timeout(s(10), probe).await.expect("a probe"));
    });
}

#[test]
fn a_clock_an_hour_behind_holds_no_probe_slot() {
    real(async {
        let server = Server::start();
        let policy = || policy().open_for(ms(200)).backoff(1.0, ms(200)).probe_lease(s(2));
        let replicas = cluster(&server, 2, policy()).await;
        trip(&replicas[0].circuit);
        all_in(&replicas, State::Open).await;
        tokio::time::sleep(ms(300)).await;
        let probe = replicas[0].circuit.acquire().await.unwrap();
        assert!(probe.is_probe());
        // As if a replica that has died had acquired it from a clock an hour ahead.
        let mut leases = 0;
        for key in records_with(&server, "test", "state") {
            for line in server.cli(&["HKEYS", &key]).lines().filter(|it| it.starts_with("l:")) {
                let until = (server.number(&["HGET", &key, line]) + HOUR).to_string();
                server.cli(&["HDEL", &key, line]);
                server.cli(&["HSET", &key, "l:dead", &until]);
                leases += 1;
            }
        }
        assert_eq!(leases, 1, "the probe's");
        drop(probe);
        let probe = async {
            loop {
                if let Ok(permit) = replicas[1].circuit.acquire().await {
                    return permit.is_probe();
                }
                tokio::time::sleep(ms(50)).await;
            }
        };
        assert!(tokio::time::timeout(s(10), probe).await.expect("a probe"));
    });
}
