//! Calls that end when their body does.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_breaker::policy::Cancelled;
use tower_breaker::service::key::Authority;
use tower_breaker::service::{DefaultBody, ObserveBody, ObservedBody, Respond};
use tower_breaker::{
    CircuitBreaker, CircuitBreakerLayer, HttpStatus, Outcome, Policy, State, Store,
};

use crate::support::*;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Data,
    Trailers(&'static str),
    Break,
    Hang,
    Panic,
}

/// A body that does as it is told.
#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    /// Says that it has ended when it has, and not only when asked for more.
    knows_its_end: bool,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data) => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            Some(Step::Trailers(status)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                trailers.insert("grpc-retry-pushback-ms", "30000".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Step::Break) => Some(Err("broken")),
            Some(Step::Hang) => return Poll::Pending,
            Some(Step::Panic) => panic!("as asked, in the body"),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }
}

type Upstream = Arc<Mutex<dyn FnMut() -> Response<Script> + Send>>;
type Observed = CircuitBreaker<Upstreamed, HttpStatus, ObserveBody<Respond<DefaultBody>>>;

#[derive(Clone)]
struct Upstreamed(Upstream);

impl Service<Request<()>> for Upstreamed {
    type Response = Response<Script>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<Script>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(self.0.lock().unwrap()()))
    }
}

fn service(store: &Store, reply: impl FnMut() -> Response<Script> + Send + 'static) -> Observed {
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").respond().observe_body();
    layer.layer(Upstreamed(Arc::new(Mutex::new(reply))))
}

fn grpc(steps: &[Step]) -> Response<Script> {
    let body = Script { steps: steps.to_vec().into(), knows_its_end: false };
    Response::builder().header("content-type", "application/grpc+proto").body(body).unwrap()
}

fn plain(steps: &[Step]) -> Response<Script> {
    Response::new(Script { steps: steps.to_vec().into(), knows_its_end: false })
}

