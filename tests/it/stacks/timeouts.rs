//! Where a timeout may be: inside the circuit breaker, outside it, or nowhere.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::{Router, routing::get};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_breaker::event::Reason;
use tower_breaker::policy::{Cancelled, PolicyBuilder};
use tower_breaker::service::on_rejected::{InCall, Reject};
use tower_breaker::{CircuitBreakerLayer, HttpStatus, Policy, State, Store};
use tower_http::timeout::TimeoutLayer;

use crate::support::log::Log;
use crate::support::*;

/// The default policy, and two presets whose slow calls take longer than the timeouts here.
fn policies() -> [PolicyBuilder; 3] {
    [Policy::builder(), Policy::http_api().to_builder(), Policy::database().to_builder()]
}

/// Answers at once, or never.
#[derive(Clone, Default)]
struct Upstream {
    hangs: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Upstream {
    fn hung() -> Self {
        let upstream = Self::default();
        upstream.hangs.store(true, Relaxed);
        upstream
    }

    async fn answer(self) -> Response<String> {
        self.calls.fetch_add(1, Relaxed);
        if self.hangs.load(Relaxed) {
            pending::<()>().await;
        }
        Response::default()
    }

    fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    fn service(
        &self,
    ) -> impl Service<Request<()>, Response = Response<String>, Error = Infallible, Future: Send>
    + Clone
    + use<> {
        let upstream = self.clone();
        service_fn(move |_| {
            let answer = upstream.clone().answer();
            async { Ok(answer.await) }
        })
    }
}

fn breaker(store: &Store) -> CircuitBreakerLayer<HttpStatus, Reject<InCall>> {
    layer(store).reject_in_call()
}

fn layer(store: &Store) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(store.clone()).named("test")
}

fn answers_408_after(timeout: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, timeout)
}

/// Makes calls until the circuit opens. Returns how many it made.
async fn hangs_until_open<S>(store: &Store, service: S) -> usize
where
    S: Service<Request<()>> + Clone,
{
    for n in 0..100 {
        if store.circuit("test").state() == State::Open {
            return n;
        }
        let _ = service.clone().oneshot(Request::new(())).await;
    }
    panic!("still closed: {:?}", store.circuit("test").snapshot());
}

