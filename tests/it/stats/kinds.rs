//! What kind of failure a call ended with.

use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_breaker::classify::FailureKind;
use tower_breaker::policy::Cancelled;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, Classify, ErrorsAsFailures, HttpStatus, Outcome, Policy, Store,
};

use crate::support::*;

/// The kinds that the circuit has counted.
fn kinds(circuit: &Circuit) -> Vec<(FailureKind, u64)> {
    circuit.snapshot().totals.failed.iter().filter(|(_, n)| *n > 0).collect()
}

/// The kind that a service counts for this result.
async fn kind<T: Clone + Send + 'static, E: Send + 'static>(
    classifier: impl Classify<T, E> + Clone,
    result: impl Fn() -> Result<T, E>,
) -> FailureKind {
    let store = Store::in_memory();
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(classifier);
    let service = layer.layer(service_fn(|(): ()| ready(result())));
    let _ = service.oneshot(()).await;
    match kinds(&store.circuit("test"))[..] {
        [(kind, 1)] => kind,
        ref other => panic!("one failure: {other:?}"),
    }
}

fn response(status: u16, grpc: Option<&'static str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(code) = grpc {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    }
    response
}

#[tokio::test]
async fn http_responses_fail_by_class_of_status_or_by_grpc_code() {
    let table = [
        (500, None, FailureKind::Status5xx),
        (503, None, FailureKind::Status5xx),
        (429, None, FailureKind::Status4xx),
        (408, None, FailureKind::Status4xx),
        (200, Some("2"), FailureKind::GrpcUnknown),
        (200, Some("4"), FailureKind::GrpcDeadlineExceeded),
        (200, Some("8"), FailureKind::GrpcResourceExhausted),
        (200, Some("13"), FailureKind::GrpcInternal),
        (200, Some("14"), FailureKind::GrpcUnavailable),
        (200, Some("15"), FailureKind::GrpcDataLoss),
        (200, Some("99"), FailureKind::GrpcUnknown),
        (200, Some("none"), FailureKind::GrpcUnknown),
    ];
    for (status, grpc, expected) in table {
        let result = || Ok::<_, io::Error>(response(status, grpc));
        assert_eq!(kind(HttpStatus, result).await, expected, "{status} {grpc:?}");
    }
    let by_status = HttpStatus::of(Response::<()>::status);
    let failing = || Ok::<_, io::Error>(response(502, None));
    assert_eq!(kind(by_status, failing).await, FailureKind::Status5xx);
    let with_headers = by_status.with_headers(Response::<()>::headers);
    let unavailable = || Ok::<_, io::Error>(response(200, Some("14")));
    assert_eq!(kind(with_headers, unavailable).await, FailureKind::GrpcUnavailable);
}