/// The failures and calls that count after a body was read as far as it goes.
async fn counted(reply: impl FnOnce() -> Response<Script> + Send + 'static) -> (u64, u64) {
    let store = store(fragile().consecutive_failures(9));
    let mut reply = Some(reply);
    let service = service(&store, move || reply.take().unwrap()());
    let response = service.oneshot(Request::new(())).await.unwrap();
    let circuit = store.circuit("test");
    let _ = response.into_body().collect().await;
    let tally = circuit.snapshot().tally;
    (tally.failures, tally.calls)
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_is_judged() {
    for (status, failures) in [("0", 0), ("5", 0), ("14", 1), ("2", 1), ("gone", 1), ("", 1)] {
        let reply = move || grpc(&[Step::Data, Step::Trailers(status)]);
        assert_eq!(counted(reply).await, (failures, 1), "grpc-status: {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_without_trailers_and_what_breaks_is_a_failure() {
    assert_eq!(counted(|| grpc(&[Step::Data])).await, (1, 1));
    assert_eq!(counted(|| grpc(&[])).await, (1, 1));
    assert_eq!(counted(|| grpc(&[Step::Data, Step::Break])).await, (1, 1));
    assert_eq!(counted(|| plain(&[Step::Data, Step::Break])).await, (1, 1));
    assert_eq!(counted(|| plain(&[Step::Data, Step::Data])).await, (0, 1));
    assert_eq!(counted(|| plain(&[])).await, (0, 1));
    let web = || {
        let mut reply = grpc(&[Step::Data]);
        reply.headers_mut().insert("content-type", "application/grpc-web".parse().unwrap());
        reply
    };
    assert_eq!(counted(web).await, (0, 1), "its trailers are in the body");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_says_enough_is_counted_at_once_and_alone() {
    let failed = || {
        let mut reply = plain(&[Step::Data, Step::Break]);
        *reply.status_mut() = StatusCode::BAD_GATEWAY;
        reply
    };
    assert_eq!(counted(failed).await, (1, 1));
    let trailers_only = |status: &'static str| {
        move || {
            let mut reply = grpc(&[]);
            reply.headers_mut().insert("grpc-status", status.parse().unwrap());
            reply
        }
    };
    assert_eq!(counted(trailers_only("14")).await, (1, 1));
    assert_eq!(counted(trailers_only("5")).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_in_the_head_is_judged_though_the_classifier_knows_http_alone() {
    let store = store(fragile());
    let http_alone = |result: Result<&Response<Script>, &&str>| match result {
        Ok(response) if response.status().is_success() => Outcome::Success,
        _ => Outcome::failure(),
    };
    let reply = |kind: &'static str, status: &'static str| {
        let layer = CircuitBreakerLayer::new(store.clone())
            .named(format!("{kind}, {status}"))
            .classify_fn(http_alone)
            .respond()
            .observe_body();
        let inner = service_fn(move |_: Request<()>| async move {
            let mut reply = plain(&[]);
            reply.headers_mut().insert("content-type", kind.parse().unwrap());
            reply.headers_mut().insert("grpc-status", status.parse().unwrap());
            reply.headers_mut().insert("grpc-retry-pushback-ms", "30000".parse().unwrap());
            Ok::<_, &str>(reply)
        });
        (layer.layer(inner).oneshot(Request::new(())), format!("{kind}, {status}"))
    };
    let kinds = [
        ("application/grpc", "14", 1),
        ("application/grpc+proto", "0", 0),
        ("application/grpc", "5", 0),
        ("text/plain", "14", 0),
    ];
    for (kind, status, failures) in kinds {
        let (call, name) = reply(kind, status);
        drop(call.await.unwrap());
        let circuit = store.circuit(name);
        assert_eq!(circuit.state() == State::Open, failures == 1, "{circuit:?}");
        assert_eq!(circuit.snapshot().retry_after, (failures == 1).then(|| s(30)), "{circuit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_lasts_as_long_as_its_body() {
    let store = store(fragile().slow_call_duration(s(2)));
    let mut service = service(&store, || plain(&[Step::Data]));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    let circuit = store.circuit("test");
    assert_eq!(circuit.snapshot().tally.calls, 0);
    advance(s(3)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!((circuit.snapshot().tally.calls, circuit.snapshot().tally.slow_calls), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_hint_in_trailers_is_heeded() {
    let store = store(fragile());
    let mut service = service(&store, || grpc(&[Step::Trailers("14")]));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(store.circuit("test").snapshot().retry_after, Some(s(30)));
    let rejection = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(rejection.headers()["retry-after"], "30");
    let body: ObservedBody<Script> = rejection.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
}

#[tokio::test(start_paused = true)]
async fn streams_that_their_readers_close_after_a_while_are_cancelled_as_the_policy_says() {
    for (cancelled, state) in
        [(Cancelled::Ignored, State::Closed), (Cancelled::FailureIfSlow, State::Open)]
    {
        let store = store(Policy::http_api().to_builder().cancelled(cancelled));
        close_streams(&store).await;
        assert_state(&store.circuit("test"), state);
    }
}

async fn close_streams(store: &Store) {
    for _ in 0..10 {
        let service = service(store, || grpc(&[Step::Data, Step::Hang]));
        let mut stream = service.oneshot(Request::new(())).await.unwrap().into_body();
        stream.frame().await.unwrap().unwrap();
        advance(s(6)).await;
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_to_its_end_is_a_cancelled_call_and_frees_its_probe() {
    let store = store(fragile());
    let circuit = store.circuit("test");
    trip(&circuit);
    wait_out(&circuit).await;
    let mut service = service(&store, || plain(&[Step::Data, Step::Hang]));
    for _ in 0..3 {
        let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        assert_eq!(circuit.snapshot().probes_out, 1);
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(circuit.snapshot().probes_out, 0);
        assert_state(&circuit, State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_end_is_known_has_ended_though_nobody_asks_for_more() {
    let reply = |steps: &[Step]| {
        let body = Script { steps: steps.to_vec().into(), knows_its_end: true };
        Response::new(body)
    };
    let store = store(fragile());
    let circuit = store.circuit("test");
    let empty = service(&store, move || reply(&[]));
    drop(empty.oneshot(Request::new(())).await.unwrap());
    assert_eq!(circuit.snapshot().tally.calls, 1, "empty");
    let short = service(&store, move || reply(&[Step::Data]));
    let mut body = short.oneshot(Request::new(())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(circuit.snapshot().tally.calls, 2, "its last frame was read");
    let mut head = Request::new(());
    *head.method_mut() = Method::HEAD;
    let bodiless = service(&store, || plain(&[Step::Data]));
    drop(bodiless.oneshot(head).await.unwrap());
    assert_eq!(circuit.snapshot().tally.calls, 3, "servers drop what answers HEAD");
    assert_eq!(circuit.snapshot().tally.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_a_failure() {
    let store = store(fragile());
    let service = service(&store, || plain(&[Step::Panic]));
    let response = service.oneshot(Request::new(())).await.unwrap();
    let reading = tokio::spawn(async move { response.into_body().collect().await.map(|_| ()) });
    assert!(reading.await.unwrap_err().is_panic());
    assert_state(&store.circuit("test"), State::Open);
}

/// A body of one frame whose `is_end_stream` panics, once it has been told to.
#[derive(Clone, Debug, Default)]
struct Rude(Arc<AtomicBool>);

impl Body for Rude {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data")))))
    }

    fn is_end_stream(&self) -> bool {
        assert!(!self.0.load(Relaxed), "as asked, by the body");
        false
    }
}

/// What a call gets whose body becomes rude at once, or when it is told to.
async fn rude(store: Store, at_once: bool) -> (Rude, ObservedBody<Rude>) {
    drop(store.circuit("test").reset());
    let body = Rude::default();
    body.0.store(at_once, Relaxed);
    let layer = CircuitBreakerLayer::new(store).named("test").respond().observe_body();
    let reply = body.clone();
    let service = layer.layer(service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(reply.clone())))
    }));
    (body, service.oneshot(Request::new(())).await.unwrap().into_body())
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_is_end_stream_panics_is_a_failure_and_does_not_abort() {
    let store = store(fragile());
    let circuit = store.circuit("test");

    // As soon as the head is there.
    let call = tokio::spawn(rude(store.clone(), true));
    assert!(call.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When a frame is read, and again if it were asked when it is dropped for that.
    let (body, mut reading) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let reading = tokio::spawn(async move { drop(reading.frame().await) });
    assert!(reading.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When it is dropped unread.
    let (body, unread) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let dropping = tokio::spawn(async move { drop(unread) });
    assert!(dropping.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);

    // When it is dropped for a panic elsewhere: that says nothing of it.
    let (body, unread) = rude(store.clone(), false).await;
    body.0.store(true, Relaxed);
    let elsewhere = tokio::spawn(async move {
        let _unread = unread;
        panic!("as asked, elsewhere");
    });
    assert!(elsewhere.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_an_error_where_the_layer_does_not_respond() {
    let store = store(fragile());
    store.circuit("test").force_open("test");
    let inner = service_fn(|_: Request<()>| async { Ok::<_, &str>(plain(&[])) });
    let layer = CircuitBreakerLayer::new(store).named("test");
    let mut early = layer.clone().observe_body().layer(inner);
    assert!(early.ready().await.unwrap_err().is_rejected());
    let mut late = layer.reject_in_call().observe_body().layer(inner);
    assert!(late.ready().await.unwrap().call(Request::new(())).await.unwrap_err().is_rejected());
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_a_key_is_judged_by_bodies_and_not_forgotten_before_their_end() {
    let policy = fragile().jitter(0.0).build().unwrap();
    let store = Store::builder().default_policy(policy).key_limit(1).key_idle(s(10)).build();
    let layer = CircuitBreakerLayer::new(store.clone()).named("test");
    let fails = service_fn(|_: Request<()>| async { Ok::<_, &str>(grpc(&[Step::Trailers("14")])) });
    let to = |host| Request::get(format!("http://{host}/")).body(()).unwrap();

    let responding = layer.clone().respond().observe_body().keyed_by(Authority).layer(fails);
    let response = responding.clone().oneshot(to("down")).await.unwrap();
    advance(s(60)).await;
    let uncounted = responding.clone().oneshot(to("other")).await.unwrap();
    uncounted.into_body().collect().await.unwrap();
    assert_eq!(store.circuits().len(), 1, "the one whose body is still to come");
    assert_eq!(store.circuit("test:down").snapshot().tally.calls, 0);
    response.into_body().collect().await.unwrap();
    assert_state(&store.circuit("test:down"), State::Open);
    let rejection = responding.oneshot(to("down")).await.unwrap();
    assert_eq!(rejection.status(), StatusCode::SERVICE_UNAVAILABLE);

    let erring = layer.reject_in_call().observe_body().keyed_by(Authority).layer(fails);
    assert!(erring.oneshot(to("down")).await.unwrap_err().is_rejected());
}

#[test]
fn observing_settles_each_call_once_in_whatever_order_it_is_read() {
    let store = store(fragile().consecutive_failures(1_000));
    let mut cx = Context::from_waker(Waker::noop());
    let circuit = store.circuit("test");
    let scripts: [&[Step]; 4] = [
        &[Step::Data, Step::Trailers("14"), Step::Trailers("14")],
        &[Step::Break, Step::Break],
        &[Step::Trailers("0"), Step::Break],
        &[Step::Data],
    ];
    for (n, script) in (1..).zip(scripts) {
        let mut service = service(&store, move || grpc(script));
        assert!(service.poll_ready(&mut cx).is_ready());
        let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(&mut cx) else {
            panic!("at once");
        };
        let mut body = response.into_body();
        for _ in 0..5 {
            let _ = Pin::new(&mut body).poll_frame(&mut cx);
        }
        drop(body);
        assert_eq!(circuit.snapshot().tally.calls, n, "{script:?}");
    }
}
