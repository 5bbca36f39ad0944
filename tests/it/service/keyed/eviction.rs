//! Which circuits of keys are forgotten or evicted, and which stay.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_counter::measure;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{CircuitBreakerLayer, Error, ErrorsAsFailures, State, Store};

use crate::support::keyed::{builder, call, layer, names, upstream};
use crate::support::log::Log;
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

/// An upstream of many hosts, which counts the calls of each. Hosts whose names begin with `down`
/// fail.
#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<HashMap<String, u32>>>);

impl Hosts {
    fn reached(&self, host: &str) -> u32 {
        self.0.lock().unwrap().get(host).copied().unwrap_or_default()
    }

    /// A service with a circuit for each host. Calls are counted by the part of the name before
    /// `#`.
    fn service(
        &self,
        store: &Store,
    ) -> impl Service<String, Response = (), Error = Error<String>> + use<> {
        let hosts = self.clone();
        CircuitBreakerLayer::new(store.clone())
            .named("up")
            .classify(ErrorsAsFailures)
            .keyed_by_fn(|host: &String| Some(host.into()))
            .layer(service_fn(move |host: String| {
                let kind = host.split('#').next().unwrap().to_owned();
                *hosts.0.lock().unwrap().entry(kind).or_default() += 1;
                ready(if host.starts_with("down") { Err(host) } else { Ok(()) })
            }))
    }
}

/// Opens after one failure, for an hour.
fn open_for_an_hour() -> PolicyBuilder {
    fragile().open_for(s(3_600)).backoff(1.0, s(3_600))
}

