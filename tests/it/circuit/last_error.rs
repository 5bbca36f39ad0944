//! What the last failure was, as text, in the transition that it caused.

use std::cell::Cell;
use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::classify::with_causes;
use tower_breaker::event::{Event, Reason, StoreEvent, Transition};
use tower_breaker::policy::Cancelled;
use tower_breaker::{
    Circuit, CircuitBreakerLayer, Classify, ErrorsAsFailures, Outcome, Policy, State,
};

use crate::support::log::Log;
use crate::support::replica::Replica;
use crate::support::*;

fn failed_as(circuit: &Circuit, text: &str) {
    hold(circuit).settle_described(Outcome::failure(), || text.to_owned());
}

/// The last transition, and its text.
fn last(circuit: &Circuit) -> (Transition, Option<Arc<str>>) {
    let entry = circuit.local_history().pop().unwrap();
    (entry.transition.clone(), entry.transition.last_error)
}

/// The text of the failure that opens a fragile circuit.
async fn text<T: 'static, E: Send + 'static>(
    classifier: impl Classify<T, E> + Clone,
    result: impl Fn() -> Result<T, E>,
) -> Option<String> {
    let store = store(fragile());
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(classifier);
    let service = layer.layer(service_fn(|(): ()| ready(result())));
    let _ = service.oneshot(()).await;
    let (transition, text) = last(&store.circuit("test"));
    assert_eq!(transition.to, State::Open);
    text.map(|text| text.to_string())
}

fn response(status: u16, grpc: Option<&'static str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(code) = grpc {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    }
    response
}

