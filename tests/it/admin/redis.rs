//! On a real Redis.

use std::fmt::Write;

use http::StatusCode;
use serde_json::json;
use tower_breaker::State;
use tower_breaker::admin::AdminService;
use tower_breaker::backend::RedisBackend;

use super::client::{Stream, alices, get, read, write};
use crate::support::redis::{Server, connect, eventually, real};
use crate::support::*;

#[test]
fn an_override_by_post_is_in_force_in_a_second_store() {
    real(async {
        let server = Server::start();
        let stores = [
            store_on(connect(&server.config()).await, fragile()).replica("a").build(),
            store_on(connect(&server.config()).await, fragile()).replica("b").build(),
        ];
        let circuits = stores.each_ref().map(|store| store.circuit("payments"));
        let connected = async || stores.iter().all(|store| store.backend().is_connected());
        eventually("both connect", connected).await;
        let admin = alices(&stores[0]);
        let mut stream = Stream::open(&admin).await;
        stream.next("overview").await;
        let set = json!({ "state": "forced_open", "reason": "a test", "lasting_ms": 600_000 });
        let answer = write(&admin, "/api/circuits/payments/override", &set).await;
        assert_eq!((answer.status, &answer.json()["acknowledged"]), (StatusCode::OK, &json!(true)));
        let forced = async || circuits[1].state() == State::ForcedOpen;
        eventually("the second store follows", forced).await;
        assert_eq!(circuits[1].snapshot().override_actor.as_deref(), Some("alice"));
        // The page of the first sees what the second says.
        loop {
            let circuit = stream.circuit("payments").await;
            let said = circuit["replicas"].as_array().unwrap().clone();
            if said.len() == 2 && said.iter().all(|said| said["state"] == "forced_open") {
                break;
            }
        }
        assert_eq!(read(&admin, "/api/replicas").await.as_array().unwrap().len(), 2);
        assert_eq!(read(&admin, "/api/circuits/payments/history").await["source"], "cluster");

        let cleared = write(&admin, "/api/circuits/payments/clear", &json!({})).await;
        assert_eq!(cleared.json()["circuit"]["state"], "closed");
        eventually("it ends in both", async || circuits[1].state() == State::Closed).await;
    });
}

#[test]
fn no_answer_has_the_password_of_redis() {
    real(async {
        let server = Server::with_password("right");
        let config = server.config().password("hunter2-secret");
        let store = store_on(RedisBackend::start(&config).unwrap(), fragile()).build();
        store.circuit("payments");
        let services =
            [alices(&store), AdminService::of_backend(RedisBackend::start(&config).unwrap())];
        for admin in services {
            let degraded = async || {
                let overview = read(&admin, "/api/overview").await;
                overview["backend"]["status"] == "degraded"
            };
            eventually("the status says why", degraded).await;
            let mut shown = format!("{admin:?}");
            for path in [
                "/api/overview",
                "/api/health",
                "/api/ready",
                "/api/replicas",
                "/api/circuits/payments",
                "/api/circuits/payments/history",
            ] {
                let answer = get(&admin, path).await;
                write!(shown, "{:?}", answer.headers).unwrap();
                shown.push_str(std::str::from_utf8(&answer.body).unwrap());
            }
            let set = json!({ "state": "disabled", "reason": "x" });
            let answer = write(&admin, "/api/circuits/payments/override", &set).await;
            shown.push_str(std::str::from_utf8(&answer.body).unwrap());
            let mut stream = Stream::open(&admin).await;
            shown.push_str(&stream.next("overview").await.data.to_string());
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("does not accept"), "{shown}");
        }
    });
}
