//! A circuit for each key of the requests.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::measure;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::service::key::{Authority, Extension, Header, Keyless};
use tower_breaker::{CircuitBreakerLayer, Error, ErrorsAsFailures, Policy, State, Store};

use crate::support::keyed::{builder, call, layer, names, upstream};
use crate::support::log::Log;
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_failing_host_of_three_does_not_affect_the_others() {
    let store = builder(fragile()).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    for host in ["a", "down", "b"].into_iter().cycle().take(3) {
        let _ = call(&mut service, host);
    }
    let Err(Error::Rejected(rejection)) = call(&mut service, "down") else {
        panic!("its circuit is open")
    };
    assert_eq!(rejection.name().as_str(), "up:down");
    for _ in 0..10 {
        call(&mut service, "a").unwrap();
        call(&mut service.clone(), "b").unwrap();
    }
    assert_eq!(names(&store), ["up:a", "up:b", "up:down"]);
    assert_eq!(store.circuit("up:a").snapshot().tally.calls, 11);
    wait_out(&store.circuit("up:down")).await;
    assert!(matches!(call(&mut service, "down"), Err(Error::Inner(_))), "a probe");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_keys_take_no_more_memory_than_the_limit_allows() {
    const LIMIT: usize = 1_000;
    let keyed = |limit| {
        let store = Store::builder().key_limit(limit).build();
        let service = CircuitBreakerLayer::new(store.clone())
            .named("up")
            .classify(ErrorsAsFailures)
            .keyed_by_fn(|key: &u32| Some(key.to_string().into()))
            .layer(service_fn(|_: u32| ready(Ok::<_, String>(()))));
        (store, service)
    };
    let (store, mut service) = keyed(LIMIT);
    let during = measure(|| (0..100_000).for_each(|key| call(&mut service, key).unwrap()));
    assert_eq!(store.circuits().len(), LIMIT);
    assert!(during.bytes_max < (LIMIT * 4_096) as u64, "{during:?}");

    // Calls of known keys are still counted, and allocate nothing.
    let known = names(&store);
    let known: Vec<u32> = known.iter().map(|name| name[3..].parse().unwrap()).collect();
    let again = measure(|| known.iter().for_each(|key| call(&mut service, *key).unwrap()));
    assert_eq!(again.bytes_current, 0);
    for circuit in store.circuits() {
        assert_eq!(circuit.snapshot().tally.calls, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_known_key_allocates_nothing() {
    let store = builder(fragile()).build();
    let inner = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let breaker = CircuitBreakerLayer::new(store).named("up");
    let mut service = breaker.clone().keyed_by(Authority).layer(inner);
    let mut responding = breaker.respond().keyed_by(Authority).layer(inner);
    let mut calls = || {
        let uri = http::Uri::from_static("http://api.example.com/");
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        call(&mut service, request.clone()).unwrap();
        call(&mut service.clone(), request.clone()).unwrap();
        call(&mut responding, request).unwrap();
    };
    calls();
    assert_eq!(measure(calls).count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_key_limit_pass_and_are_logged_once_a_minute() {
    let log = Log::default();
    let _guard = log.listen();
    let store = builder(fragile()).key_limit(1).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    call(&mut service, "a").unwrap();
    let _in_use = store.circuit("up:a");
    for _ in 0..10 {
        assert!(matches!(call(&mut service, "down"), Err(Error::Inner(_))), "uncounted");
    }
    let starts = "WARN message=key limit reached";
    assert!(log.lines()[0].starts_with(starts), "{:?}", log.lines());
    assert_eq!(log.lines().len(), 1);
    advance(s(61)).await;
    let _ = call(&mut service, "down");
    assert!(log.lines()[1].ends_with("layer=\"up\" limit=1 calls=10"), "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_passes_uncounted_or_is_rejected() {
    let log = Log::default();
    let _guard = log.listen();
    let store = builder(fragile()).build();
    let inner = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let layer = CircuitBreakerLayer::new(store.clone())
        .named("up")
        .respond()
        .keyed_by(Header(http::header::FROM));
    for _ in 0..3 {
        assert!(call(&mut layer.layer(inner), Request::new(())).unwrap().status().is_success());
        let empty = Request::builder().header("from", "").body(()).unwrap();
        assert!(call(&mut layer.layer(inner), empty).unwrap().status().is_success());
    }
    let layer = layer.keyless(Keyless::Reject);
    let response = call(&mut layer.layer(inner), Request::new(())).unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers().get("retry-after"), None);
    assert!(store.circuits().is_empty());
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
    assert!(log.lines()[0].starts_with("WARN message=requests had no usable key"));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_of_a_key_responds_if_the_layer_does() {
    let store = builder(fragile()).build();
    let inner = service_fn(|request: Request<()>| {
        let mut response = Response::new(());
        if request.uri().host() == Some("down") {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        ready(Ok::<_, Infallible>(response))
    });
    let layer = CircuitBreakerLayer::new(store).named("up").respond().keyed_by(Authority);
    let mut service = layer.layer(inner);
    let mut get = |uri| call(&mut service, Request::get(uri).body(()).unwrap()).unwrap();
    assert_eq!(get("http://down/").status(), StatusCode::BAD_GATEWAY);
    let rejection = get("http://DOWN:80/other");
    assert_eq!(rejection.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rejection.headers()["retry-after"], "10");
    assert_eq!(
        get("https://down/").status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "port 443 of the same host"
    );
    assert_eq!(get("http://up/").status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_made_by_name_gets_the_policy_of_the_layer() {
    let store = Store::in_memory();
    let circuit = store.circuit("up:a");
    let policy = fragile().jitter(0.0).build().unwrap();
    let layer = CircuitBreakerLayer::new(store)
        .named("up")
        .policy(policy.clone())
        .classify(ErrorsAsFailures)
        .keyed_by_fn(|key: &&'static str| Some((*key).into()));
    let mut service = layer.layer(service_fn(upstream));
    call(&mut service, "a").unwrap();
    assert_eq!(circuit.policy(), policy);
    assert_eq!(circuit.snapshot().tally.calls, 1);
}

#[test]
fn threads_never_make_more_circuits_than_the_limit() {
    let store = Store::builder().key_limit(100).build();
    let most = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (store, most) = (&store, &most);
            scope.spawn(move || {
                let layer = CircuitBreakerLayer::new(store.clone())
                    .named("up")
                    .classify(ErrorsAsFailures)
                    .keyed_by_fn(|key: &u32| Some(key.to_string().into()));
                let mut service = layer.layer(service_fn(|_: u32| ready(Ok::<_, String>(()))));
                for n in 0..2_000 {
                    call(&mut service, (n * (thread + 1)) % 1_500).unwrap();
                    if n % 100 == 0 {
                        most.fetch_max(store.circuits().len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // Two threads that make the same circuit at once may have evicted one circuit too many.
    let left = store.circuits().len();
    assert!((90..=100).contains(&left), "{left}");
    assert!(most.load(Ordering::Relaxed) <= 100);
}

#[tokio::test(start_paused = true)]
async fn each_route_of_an_axum_server_has_a_circuit() {
    use axum::extract::{MatchedPath, Path};
    let store = builder(fragile()).build();
    let breaker = CircuitBreakerLayer::new(store.clone())
        .named("routes")
        .respond()
        .keyed_by(Extension::by(MatchedPath::as_str));
    let broken = async |_: Path<u32>| StatusCode::BAD_GATEWAY;
    let app = axum::Router::new()
        .route("/users/{id}", axum::routing::get(async |_: Path<u32>| "a user"))
        .route("/orders/{id}", axum::routing::get(broken))
        .layer(breaker);
    let get = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(get("/orders/1").await, 502);
    assert_eq!(get("/orders/2").await, 503);
    assert_eq!(get("/users/1").await, 200);
    assert_eq!(get("/users/2").await, 200);
    assert_eq!(get("/nowhere").await, 404);
    assert_eq!(names(&store), ["routes:/orders/{id}", "routes:/users/{id}"]);
}

#[tokio::test(start_paused = true)]
async fn keys_of_requests_are_escaped_and_bounded_in_names() {
    let store = builder(fragile()).build();
    let layer = CircuitBreakerLayer::new(store.clone())
        .named("tenants")
        .classify(ErrorsAsFailures)
        .keyed_by_fn(|key: &String| Some(key.into()));
    let mut service = layer.layer(service_fn(|_: String| ready(Ok::<_, String>(()))));
    let long = "x".repeat(100_000);
    for key in ["evil\r\nlevel=error", "{a}b", &long, &format!("{long}y")] {
        call(&mut service, key.to_owned()).unwrap();
        call(&mut service, key.to_owned()).unwrap();
    }
    let names = names(&store);
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.contains(&"tenants:evil%0D%0Alevel=error".to_owned()), "{names:?}");
    for circuit in store.circuits() {
        assert_eq!(circuit.snapshot().tally.calls, 2);
        assert!(circuit.name().as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_frees_its_slot_and_a_panic_is_a_failure() {
    let store = builder(fragile()).build();
    let inner = Upstream::new(Does::Fail);
    let service = CircuitBreakerLayer::new(store.clone())
        .named("up")
        .classify(ErrorsAsFailures)
        .keyed_by_fn(|(): &()| Some("a".into()))
        .layer(inner.clone());
    service.clone().oneshot(()).await.unwrap_err();
    let circuit = store.circuit("up:a");
    wait_out(&circuit).await;
    inner.now(Does::Hang);
    for _ in 0..3 {
        let call = service.clone().oneshot(());
        assert!(tokio::time::timeout(ms(1), call).await.is_err());
        assert_eq!(circuit.snapshot().probes_out, 0);
    }
    for does in [Does::PanicInCall, Does::PanicInFuture] {
        assert_state(&circuit, State::HalfOpen);
        inner.now(does);
        let probe = tokio::spawn(service.clone().oneshot(()));
        assert!(probe.await.unwrap_err().is_panic());
        assert_state(&circuit, State::Open);
        wait_out(&circuit).await;
        // Half-open again, with a free slot.
        drop(hold(&circuit));
    }
}

#[test]
#[should_panic(expected = "at most 64 bytes, this one has 65")]
fn the_name_of_a_keyed_layer_leaves_room_for_keys() {
    let layer = CircuitBreakerLayer::new(Store::in_memory()).named("x".repeat(65));
    let _ = layer.keyed_by(Authority);
}

#[test]
fn a_policy_of_the_store_for_one_key_comes_first() {
    let store = Store::builder().policy("up:a", Policy::cache()).build();
    let mut service = layer(&store).layer(service_fn(upstream));
    call(&mut service, "a").unwrap();
    assert_eq!(store.circuit("up:a").policy(), Policy::cache());
    assert_eq!(store.circuit("up:a").state(), State::Closed);
}
