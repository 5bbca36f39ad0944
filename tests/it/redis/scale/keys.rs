//! The keys in Redis: how many there are, that no two circuits share one, and what is edited there.

use tower_breaker::backend::RedisBackend;
use tower_breaker::{Outcome, State, Store};

use super::{cluster, keys, records_with, within};
use crate::support::redis::replicas::{all_in, open_for_long, policy};
use crate::support::redis::{Server, connect, real};
use crate::support::{ms, s, store_on, trip};

#[test]
fn keys_named_by_requests_leave_no_record_if_all_calls_succeed() {
    const KEYS: usize = 20_000;
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let store = Store::builder().backend(backend).key_limit(1000).build();
        let requests = store.keyed("requests");
        for n in 0..KEYS {
            if let Some(circuit) = requests.circuit(&n.to_string())
                && let Ok(permit) = circuit.try_acquire()
            {
                permit.settle(Outcome::Success);
            }
            if n % 50 == 0 {
                tokio::time::sleep(ms(10)).await;
            }
        }
        tokio::time::sleep(s(1)).await;
        let records = keys(&server, "requests");
        assert_eq!(
            records.len(),
            0,
            "records after {KEYS} keys, {} in all",
            keys(&server, "").len()
        );
    });
}

#[test]
fn two_prefixes_never_share_a_record() {
    real(async {
        let server = Server::start();
        let store = async |prefix: &str| {
            let backend = connect(&server.config().key_prefix(prefix)).await;
            store_on(backend, open_for_long()).deadline(s(5)).build()
        };
        let one = store("shop").await.circuit("cb:x");
        let other = store("shop:cb").await.circuit("x");
        one.force_open("a test").await.unwrap();
        let fresh = store("shop:cb").await.circuit("x");
        tokio::time::sleep(s(3)).await;
        for circuit in [other, fresh] {
            assert_eq!(circuit.state(), State::Closed);
            assert!(circuit.acquire().await.is_ok());
        }
    });
}

#[test]
fn a_record_that_an_operator_edits_to_closed_closes_all() {
    real(async {
        let server = Server::start();
        let replicas = cluster(&server, 2, open_for_long()).await;
        trip(&replicas[0].circuit);
        all_in(&replicas, State::Open).await;
        let records = records_with(&server, "test", "state");
        assert_eq!(records.len(), 1, "{records:?}");
        server.cli(&["HSET", &records[0], "state", "closed"]);
        let closed = || replicas.iter().all(|it| it.circuit.state() == State::Closed);
        assert!(within(15_000, closed).await, "{:?}", replicas[0].circuit.snapshot());
    });
}

#[test]
fn ten_thousand_expired_leases_do_not_stop_probing() {
    real(async {
        let server = Server::start();
        let policy = || policy().probes(20_000).probe_lease(s(2)).successes_to_close(5);
        let replicas = cluster(&server, 1, policy()).await;
        let circuit = &replicas[0].circuit;
        trip(circuit);
        tokio::time::sleep(ms(600)).await;
        let probe = circuit.acquire().await.unwrap();
        assert!(probe.is_probe());
        // Those of replicas that have died.
        let record = records_with(&server, "test", "state").remove(0);
        let past = (server.millis() - 1).to_string();
        for hundred in 0..100 {
            let fields: Vec<_> = (0..100).map(|n| format!("l:{hundred:x}f{n:x}")).collect();
            let mut command = vec!["HSET", &record];
            for field in &fields {
                command.extend([field.as_str(), &past]);
            }
            assert_eq!(server.number(&command), 100);
        }
        let other = RedisBackend::start(&server.config()).unwrap();
        other.ready(s(5)).await;
        let other = store_on(other, policy()).deadline(s(5)).build().circuit("test");
        let next = other.acquire().await;
        assert!(next.is_ok_and(|next| next.is_probe()), "{:?}", other.snapshot());
        assert!(!other.snapshot().detached);
        drop(probe);
    });
}
