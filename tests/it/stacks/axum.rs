//! A real axum server, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::error_handling::HandleErrorLayer;
use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_breaker::{CircuitBreakerLayer, Rejected, State, Store};

use crate::support::*;

#[derive(Clone, Default)]
struct Upstream {
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Upstream {
    fn handler(&self) -> axum::routing::MethodRouter {
        let upstream = self.clone();
        get(move || {
            let upstream = upstream.clone();
            async move {
                upstream.calls.fetch_add(1, Ordering::SeqCst);
                if upstream.broken.load(Ordering::SeqCst) {
                    StatusCode::BAD_GATEWAY
                } else {
                    StatusCode::OK
                }
            }
        })
    }
}

/// Serves on a free port. Returns the URL.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// A client with a connection of its own.
fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn fetch(client: &Client<HttpConnector, Empty<Bytes>>, url: String) -> (StatusCode, String) {
    let response = client.get(url.parse().unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn connections_and_routes_share_one_circuit() {
    let store = store(fragile().consecutive_failures(30).without_failure_rate());
    let upstream = Upstream::default();
    upstream.broken.store(true, Ordering::SeqCst);
    let app = Router::new()
        .route("/a", upstream.handler())
        .route("/b", upstream.handler())
        .route("/c", upstream.handler())
        .layer(CircuitBreakerLayer::new(store.clone()).named("shared").respond());
    let url = serve(app).await;

    for _ in 0..10 {
        let client = client();
        for route in ["a", "b", "c"] {
            assert_state(&store.circuit("shared"), State::Closed);
            assert_eq!(fetch(&client, format!("{url}/{route}")).await.0, StatusCode::BAD_GATEWAY);
        }
    }
    assert_state(&store.circuit("shared"), State::Open);
    for route in ["a", "b", "c"] {
        let status = fetch(&client(), format!("{url}/{route}")).await.0;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(upstream.calls.load(Ordering::SeqCst), 30);
    assert_eq!(store.circuits().len(), 1, "layers and clones make no circuits");
}

#[tokio::test]
async fn the_default_mode_works_with_handle_error_layer() {
    let store = store(fragile());
    let upstream = Upstream::default();
    let handle = |error: BoxError| async move {
        let rejection = Rejected::find_in(&*error).expect("the only possible error");
        (StatusCode::IM_A_TEAPOT, rejection.name().to_string())
    };
    let app = Router::new().route("/", upstream.handler()).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(handle))
            .map_err(BoxError::from)
            .layer(CircuitBreakerLayer::new(store.clone()).named("handled")),
    );
    let url = serve(app).await;
    let client = client();
    assert_eq!(fetch(&client, url.clone()).await.0, StatusCode::OK);
    upstream.broken.store(true, Ordering::SeqCst);
    assert_eq!(fetch(&client, url.clone()).await.0, StatusCode::BAD_GATEWAY);
    let rejection = fetch(&client, url.clone()).await;
    assert_eq!(rejection, (StatusCode::IM_A_TEAPOT, "handled".to_owned()));
    upstream.broken.store(false, Ordering::SeqCst);
    store.circuit("handled").reset();
    assert_eq!(fetch(&client, url).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_probe_frees_its_slot() {
    let store = store(fragile().open_for(ms(1)).probe_lease(s(600)));
    let circuit = store.circuit("test");
    let called = Arc::new(AtomicUsize::new(0));
    let calls = called.clone();
    let hang = get(move || {
        calls.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>()
    });
    let layer = CircuitBreakerLayer::new(store).named("test").respond();
    let url = serve(Router::new().route("/", hang).layer(layer)).await;
    trip(&circuit);
    wait_for("the open interval", || circuit.is_available()).await;
    let call = tokio::spawn(async move { fetch(&client(), url).await });
    wait_for("the probe", || called.load(Ordering::SeqCst) == 1).await;
    assert_eq!(circuit.snapshot().probes_out, 1);
    call.abort();
    wait_for("a free slot", || circuit.snapshot().probes_out == 0).await;
    assert_state(&circuit, State::HalfOpen);
}

async fn answer(store: &Store, request: Request<()>) -> Response<Body> {
    let inner = tower::service_fn(|_: Request<()>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").respond();
    ServiceBuilder::new().layer(layer).service(inner).oneshot(request).await.unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_503_with_whole_seconds_rounded_up() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    trip(&circuit);
    for (after, seconds) in [(ms(0), "10"), (ms(1_100), "9"), (ms(8_800), "1")] {
        advance(after).await;
        let response = answer(&store, Request::new(())).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(header(&response, "retry-after"), Some(seconds));
        assert!(response.extensions().get::<Rejected>().is_some());
    }
    advance(ms(100)).await;
    let _probe = hold(&circuit);
    let half_open = answer(&store, Request::new(())).await;
    assert_eq!(header(&half_open, "retry-after"), Some("1"));
    circuit.force_open("test");
    let forced = answer(&store, Request::new(())).await;
    assert_eq!(forced.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&forced, "retry-after"), None);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_request_is_answered_in_grpc() {
    let store = store(fragile());
    trip(&store.circuit("test"));
    advance(ms(1)).await;
    let request =
        || Request::builder().header("content-type", "application/grpc+proto").body(()).unwrap();
    let response = answer(&store, request()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("application/grpc"));
    assert_eq!(header(&response, "grpc-status"), Some("14"));
    assert_eq!(header(&response, "grpc-retry-pushback-ms"), Some("9999"));
    store.circuit("test").force_open("test");
    assert_eq!(header(&answer(&store, request()).await, "grpc-retry-pushback-ms"), None);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_inner_layer_is_no_evidence_in_an_outer_one() {
    let store = store(fragile());
    let inner = tower::service_fn(|_: Request<()>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let layer = |name| CircuitBreakerLayer::new(store.clone()).named(name).respond();
    let service = ServiceBuilder::new().layer(layer("outer")).layer(layer("inner")).service(inner);
    store.circuit("inner").force_open("test");
    for _ in 0..10 {
        let response = service.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(store.circuit("outer").snapshot().tally.calls, 0);
    assert_state(&store.circuit("outer"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn respond_with_makes_the_body_of_a_rejection() {
    let store = store(fragile());
    store.circuit("test").force_open("test");
    let inner = tower::service_fn(|_: Request<()>| async {
        Ok::<_, std::convert::Infallible>(Response::new("fine".to_owned()))
    });
    let layer = CircuitBreakerLayer::new(store)
        .named("test")
        .respond_with(|rejection, response| response.map(|()| rejection.to_string()));
    let service = ServiceBuilder::new().layer(layer).service(inner);
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.body(), "circuit \"test\" is forced open");
}