/// Calls each of many new hosts once, a millisecond apart, and `known` once per hundred of them.
async fn flood(
    service: &mut impl Service<String, Response = (), Error = Error<String>>,
    kind: &str,
    hosts: u32,
    known: &str,
) {
    for n in 0..hosts {
        let _ = call(service, format!("{kind}#{n}"));
        if n % 100 == 0 {
            let _ = call(service, known.to_owned());
        }
        advance(ms(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_keeps_the_circuit_of_its_key() {
    let store = builder(fragile()).key_idle(s(60)).build();
    let permit = store.keyed("up").circuit("a").unwrap().try_acquire().unwrap();
    for _ in 0..10 {
        advance(s(60)).await;
        let _ = store.keyed("up").circuit("b");
    }
    assert!(store.circuits().iter().any(|circuit| circuit.name().as_str() == "up:a"));
    permit.settle(tower_breaker::Outcome::Success);
    assert_eq!(store.get("up:a").unwrap().snapshot().tally.calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_with_only_cancelled_calls_is_kept_among_failing_keys() {
    let store = builder(fragile()).key_limit(100).build();
    let keys = store.keyed("up");
    for n in 0..100 {
        fail(&keys.circuit(&format!("down#{n}")).unwrap());
    }
    for n in 0..20 {
        let hung = keys.circuit("hung").unwrap();
        assert_eq!(hung.state(), State::Closed, "after {n}");
        drop(hold(&hung));
        drop(hung);
        fail(&keys.circuit(&format!("new#{n}")).unwrap());
    }
    assert_eq!(keys.circuit("hung").unwrap().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_flood_in_one_moment_evicts_no_circuit_in_regular_use() {
    let store = builder(open_for_an_hour()).key_limit(100).build();
    let keys = store.keyed("up");
    fail(&keys.circuit("legit").unwrap());
    for n in 0..3_000 {
        fail(&keys.circuit(&format!("down#{n}")).unwrap());
        if n % 10 == 0 {
            assert_eq!(keys.circuit("legit").unwrap().state(), State::Open, "after {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dead_keys_without_calls_make_room_for_a_new_failing_key() {
    let store = builder(open_for_an_hour()).key_limit(100).build();
    let hosts = Hosts::default();
    let mut service = hosts.service(&store);
    for n in 0..100 {
        let _ = call(&mut service, format!("down#{n}"));
        advance(ms(1)).await;
    }
    for _ in 0..1_000 {
        let _ = call(&mut service, "down new".to_owned());
    }
    assert_eq!(hosts.reached("down new"), 1);
    assert_eq!(store.circuits().len(), 100);
}

#[test]
fn a_flood_of_failing_keys_evicts_no_open_circuit_in_use() {
    const LIMIT: usize = 1_000;
    let during = measure(|| {
        paused(async {
            let store = builder(open_for_an_hour()).key_limit(LIMIT).build();
            let hosts = Hosts::default();
            let mut service = hosts.service(&store);
            call(&mut service, "forced".to_owned()).unwrap();
            drop(store.circuit("up:forced").force_open("an operator"));
            // The table is full before the known host is called for the first time.
            flood(&mut service, "down", 2_000, "down").await;
            flood(&mut service, "down", 100_000, "down known").await;
            assert_eq!(hosts.reached("down known"), 1, "of 1000 calls");
            assert_eq!(store.circuits().len(), LIMIT);
            assert_state(&store.circuit("up:forced"), State::ForcedOpen);
        });
    });
    assert!(during.bytes_max < (LIMIT * 4_096) as u64, "{during:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_succeeding_keys_evicts_no_open_circuit() {
    let store = builder(open_for_an_hour()).key_limit(100).build();
    let hosts = Hosts::default();
    let mut service = hosts.service(&store);
    call(&mut service, "forced".to_owned()).unwrap();
    drop(store.circuit("up:forced").force_open("an operator"));
    for n in 0..98 {
        let _ = call(&mut service, format!("down#{n}"));
    }
    flood(&mut service, "up", 100_000, "up#0").await;
    assert_eq!(store.circuits().len(), 100);
    let open = store.circuits().iter().filter(|c| c.state() == State::Open).count();
    assert_eq!(open, 98);
    assert_state(&store.circuit("up:forced"), State::ForcedOpen);
    // A circuit at the limit may be evicted for a new key, and then no other one.
    let _ = call(&mut service, "down#98".to_owned());
    flood(&mut service, "up", 1_000, "up#0").await;
    let open = store.circuits().iter().filter(|c| c.state() == State::Open).count();
    assert!(open >= 98, "{open}");
}

#[tokio::test(start_paused = true)]
async fn circuits_without_failures_are_evicted_first() {
    let store = builder(fragile().consecutive_failures(2)).key_limit(2).build();
    let hosts = Hosts::default();
    let mut service = hosts.service(&store);
    let _ = call(&mut service, "down".to_owned());
    advance(s(1)).await;
    for host in ["a", "b", "c"] {
        call(&mut service, host.to_owned()).unwrap();
        advance(s(1)).await;
    }
    assert_eq!(names(&store), ["up:c", "up:down"]);
    let _ = call(&mut service, "down".to_owned());
    assert_state(&store.circuit("up:down"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_circuit_is_evicted() {
    let store = builder(fragile()).key_limit(2).key_idle(s(60)).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    for key in ["a", "b", "a", "c"] {
        call(&mut service, key).unwrap();
        advance(s(1)).await;
    }
    assert_eq!(names(&store), ["up:a", "up:c"]);
}

#[tokio::test(start_paused = true)]
async fn idle_circuits_are_forgotten_without_new_keys_too() {
    let store = builder(fragile()).key_idle(s(60)).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    call(&mut service, "b").unwrap();
    for key in ["a"; 4] {
        call(&mut service, key).unwrap();
        advance(s(60)).await;
    }
    assert_eq!(names(&store), ["up:a"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_open_circuit_is_forgotten_once_it_would_admit_a_probe() {
    let store = builder(open_for_an_hour()).key_idle(s(60)).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    let _ = call(&mut service, "down");
    for minutes in [30, 31] {
        for _ in 0..minutes {
            call(&mut service, "a").unwrap();
            advance(s(60)).await;
        }
        if minutes == 30 {
            assert_eq!(names(&store), ["up:a", "up:down"], "it would still reject");
        }
    }
    call(&mut service, "a").unwrap();
    advance(s(60)).await;
    call(&mut service, "a").unwrap();
    assert_eq!(names(&store), ["up:a"]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_in_use_or_under_an_override_is_never_forgotten() {
    let store = builder(open_for_an_hour()).key_limit(4).build();
    let hanging = Upstream::new(Does::Hang);
    let mut service = layer(&store).layer(service_fn(move |request: &'static str| {
        let hanging = hanging.clone();
        async move {
            match request {
                "hanging" => hanging.oneshot(()).await.map_err(|_| String::new()),
                request => upstream(request).await,
            }
        }
    }));
    for key in ["forced", "disabled", "held"] {
        call(&mut service, key).unwrap();
    }
    drop(store.circuit("up:forced").force_open("an operator"));
    drop(store.circuit("up:disabled").disable("an operator"));
    let held = store.circuit("up:held");
    let mut in_flight = tokio_test::task::spawn(service.call("hanging"));
    assert!(in_flight.poll().is_pending());
    advance(s(1_800)).await;
    for _ in 0..20 {
        call(&mut service, "new").unwrap();
    }
    assert_eq!(names(&store), ["up:disabled", "up:forced", "up:hanging", "up:held"]);
    drop((held, in_flight));
    call(&mut service, "new").unwrap();
    assert!(names(&store).contains(&"up:new".to_owned()), "{:?}", names(&store));
}

#[tokio::test(start_paused = true)]
async fn an_override_keeps_its_circuit_until_it_expires() {
    let store = builder(fragile()).key_limit(1).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    call(&mut service, "a").unwrap();
    let forced = tower_breaker::overrides::Override::force_open("an operator").lasting(s(60));
    drop(store.circuit("up:a").set_override(forced));
    call(&mut service, "b").unwrap();
    assert_eq!(names(&store), ["up:a"]);
    advance(s(61)).await;
    call(&mut service, "b").unwrap();
    assert_eq!(names(&store), ["up:b"]);
}

#[tokio::test(start_paused = true)]
async fn looking_up_a_circuit_by_name_counts_as_use() {
    let store = builder(fragile()).key_idle(s(60)).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    for key in ["by circuit", "by get", "neither"] {
        call(&mut service, key).unwrap();
    }
    for _ in 0..6 {
        advance(s(40)).await;
        drop(store.circuit("up:by%20circuit"));
        drop(store.get("up:by%20get"));
        call(&mut service, "a").unwrap();
    }
    assert_eq!(names(&store), ["up:a", "up:by%20circuit", "up:by%20get"]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_time_does_not_overflow_or_stop_eviction() {
    let store = builder(fragile()).key_limit(2).key_idle(Duration::MAX).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    for key in ["a", "b", "c", "d", "c"] {
        call(&mut service, key).unwrap();
        advance(s(3_600)).await;
    }
    assert_eq!(names(&store), ["up:c", "up:d"]);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_store_evicts_keys_like_any_other() {
    let log = Log::default();
    let _guard = log.listen();
    let store = Store::builder().enabled(false).key_limit(2).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    for key in ["a", "b", "c"] {
        call(&mut service, key).unwrap();
        advance(s(1)).await;
    }
    assert_eq!(names(&store), ["up:b", "up:c"]);
    assert!(log.lines().is_empty(), "{:?}", log.lines());
}