/// Makes a call and cancels it.
async fn cancel_call<S: Service<Request<()>> + Clone>(service: &S) {
    let call = service.clone().oneshot(Request::new(()));
    assert!(tokio::time::timeout(ms(10), call).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_408_of_a_timeout_inside_is_a_failure() {
    let store = store(Policy::builder());
    let reasons = reasons(&store.circuit("test"));
    let upstream = Upstream::hung();
    let service = ServiceBuilder::new()
        .layer(breaker(&store))
        .layer(answers_408_after(s(1)))
        .service(upstream.service());
    assert_eq!(hangs_until_open(&store, service).await, 5);
    assert_eq!(reasons.try_iter().collect::<Vec<_>>(), [Reason::ConsecutiveFailures]);
    assert_eq!(upstream.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_timeout_inside_is_a_failure() {
    let store = store(Policy::builder());
    let service = ServiceBuilder::new()
        .layer(breaker(&store))
        .timeout(s(1))
        .service(Upstream::hung().service());
    assert_eq!(hangs_until_open(&store, service).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_from_outside_after_the_slow_limit_is_a_failure() {
    for (policy, failures) in [(Policy::http_api(), 10), (Policy::database(), 5)] {
        let store = store(policy.to_builder());
        let service = ServiceBuilder::new()
            .layer(answers_408_after(s(6)))
            .layer(layer(&store).respond())
            .service(Upstream::hung().service());
        assert_eq!(hangs_until_open(&store, service).await, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tower_timeout_outside_opens_after_twenty_hung_calls() {
    for policy in policies() {
        let store = store(policy);
        let reasons = reasons(&store.circuit("test"));
        let upstream = Upstream::hung();
        let service =
            ServiceBuilder::new().timeout(s(1)).layer(breaker(&store)).service(upstream.service());
        assert_eq!(hangs_until_open(&store, service).await, 20);
        assert_eq!(reasons.try_iter().collect::<Vec<_>>(), [Reason::NoCompletions]);
        assert_eq!(upstream.calls(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tower_http_timeout_outside_opens_after_twenty_hung_calls() {
    for policy in policies() {
        let store = store(policy);
        let reasons = reasons(&store.circuit("test"));
        let upstream = Upstream::hung();
        let service = ServiceBuilder::new()
            .layer(answers_408_after(s(1)))
            .layer(layer(&store).respond())
            .service(upstream.service());
        assert_eq!(hangs_until_open(&store, service.clone()).await, 20);
        assert_eq!(reasons.try_iter().collect::<Vec<_>>(), [Reason::NoCompletions]);
        let rejection = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(rejection.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(upstream.calls(), 20);
    }
}

/// An app with a timeout around everything, as most apps have it.
async fn serve(store: &Store, upstream: &Upstream, timeout: Duration) -> String {
    let upstream = upstream.clone();
    let app = Router::new()
        .route("/", get(move || upstream.clone().answer()))
        .layer(layer(store).respond())
        .layer(answers_408_after(timeout));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn status(url: &str) -> StatusCode {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    client.get(url.parse().unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn an_axum_app_with_an_outermost_timeout_opens_for_a_hung_upstream() {
    for policy in policies() {
        let (store, upstream) = (store(policy), Upstream::hung());
        let url = serve(&store, &upstream, ms(10)).await;
        for _ in 0..20 {
            assert_eq!(status(&url).await, StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(status(&url).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(upstream.calls(), 20);
    }
}

#[tokio::test]
async fn an_axum_app_whose_upstream_answers_between_timeouts_stays_closed() {
    let (store, upstream) = (store(Policy::builder()), Upstream::default());
    let url = serve(&store, &upstream, ms(100)).await;
    for n in 0..30 {
        let hangs = n % 10 == 9;
        upstream.hangs.store(hangs, Relaxed);
        let expected = if hangs { StatusCode::REQUEST_TIMEOUT } else { StatusCode::OK };
        assert_eq!(status(&url).await, expected);
    }
    assert_state(&store.circuit("test"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_among_completed_ones_do_not_open() {
    for policy in policies() {
        let store = store(policy);
        let upstream = Upstream::default();
        let service = breaker(&store).layer(upstream.service());
        for n in 0..400 {
            // Nineteen calls in a row are cancelled; the twentieth is not.
            upstream.hangs.store(n % 20 != 19, Relaxed);
            if n % 20 == 19 {
                service.clone().oneshot(Request::new(())).await.unwrap();
            } else {
                cancel_call(&service).await;
            }
            assert_state(&store.circuit("test"), State::Closed);
        }
        assert_eq!(upstream.calls(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_between_cancelled_calls_do_not_end_their_run() {
    let store = store(Policy::builder().consecutive_failures(1_000));
    let reasons = reasons(&store.circuit("test"));
    let service = breaker(&store).layer(Upstream::hung().service());
    for n in 0..20 {
        assert_state(&store.circuit("test"), State::Closed);
        if n % 4 == 2 {
            fail(&store.circuit("test"));
        } else {
            cancel_call(&service).await;
        }
    }
    assert_state(&store.circuit("test"), State::Open);
    assert_eq!(reasons.try_iter().collect::<Vec<_>>(), [Reason::NoCompletions]);
}

#[tokio::test(start_paused = true)]
async fn as_many_cancelled_calls_as_minimum_calls_open_the_circuit() {
    let store = store(Policy::builder().minimum_calls(7));
    let service = breaker(&store).layer(Upstream::hung().service());
    for _ in 0..7 {
        assert_state(&store.circuit("test"), State::Closed);
        cancel_call(&service).await;
    }
    assert_state(&store.circuit("test"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn ignored_cancelled_calls_do_not_open() {
    for policy in policies() {
        let store = store(policy.cancelled(Cancelled::Ignored));
        let service = breaker(&store).layer(Upstream::hung().service());
        for _ in 0..100 {
            cancel_call(&service).await;
        }
        assert_state(&store.circuit("test"), State::Closed);
        assert_eq!(store.circuit("test").snapshot().tally.calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_uncounted_cancelled_calls_in_a_row_log_one_warning() {
    let log = Log::default();
    let _listening = log.listen();
    let store = store(Policy::builder().minimum_calls(1_000));
    let service = breaker(&store).layer(Upstream::hung().service());
    let warnings = || {
        let lines = log.lines();
        lines.iter().filter(|line| line.starts_with("WARN") && line.contains("timeout")).count()
    };
    for n in 0..9 {
        cancel_call(&service).await;
        assert_eq!(warnings(), 0, "after {n}");
    }
    cancel_call(&service).await;
    assert_eq!(warnings(), 1, "{:?}", log.lines());
    succeed(&store.circuit("test"));
    for _ in 0..30 {
        cancel_call(&service).await;
    }
    assert_eq!(warnings(), 1, "logged once: {:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_rate_opens_for_hung_calls_without_any_timeout() {
    for (policy, limit) in [(Policy::http_api(), s(5)), (Policy::database(), s(2))] {
        let store = store(policy.to_builder());
        let reasons = reasons(&store.circuit("test"));
        let upstream = Upstream::hung();
        let service = breaker(&store).layer(upstream.service());
        let call = || tokio::spawn(service.clone().oneshot(Request::new(())));
        let hanging: Vec<_> = (0..30).map(|_| call()).collect();
        tokio::time::sleep(limit / 2).await;
        assert_state(&store.circuit("test"), State::Closed);
        // No task watches the calls: the next call sees how long they have been in flight.
        tokio::time::sleep(limit).await;
        let next = tokio::time::timeout(s(1), call()).await;
        assert!(next.expect("rejected at once").unwrap().unwrap_err().is_rejected());
        assert_eq!(reasons.try_iter().collect::<Vec<_>>(), [Reason::SlowCallRate]);
        assert_eq!(upstream.calls(), 30);
        assert!(hanging.iter().all(|call| !call.is_finished()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_call_that_completes_ends_a_run_of_cancelled_calls() {
    for policy in [Policy::builder(), Policy::builder().no_window()] {
        let circuit = circuit(policy.minimum_calls(20));
        for _ in 0..100 {
            for _ in 0..10 {
                drop(hold(&circuit));
            }
            ignore(&circuit);
        }
        assert_state(&circuit, State::Closed);
        for _ in 0..20 {
            assert_state(&circuit, State::Closed);
            drop(hold(&circuit));
        }
        assert_state(&circuit, State::Open);
    }
}
