//! Around clients and servers of tonic, over real sockets.

use tonic::Code;
use tower::layer::util::Identity;
use tower::{Layer, ServiceBuilder};
use tower_breaker::service::on_rejected::{DefaultBody, Respond};
use tower_breaker::service::until::UntilBody;
use tower_breaker::service::{RespondToRejectedLayer, grpc};
use tower_breaker::{CircuitBreakerLayer, HttpStatus, State, Store};

use crate::support::grpc::{Answers, Upstream, ask};
use crate::support::*;

type Observing = CircuitBreakerLayer<HttpStatus, Respond<DefaultBody>, UntilBody>;

fn observing(store: &Store) -> Observing {
    CircuitBreakerLayer::new(store.clone()).named("test").respond().observe_body()
}

/// Asserts that this is a rejection. Returns its pushback.
#[track_caller]
fn pushback(status: &tonic::Status) -> u64 {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.message(), "circuit open");
    status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_gets_unavailable_with_a_pushback_from_an_open_circuit() {
    let upstream = Upstream::new(Answers::InHead(Code::Internal));
    let channel = upstream.serve(Identity::new()).await;
    let store = store(fragile());
    let responding = CircuitBreakerLayer::new(store.clone()).named("test").respond();
    let client = responding.layer(channel.clone());
    assert_eq!(ask(client.clone()).await.unwrap_err().code(), Code::Internal);
    for _ in 0..3 {
        assert!((1..=10_000).contains(&pushback(&ask(client.clone()).await.unwrap_err())));
    }
    let observing = observing(&store).layer(channel);
    assert!((1..=10_000).contains(&pushback(&ask(observing).await.unwrap_err())));
    assert_eq!(upstream.calls(), 1);

    upstream.now(Answers::Value);
    store.circuit("test").reset();
    assert_eq!(ask(client).await.unwrap(), 7);
}

#[tokio::test]
async fn a_client_tells_a_local_rejection_from_the_server_s_unavailable() {
    let upstream = Upstream::new(Answers::InHead(Code::Unavailable));
    let channel = upstream.serve(Identity::new()).await;
    let client = observing(&store(fragile())).layer(channel);
    let rejected_by = |status: &tonic::Status| {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        grpc::rejected_by(status.metadata().as_ref()).map(str::to_owned)
    };
    assert_eq!(rejected_by(&ask(client.clone()).await.unwrap_err()), None);
    assert_eq!(rejected_by(&ask(client).await.unwrap_err()).as_deref(), Some("test"));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn respond_to_rejected_turns_unknown_into_unavailable() {
    let upstream = Upstream::new(Answers::Value);
    let channel = upstream.serve(Identity::new()).await;
    let store = store(fragile());
    store.circuit("test").force_open("a test");
    let breaker = CircuitBreakerLayer::new(store).named("test").reject_in_call();
    let client = breaker.layer(channel);
    let status = ask(client.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    let status = ask(RespondToRejectedLayer::new().layer(client)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "circuit open"));
}

#[tokio::test]
async fn a_client_that_observes_bodies_counts_failures_in_trailers() {
    let upstream = Upstream::new(Answers::InTrailers(Code::Unavailable));
    let channel = upstream.serve(Identity::new()).await;
    let store = store(fragile());
    let responding = CircuitBreakerLayer::new(store.clone()).named("heads").respond();
    let blind = responding.layer(channel.clone());
    assert_eq!(ask(blind).await.unwrap_err().code(), Code::Unavailable);
    assert_state(&store.circuit("heads"), State::Closed);

    let client = observing(&store).layer(channel);
    upstream.now(Answers::InTrailers(Code::NotFound));
    assert_eq!(ask(client.clone()).await.unwrap_err().code(), Code::NotFound);
    upstream.now(Answers::Value);
    assert_eq!(ask(client.clone()).await.unwrap(), 7);
    let tally = store.circuit("test").snapshot().tally;
    assert_eq!((tally.calls, tally.failures), (2, 0));

    upstream.now(Answers::InTrailers(Code::Unavailable));
    let status = ask(client.clone()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "in trailers"));
    assert_state(&store.circuit("test"), State::Open);
    pushback(&ask(client).await.unwrap_err());
}

#[tokio::test]
async fn a_server_counts_failures_and_responds_unavailable_while_open() {
    for answers in [Answers::InHead(Code::DataLoss), Answers::InTrailers(Code::DataLoss)] {
        let store = store(fragile());
        let upstream = Upstream::new(answers);
        let channel = upstream.serve(observing(&store)).await;
        assert_eq!(ask(channel.clone()).await.unwrap_err().code(), Code::DataLoss);
        wait_for("the end of the trailers", || store.circuit("test").state() == State::Open).await;
        for _ in 0..3 {
            pushback(&ask(channel.clone()).await.unwrap_err());
        }
        assert_eq!(upstream.calls(), 1);
        store.circuit("test").reset();
        upstream.now(Answers::Value);
        assert_eq!(ask(channel).await.unwrap(), 7, "on the same connection");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_probe_frees_its_slot() {
    let store = store(fragile().open_for(ms(1)).probe_lease(s(600)));
    let circuit = store.circuit("test");
    let upstream = Upstream::new(Answers::Never);
    let channel = upstream.serve(observing(&store)).await;
    trip(&circuit);
    wait_for("the open interval", || circuit.is_available()).await;
    let call = tokio::spawn(ask(channel.clone()));
    wait_for("the probe", || upstream.calls() == 1).await;
    assert_eq!(circuit.snapshot().probes_out, 1);
    call.abort();
    wait_for("a free slot", || circuit.snapshot().probes_out == 0).await;
    assert_state(&circuit, State::HalfOpen);
    upstream.now(Answers::Value);
    assert_eq!(ask(channel).await.unwrap(), 7);
    wait_for("the successful probe", || circuit.state() == State::Closed).await;
}

#[tokio::test]
async fn an_unreachable_server_is_a_failure() {
    let store = store(fragile());
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = ServiceBuilder::new().layer(observing(&store)).service(endpoint.connect_lazy());
    assert_eq!(ask(client.clone()).await.unwrap_err().code(), Code::Unavailable);
    assert_state(&store.circuit("test"), State::Open);
    pushback(&ask(client).await.unwrap_err());
}