#[tokio::test(start_paused = true)]
async fn a_response_is_described_by_its_status_or_grpc_code() {
    let table = [
        (503, None, "503 Service Unavailable"),
        (429, None, "429 Too Many Requests"),
        (599, None, "599"),
        (200, Some("14"), "gRPC Unavailable"),
        (200, Some("4"), "gRPC DeadlineExceeded"),
        (200, Some("99"), "gRPC Unknown"),
    ];
    for (status, grpc, expected) in table {
        let result = || Ok::<_, io::Error>(response(status, grpc));
        assert_eq!(text(tower_breaker::HttpStatus, result).await.as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_described_by_its_kind_and_its_text_is_kept_secret() {
    const SECRET: &str = "redis://user:hunter2@host";
    let io = |kind| move || Err::<(), _>(io::Error::new(kind, SECRET));
    let boxed = |kind| move || Err::<(), BoxError>(Box::new(io::Error::new(kind, SECRET)));
    let refused = io::ErrorKind::ConnectionRefused;
    let table = [
        (text(ErrorsAsFailures, io(refused)).await, "connection refused"),
        (text(ErrorsAsFailures, boxed(refused)).await, "connection refused"),
        (text(ErrorsAsFailures, io(io::ErrorKind::TimedOut)).await, "timeout"),
        (text(ErrorsAsFailures, io(io::ErrorKind::Other)).await, "error"),
        (text(ErrorsAsFailures, || Err::<(), _>(SECRET)).await, "error"),
        (text(ErrorsAsFailures, || Err::<(), BoxError>(SECRET.into())).await, "error"),
    ];
    for (text, expected) in table {
        assert_eq!(text.as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn the_text_of_errors_is_shown_only_where_the_layer_says_so() {
    let store = store(fragile());
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").classify(ErrorsAsFailures);
    let layer = layer.describe_errors(|error: &BoxError| with_causes(&**error));
    let failing = service_fn(|(): ()| {
        let long = "é".repeat(200);
        ready(Err::<(), BoxError>(format!("no route: {long}").into()))
    });
    layer.layer(failing).oneshot(()).await.unwrap_err();
    let (_, text) = last(&store.circuit("test"));
    let text = text.unwrap();
    assert!(text.starts_with("no route: é") && text.ends_with('é'));
    assert_eq!(text.len(), Transition::MAX_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_cancelled_call_are_described_too() {
    let panicking = circuit(fragile());
    let called = panicking.clone();
    let call = async move { called.execute(|| async { panic!("as an upstream does") }).await };
    tokio::spawn(async {
        let _: Result<(), tower_breaker::Error<()>> = call.await;
    })
    .await
    .unwrap_err();
    assert_eq!(last(&panicking).1.as_deref(), Some("panic"));

    let dropped = circuit(fragile().cancelled(Cancelled::Failure));
    drop(hold(&dropped));
    assert_eq!(last(&dropped).1.as_deref(), Some("cancelled"));

    let hanging = circuit(fragile().minimum_calls(5).failure_rate(1.0));
    for _ in 0..5 {
        let call = hanging.execute(pending::<Result<(), ()>>);
        tokio::time::timeout(ms(1), call).await.unwrap_err();
    }
    let (transition, text) = last(&hanging);
    assert_eq!((transition.reason, text.as_deref()), (Reason::NoCompletions, Some("cancelled")));
}

#[tokio::test(start_paused = true)]
async fn execute_describes_errors_by_kind_and_with_a_classifier_as_it_says() {
    let plain = circuit(fragile());
    plain.execute(|| ready(Err::<(), _>("secret"))).await.unwrap_err();
    assert_eq!(last(&plain).1.as_deref(), Some("error"));

    let classified = circuit(fragile());
    let refused = || ready(Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset)));
    classified.execute_classified(&ErrorsAsFailures, refused).await.unwrap_err();
    assert_eq!(last(&classified).1.as_deref(), Some("connection reset"));
}

#[tokio::test(start_paused = true)]
async fn the_failure_that_opens_the_circuit_is_the_one_in_the_transition() {
    let policies = [
        fragile().consecutive_failures(4),
        fragile().without_consecutive_failures().failure_count(4),
        fragile().without_consecutive_failures().failure_rate(0.5).minimum_calls(4),
    ];
    for policy in policies {
        let circuit = circuit(policy);
        for text in ["first", "second", "third", "fourth"] {
            assert_state(&circuit, State::Closed);
            failed_as(&circuit, text);
        }
        assert_state(&circuit, State::Open);
        assert_eq!(last(&circuit).1.as_deref(), Some("fourth"), "{:?}", circuit.policy());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_cannot_open_the_circuit_are_described_once_a_second() {
    let circuit = circuit(Policy::only().consecutive_failures(1_000_000));
    let described = Rc::new(Cell::new(0));
    for _ in 0..10 {
        for _ in 0..1_000 {
            let described = described.clone();
            hold(&circuit).settle_described(Outcome::failure(), move || {
                described.set(described.get() + 1);
                "an error".to_owned()
            });
        }
        advance(s(1)).await;
    }
    assert!((10..=11).contains(&described.get()), "{}", described.get());
}

#[tokio::test(start_paused = true)]
async fn an_old_text_does_not_stand_for_another_failure() {
    let circuit = circuit(fragile().consecutive_failures(3));
    failed_as(&circuit, "an old one");
    advance(s(5)).await;
    times(2, fail, &circuit);
    assert_eq!(last(&circuit).1, None, "nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_last_failure_and_later_what_opened_the_circuit() {
    let circuit = circuit(fragile().consecutive_failures(2));
    let shown = || circuit.snapshot().last_error;
    assert_eq!(shown(), None);
    failed_as(&circuit, "one");
    assert_eq!(shown().as_deref(), Some("one"));
    failed_as(&circuit, "two");
    assert_eq!(shown().as_deref(), Some("two"), "open");
    wait_out(&circuit).await;
    let probe = hold(&circuit);
    assert_eq!(shown().as_deref(), Some("two"), "half-open");
    probe.settle_described(Outcome::failure(), || "a probe's".to_owned());
    let (transition, text) = last(&circuit);
    assert_eq!((transition.reason, text.as_deref()), (Reason::ProbeFailed, Some("a probe's")));
    assert_eq!(shown().as_deref(), Some("a probe's"));
    wait_out(&circuit).await;
    succeed(&circuit);
    assert_eq!(shown(), None, "closed: no failure since");
    circuit.force_open("maintenance");
    assert_eq!((shown(), last(&circuit).1), (None, None), "no failure has caused that");
}

#[tokio::test(start_paused = true)]
async fn a_description_that_panics_or_uses_the_circuit_breaks_no_call() {
    let circuit = circuit(fragile().consecutive_failures(2));
    let used = circuit.clone();
    hold(&circuit).settle_described(Outcome::failure(), || used.snapshot().state.to_string());
    assert_eq!(circuit.snapshot().last_error.as_deref(), Some("closed"));
    let settled = catch_unwind(AssertUnwindSafe(|| {
        hold(&circuit).settle_described(Outcome::failure(), || panic!("in the text"));
    }));
    assert!(settled.is_ok());
    assert_state(&circuit, State::Open);
    assert_eq!(last(&circuit).1, None, "nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn all_replicas_show_the_failure_of_the_one_that_opened_the_circuit() {
    let backend = MemoryBackend::new();
    let policy = fragile().consecutive_failures(2);
    let [one, other] = [0, 1].map(|_| Replica::join(&backend, policy.clone()));
    advance(ms(1)).await;
    tokio::time::sleep(ms(1)).await;
    let mut stream = other.store.events();
    failed_as(&one.circuit, "ignored");
    failed_as(&one.circuit, "503 Service Unavailable");
    tokio::time::sleep(ms(2)).await;
    let expected = Some("503 Service Unavailable");
    let seen = loop {
        if let StoreEvent::Circuit { event: Event::Transition(seen), .. } =
            stream.recv().await.unwrap()
        {
            break seen;
        }
    };
    assert_eq!((seen.to, seen.last_error.as_deref()), (State::Open, expected));
    for replica in [&one, &other] {
        assert_eq!(replica.circuit.snapshot().last_error.as_deref(), expected);
        let entries = replica.circuit.history().await.entries;
        assert_eq!(entries[0].transition.last_error.as_deref(), expected);
    }

    tokio::time::sleep(s(10)).await;
    let probe = other.circuit.acquire().await.unwrap();
    probe.settle_described(Outcome::failure(), || "still 503".to_owned());
    tokio::time::sleep(ms(2)).await;
    let (transition, text) = last(&one.circuit);
    assert_eq!((transition.reason, text.as_deref()), (Reason::ProbeFailed, Some("still 503")));
}

#[tokio::test(start_paused = true)]
async fn totals_of_all_replicas_open_with_the_failure_of_the_one_that_judges() {
    let backend = MemoryBackend::new();
    let policy = fragile().consecutive_failures(6);
    let replicas = [0; 6].map(|_| Replica::join(&backend, policy.clone()));
    tokio::time::sleep(s(3)).await;
    for replica in &replicas {
        failed_as(&replica.circuit, "503 Service Unavailable");
    }
    tokio::time::sleep(s(2)).await;
    for replica in &replicas {
        let last = replica.circuit.snapshot().last_error;
        assert_eq!(last.as_deref(), Some("503 Service Unavailable"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_names_the_failure_on_one_line() {
    let log = Log::default();
    let _listening = log.listen();
    let circuit = circuit(fragile());
    failed_as(&circuit, "bad\n\u{1b}[31m\"gateway");
    let lines = log.lines();
    let line = lines.iter().find(|line| line.contains("opened")).unwrap();
    let text = r#"opened: 1 failure; last failure: bad\n\u{1b}[31m\"gateway; probes in 10.0 s"#;
    assert!(line.contains(text), "{line}");
    assert!(!line.contains(['\n', '\u{1b}']), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_described_by_its_kind() {
    let store = store(fragile());
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").observe_body();
    let mut service = layer
        .layer(service_fn(|_: Request<()>| ready(Ok::<_, io::Error>(Response::new(FailingBody)))));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    let mut body = std::pin::pin!(response.into_body());
    std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await;
    assert_eq!(last(&store.circuit("test")).1.as_deref(), Some("error"));
}

struct FailingBody;

impl http_body::Body for FailingBody {
    type Data = &'static [u8];
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::other("secret"))))
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_can_open_nothing_are_described_once_a_second() {
    let overrides: [fn(&Circuit); 3] = [
        |it| drop(it.metrics_only("a test")),
        |it| drop(it.force_closed("a test")),
        |it| drop(it.disable("a test")),
    ];
    for set in overrides {
        let circuit = circuit(fragile());
        set(&circuit);
        let described = Cell::new(0);
        for _ in 0..100 {
            hold(&circuit).settle_described(Outcome::failure(), || {
                described.set(described.get() + 1);
                String::new()
            });
        }
        assert!(described.get() <= 2, "{}: {}", circuit.state(), described.get());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_opens_by_a_new_policy_is_described() {
    let store = store(Policy::only().failure_count(1_000));
    let circuit = store.circuit("test");
    failed_as(&circuit, "the first");
    advance(s(10)).await;
    store.set_policy("test", fragile().build().unwrap());
    failed_as(&circuit, "the second");
    assert_eq!(last(&circuit).1.as_deref(), Some("the second"));
}
