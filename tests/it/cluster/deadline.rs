//! What a service waits for: the cluster, and no longer than the deadline.

use std::sync::Arc;

use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_breaker::backend::{Backend, RecordState};
use tower_breaker::service::Reject;
use tower_breaker::{
    Circuit, CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, Outcome, State, Store,
};

use crate::support::faulty::Faulty;
use crate::support::network::Network;
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

type Breaker = CircuitBreaker<Upstream, ErrorsAsFailures, Reject>;

/// A replica whose line to the ledger can be cut, with a service on its circuit.
struct Replica {
    line: Faulty,
    upstream: Upstream,
    service: Breaker,
}

impl Replica {
    fn join(number: usize, network: &Arc<Network>) -> Self {
        let line = Faulty::new(number, 0, network.clone());
        let upstream = Upstream::new(Does::Succeed);
        let policy = fragile().jitter(0.0).build().unwrap();
        let store = Store::builder().default_policy(policy).backend(line.clone()).build();
        let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
        let service = layer.layer(upstream.clone());
        Self { line, upstream, service }
    }

    fn circuit(&self) -> &Circuit {
        self.service.circuit()
    }
}

fn network() -> Arc<Network> {
    Network::new(7, false)
}

/// Opens the circuit of all, and waits until it would let a probe pass.
async fn open(replica: &Replica) {
    trip(replica.circuit());
    tokio::time::sleep(s(11)).await;
    assert_state(replica.circuit(), State::Open);
}

/// How long it takes until the service is ready, or says why not.
async fn readying(service: &mut Breaker) -> (std::time::Duration, bool) {
    let start = now();
    let ready = service.ready().await.is_ok();
    (start.elapsed(), ready)
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_new_replica_waits_for_the_state_and_the_inner_service_is_not_touched()
{
    let network = network();
    let first = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    trip(first.circuit());
    tokio::time::sleep(ms(10)).await;
    let mut late = Replica::join(1, &network);
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| late.service.poll_ready(cx)));
    tokio::time::sleep(ms(5)).await;
    assert!(ready.is_woken());
    assert_ready_err!(ready.enter(|cx, _| late.service.poll_ready(cx)));
    assert_eq!((late.upstream.polls(), late.upstream.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_does_not_come_is_not_waited_for_past_the_deadline() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    replica.line.cut();
    let (waited, ready) = readying(&mut replica.service).await;
    assert!(ready && waited <= ms(51), "{waited:?}");
    replica.service.call(()).await.unwrap();
    let (waited, ready) = readying(&mut replica.service).await;
    assert_eq!((waited, ready), (ms(0), true), "no call waits twice");
}

#[tokio::test(start_paused = true)]
async fn a_probe_waits_for_its_place_and_is_made() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    open(&replica).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
    assert_state(replica.circuit(), State::HalfOpen);
    replica.service.call(()).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    assert_state(replica.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_does_not_come_rejects_the_call_at_the_deadline() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    open(&replica).await;
    replica.line.cut();
    let (waited, ready) = readying(&mut replica.service).await;
    assert!(!ready && waited >= ms(50) && waited <= ms(51), "{waited:?}");
    assert_eq!(replica.upstream.calls(), 0);
    replica.line.heal(true);
    tokio::time::sleep(s(3)).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_leaves_no_place_taken() {
    let network = network();
    let (mut leaver, mut other) = (Replica::join(0, &network), Replica::join(1, &network));
    tokio::time::sleep(ms(10)).await;
    open(&leaver).await;
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| leaver.service.poll_ready(cx)));
    drop(leaver.service);
    tokio::time::sleep(ms(10)).await;
    let view = network.ledger.load(other.circuit().name()).await.unwrap();
    assert!(matches!(view.state, RecordState::HalfOpen { out: 0, .. }), "{view:?}");
    let (_, ready) = readying(&mut other.service).await;
    assert!(ready);
}

#[tokio::test(start_paused = true)]
async fn a_clone_does_not_wait_for_what_its_origin_has_asked() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    open(&replica).await;
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| replica.service.poll_ready(cx)));
    let mut clone = replica.service.clone();
    let (waited, admitted) = readying(&mut clone).await;
    assert_eq!((waited, admitted), (ms(0), false), "one asks at a time");
    tokio::time::sleep(ms(5)).await;
    assert_ready_ok!(ready.enter(|cx, _| replica.service.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn while_the_ledger_is_lost_nothing_waits() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    trip(replica.circuit());
    tokio::time::sleep(ms(10)).await;
    replica.line.cut();
    tokio::time::sleep(s(12)).await;
    let (waited, ready) = readying(&mut replica.service).await;
    assert_eq!((waited, ready), (ms(0), true));
    replica.upstream.now(Does::Succeed);
    replica.service.call(()).await.unwrap();
    assert_state(replica.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn calling_without_readying_asks_for_the_next_call() {
    let network = network();
    let mut replica = Replica::join(0, &network);
    tokio::time::sleep(ms(10)).await;
    open(&replica).await;
    assert!(replica.circuit().try_acquire().is_err());
    tokio::time::sleep(ms(10)).await;
    replica.circuit().try_acquire().unwrap().settle(Outcome::Success);
    tokio::time::sleep(ms(10)).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
    assert_state(replica.circuit(), State::Closed);
}