#[derive(Debug, thiserror::Error)]
#[error("the outer error")]
struct Outer(#[source] io::Error);

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[tokio::test]
async fn an_error_of_a_timeout_is_a_timeout() {
    let failed = || Err::<(), _>(io::Error::other("broken"));
    assert_eq!(kind(ErrorsAsFailures, failed).await, FailureKind::Error);
    assert_eq!(kind(ErrorsAsFailures, || Err::<(), _>(timed_out())).await, FailureKind::Timeout);
    let boxed = || Err::<(), BoxError>(Outer(timed_out()).into());
    assert_eq!(kind(ErrorsAsFailures, boxed).await, FailureKind::Timeout);
    let other = || Err::<(), BoxError>("broken".into());
    assert_eq!(kind(ErrorsAsFailures, other).await, FailureKind::Error);
    let elapsed = tokio::time::timeout(Duration::ZERO, pending::<()>()).await.unwrap_err();
    let elapsed = std::sync::Mutex::new(Some(elapsed));
    let elapsed = || Err::<Response<()>, BoxError>(elapsed.lock().unwrap().take().unwrap().into());
    assert_eq!(kind(HttpStatus, elapsed).await, FailureKind::Timeout);
}

#[cfg(feature = "tower-http")]
#[tokio::test]
async fn classifiers_of_tower_http_say_the_class_of_status() {
    use tower_breaker::classify::TowerHttp;
    use tower_http::classify::StatusInRangeAsFailures;

    let classifier = TowerHttp(StatusInRangeAsFailures::new(400..=599));
    let not_found = || Ok::<_, io::Error>(response(404, None));
    assert_eq!(kind(classifier.clone(), not_found).await, FailureKind::Status4xx);
    let timed_out = || Err::<Response<()>, _>(timed_out());
    assert_eq!(kind(classifier, timed_out).await, FailureKind::Timeout);
}

/// Says more than the crate knows.
#[derive(Clone)]
struct Quota;

impl Classify<u32, String> for Quota {
    fn classify(&self, _: Result<&u32, &String>) -> Outcome {
        Outcome::failure()
    }

    fn failure_kind(&self, result: Result<&u32, &String>) -> FailureKind {
        if result.is_ok() { FailureKind::GrpcResourceExhausted } else { FailureKind::Timeout }
    }
}

#[tokio::test]
async fn a_classifier_may_say_the_kind_and_otherwise_an_error_is_one() {
    assert_eq!(kind(Quota, || Ok(1)).await, FailureKind::GrpcResourceExhausted);
    assert_eq!(kind(Quota, || Err("slow".to_owned())).await, FailureKind::Timeout);

    let circuit = Store::in_memory().circuit("test");
    let failed = |_: &Result<u32, String>| Outcome::failure();
    let _ = circuit.execute_with(failed, || ready(Ok::<_, String>(1))).await;
    let _ = circuit.execute_with(failed, || ready(Err::<u32, _>(String::new()))).await;
    assert_eq!(kinds(&circuit), [(FailureKind::Other, 1), (FailureKind::Error, 1)]);
}

#[tokio::test(start_paused = true)]
async fn panics_and_cancelled_calls_are_failures_of_their_own_kind() {
    let policy = Policy::builder().consecutive_failures(9).cancelled(Cancelled::Failure);
    let circuit = circuit(policy);
    let call = async { circuit.execute(|| async { panic_in_call() }).await };
    let mut call = Box::pin(call);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let poll = || call.as_mut().poll(&mut cx).is_ready();
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    drop(hold(&circuit));
    let permit = hold(&circuit);
    let unwinding = || {
        let _permit = permit;
        panic!("as asked");
    };
    assert!(catch_unwind(AssertUnwindSafe(unwinding)).is_err());
    assert_eq!(kinds(&circuit), [(FailureKind::Panic, 2), (FailureKind::Cancelled, 1)]);
    assert_eq!(circuit.snapshot().totals.cancelled, 0, "it is among the failures");
}

fn panic_in_call() -> Result<(), ()> {
    panic!("as asked")
}

#[tokio::test(start_paused = true)]
async fn a_body_fails_by_its_trailers_or_by_an_error() {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;

    let table = [
        ("application/grpc", Some(Ok("14")), FailureKind::GrpcUnavailable),
        ("application/grpc", None, FailureKind::GrpcUnknown),
        ("text/plain", Some(Err(timed_out())), FailureKind::Error),
    ];
    for (content, last, expected) in table {
        let store = Store::in_memory();
        let frames = last.into_iter().map(|last| {
            last.map(|code| {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(code));
                Frame::<bytes::Bytes>::trailers(trailers)
            })
        });
        let body = StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>()));
        let response = Response::builder().header("content-type", content).body(body).unwrap();
        let response = std::sync::Mutex::new(Some(response));
        let upstream = service_fn(|_: Request<()>| {
            ready(Ok::<_, io::Error>(response.lock().unwrap().take().unwrap()))
        });
        let layer = CircuitBreakerLayer::new(store.clone()).named("test").observe_body();
        let response = layer.layer(upstream).oneshot(Request::new(())).await.unwrap();
        let _ = response.into_body().collect().await;
        assert_eq!(kinds(&store.circuit("test")), [(expected, 1)], "{content}");
    }
}
