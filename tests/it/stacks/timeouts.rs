//! Where a timeout may be: inside the circuit breaker, outside of it, or nowhere.

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
use tower_breaker::event::{Event, Reason};
use tower_breaker::policy::{Cancelled, PolicyBuilder};
use tower_breaker::{CircuitBreakerLayer, Policy, State, Store};
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

fn breaker(store: &Store) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(store.clone()).named("test").reject_in_call()
}

fn answers_408_after(timeout: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, timeout)
}

/// Makes calls until the circuit opens; says how many there were.
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

/// Makes a call whose caller leaves at once.
async fn leave<S: Service<Request<()>> + Clone>(service: &S) {
    let call = service.clone().oneshot(Request::new(()));
    assert!(tokio::time::timeout(ms(10), call).await.is_err());
}

/// The reasons of all transitions of a circuit, as they come.
fn reasons(store: &Store) -> Arc<std::sync::Mutex<Vec<String>>> {
    let reasons = Arc::<std::sync::Mutex<Vec<_>>>::default();
    let heard = reasons.clone();
    store.circuit("test").on_change(move |event| {
        if let Event::Transition(transition) = event {
            heard.lock().unwrap().push(transition.reason.to_string());
        }
    });
    reasons
}

#[tokio::test(start_paused = true)]
async fn inside_the_breaker_tower_http_s_timeout_answers_408_and_each_hang_is_a_failure() {
    let store = store(Policy::builder());
    let heard = reasons(&store);
    let upstream = Upstream::hung();
    let service = ServiceBuilder::new()
        .layer(breaker(&store))
        .layer(answers_408_after(s(1)))
        .service(upstream.service());
    assert_eq!(hangs_until_open(&store, service).await, 5);
    assert_eq!(*heard.lock().unwrap(), [Reason::ConsecutiveFailures.as_str()]);
    assert_eq!(upstream.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn inside_the_breaker_tower_s_timeout_is_an_error_and_each_hang_is_a_failure() {
    let store = store(Policy::builder());
    let service = ServiceBuilder::new()
        .layer(breaker(&store))
        .timeout(s(1))
        .service(Upstream::hung().service());
    assert_eq!(hangs_until_open(&store, service).await, 5);
}

#[tokio::test(start_paused = true)]
async fn outside_the_breaker_a_call_cut_off_past_the_slow_limit_is_a_failure() {
    for (policy, failures) in [(Policy::http_api(), 10), (Policy::database(), 5)] {
        let store = store(policy.to_builder());
        let service = ServiceBuilder::new()
            .layer(answers_408_after(s(6)))
            .layer(breaker(&store).respond())
            .service(Upstream::hung().service());
        assert_eq!(hangs_until_open(&store, service).await, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn outside_the_breaker_tower_s_timeout_opens_it_after_twenty_hangs() {
    for policy in policies() {
        let store = store(policy);
        let heard = reasons(&store);
        let upstream = Upstream::hung();
        let service =
            ServiceBuilder::new().timeout(s(1)).layer(breaker(&store)).service(upstream.service());
        assert_eq!(hangs_until_open(&store, service).await, 20);
        assert_eq!(*heard.lock().unwrap(), ["no_completions"]);
        assert_eq!(upstream.calls(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn outside_the_breaker_tower_http_s_timeout_opens_it_after_twenty_hangs() {
    for policy in policies() {
        let store = store(policy);
        let heard = reasons(&store);
        let upstream = Upstream::hung();
        let service = ServiceBuilder::new()
            .layer(answers_408_after(s(1)))
            .layer(breaker(&store).respond())
            .service(upstream.service());
        assert_eq!(hangs_until_open(&store, service.clone()).await, 20);
        assert_eq!(*heard.lock().unwrap(), ["no_completions"]);
        let rejection = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(rejection.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(upstream.calls(), 20);
    }
}

/// An app as they mostly are: the timeout is around everything.
async fn serve(store: &Store, upstream: &Upstream, timeout: Duration) -> String {
    let upstream = upstream.clone();
    let app = Router::new()
        .route("/", get(move || upstream.clone().answer()))
        .layer(breaker(store).respond())
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
async fn an_axum_app_with_its_timeout_outermost_stops_calling_a_hung_upstream() {
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
async fn clients_that_leave_now_and_then_do_not_open_the_circuit_of_a_healthy_upstream() {
    for policy in policies() {
        let store = store(policy);
        let upstream = Upstream::default();
        let service = breaker(&store).layer(upstream.service());
        for n in 0..400 {
            // Up to nineteen in a row leave; the twentieth stays.
            upstream.hangs.store(n % 20 != 19, Relaxed);
            if n % 20 == 19 {
                service.clone().oneshot(Request::new(())).await.unwrap();
            } else {
                leave(&service).await;
            }
            assert_state(&store.circuit("test"), State::Closed);
        }
        assert_eq!(upstream.calls(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_between_cancelled_calls_do_not_break_their_run() {
    let store = store(Policy::builder().consecutive_failures(1_000));
    let heard = reasons(&store);
    let service = breaker(&store).layer(Upstream::hung().service());
    for n in 0..20 {
        assert_state(&store.circuit("test"), State::Closed);
        if n % 4 == 2 {
            fail(&store.circuit("test"));
        } else {
            leave(&service).await;
        }
    }
    assert_state(&store.circuit("test"), State::Open);
    assert_eq!(*heard.lock().unwrap(), ["no_completions"]);
}

#[tokio::test(start_paused = true)]
async fn as_many_cancelled_calls_as_minimum_calls_open_the_circuit() {
    let store = store(Policy::builder().minimum_calls(7));
    let service = breaker(&store).layer(Upstream::hung().service());
    for _ in 0..7 {
        assert_state(&store.circuit("test"), State::Closed);
        leave(&service).await;
    }
    assert_state(&store.circuit("test"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_ignores_cancelled_calls_is_not_opened_by_them() {
    for policy in policies() {
        let store = store(policy.cancelled(Cancelled::Ignored));
        let service = breaker(&store).layer(Upstream::hung().service());
        for _ in 0..100 {
            leave(&service).await;
        }
        assert_state(&store.circuit("test"), State::Closed);
        assert_eq!(store.circuit("test").snapshot().tally.calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_ten_uncounted_cancelled_calls_in_a_row_log_one_warning() {
    let log = Log::default();
    let _listening = log.listen();
    let store = store(Policy::builder().minimum_calls(1_000));
    let service = breaker(&store).layer(Upstream::hung().service());
    let warnings = || {
        let lines = log.lines();
        lines.iter().filter(|line| line.starts_with("WARN") && line.contains("timeout")).count()
    };
    for n in 0..9 {
        leave(&service).await;
        assert_eq!(warnings(), 0, "after {n}");
    }
    leave(&service).await;
    assert_eq!(warnings(), 1, "{:?}", log.lines());
    succeed(&store.circuit("test"));
    for _ in 0..30 {
        leave(&service).await;
    }
    assert_eq!(warnings(), 1, "once: {:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn with_a_slow_call_rate_a_black_hole_trips_with_no_timeout_at_all() {
    for (policy, limit) in [(Policy::http_api(), s(5)), (Policy::database(), s(2))] {
        let store = store(policy.to_builder());
        let heard = reasons(&store);
        let upstream = Upstream::hung();
        let service = breaker(&store).layer(upstream.service());
        let call = || tokio::spawn(service.clone().oneshot(Request::new(())));
        let hanging: Vec<_> = (0..30).map(|_| call()).collect();
        tokio::time::sleep(limit / 2).await;
        assert_state(&store.circuit("test"), State::Closed);
        // Nothing watches the calls: the next one sees how long they have been running.
        tokio::time::sleep(limit).await;
        let next = tokio::time::timeout(s(1), call()).await;
        assert!(next.expect("rejected at once").unwrap().unwrap_err().is_rejected());
        assert_eq!(*heard.lock().unwrap(), [Reason::SlowCallRate.as_str()]);
        assert_eq!(upstream.calls(), 30);
        assert!(hanging.iter().all(|call| !call.is_finished()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_completes_and_counts_nothing_ends_a_run_of_cancelled_ones() {
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
