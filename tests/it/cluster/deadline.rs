//! What a call waits for: the state of a circuit that was never loaded, and a probe slot of the
//! cluster. Never longer than the deadline.

use std::sync::Arc;

use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_breaker::backend::RecordState;
use tower_breaker::service::on_rejected::Reject;
use tower_breaker::{
    Circuit, CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, Outcome, State,
};

use crate::support::faulty::{Faulty, Gap};
use crate::support::network::Network;
use crate::support::outage::{HasCircuit, While, bring_to, unreachable_while};
use crate::support::upstream::{Does, Upstream};
use crate::support::*;

type Breaker = CircuitBreaker<Upstream, ErrorsAsFailures, Reject>;

/// A replica with a service on its circuit, and with a connection that can be cut.
struct Replica {
    line: Faulty,
    upstream: Upstream,
    service: Breaker,
}

impl Replica {
    fn join(number: usize, network: &Arc<Network>) -> Self {
        let line = Faulty::new(number, 0, network.clone());
        let upstream = Upstream::new(Does::Succeed);
        let store = store_on(line.clone(), fragile()).build();
        let layer = CircuitBreakerLayer::new(store).named("test").classify(ErrorsAsFailures);
        let service = layer.layer(upstream.clone());
        Self { line, upstream, service }
    }

    /// The only replica so far, which has loaded its circuit.
    async fn first() -> Self {
        let replica = Self::join(0, &network());
        sleep(ms(10)).await;
        replica
    }
}

impl HasCircuit for Replica {
    fn circuit(&self) -> &Circuit {
        self.service.circuit()
    }
}

fn network() -> Arc<Network> {
    Network::new(7, false)
}

/// How long it takes until the service is ready or rejects, and whether it is ready.
async fn readying(service: &mut Breaker) -> (std::time::Duration, bool) {
    let start = now();
    let ready = service.ready().await.is_ok();
    (start.elapsed(), ready)
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_loads_the_state_before_it_polls_the_inner_service() {
    let network = network();
    let first = Replica::join(0, &network);
    sleep(ms(10)).await;
    bring_to(While::Open, &[&first]).await;
    let mut late = Replica::join(1, &network);
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| late.service.poll_ready(cx)));
    sleep(ms(5)).await;
    assert!(ready.is_woken());
    assert_ready_err!(ready.enter(|cx, _| late.service.poll_ready(cx)));
    assert_eq!((late.upstream.polls(), late.upstream.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_state_no_longer_than_the_deadline() {
    let mut replica = Replica::join(0, &network());
    replica.line.cut();
    let (waited, ready) = readying(&mut replica.service).await;
    assert!(ready && waited <= ms(51), "{waited:?}");
    replica.service.call(()).await.unwrap();
    let (waited, ready) = readying(&mut replica.service).await;
    assert_eq!((waited, ready), (ms(0), true), "no call waits twice");
}

#[tokio::test(start_paused = true)]
async fn a_probe_waits_for_its_slot_and_is_made() {
    let mut replica = Replica::first().await;
    bring_to(While::ProbeDue, &[&replica]).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
    assert_state(replica.circuit(), State::HalfOpen);
    replica.service.call(()).await.unwrap();
    sleep(ms(10)).await;
    assert_state(replica.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_probe_slot_is_rejected_at_the_deadline() {
    let mut replica = Replica::first().await;
    unreachable_while(While::ProbeDue, &[&replica], || replica.line.cut()).await;
    let (waited, ready) = readying(&mut replica.service).await;
    assert!(!ready && waited >= ms(50) && waited <= ms(51), "{waited:?}");
    assert_eq!(replica.upstream.calls(), 0);
    replica.line.heal(Gap::Notified);
    sleep(s(3)).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
}

#[tokio::test(start_paused = true)]
async fn a_service_dropped_while_it_waits_takes_no_probe_slot() {
    let network = network();
    let (mut dropped, mut other) = (Replica::join(0, &network), Replica::join(1, &network));
    sleep(ms(10)).await;
    bring_to(While::ProbeDue, &[&dropped, &other]).await;
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| dropped.service.poll_ready(cx)));
    drop(dropped.service);
    sleep(ms(10)).await;
    let view = network.load(other.circuit().name());
    let taken = matches!(view.state, RecordState::HalfOpen { out, .. } if out > 0);
    assert!(!taken, "{view:?}");
    let (_, ready) = readying(&mut other.service).await;
    assert!(ready);
}

#[tokio::test(start_paused = true)]
async fn a_clone_does_not_wait_for_the_slot_its_original_asked_for() {
    let mut replica = Replica::first().await;
    bring_to(While::ProbeDue, &[&replica]).await;
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| replica.service.poll_ready(cx)));
    let mut clone = replica.service.clone();
    let (waited, admitted) = readying(&mut clone).await;
    assert_eq!((waited, admitted), (ms(0), false), "a replica asks for one slot at a time");
    sleep(ms(5)).await;
    assert_ready_ok!(ready.enter(|cx, _| replica.service.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_while_the_backend_is_unreachable() {
    let mut replica = Replica::first().await;
    unreachable_while(While::Open, &[&replica], || replica.line.cut()).await;
    sleep(s(12)).await;
    let (waited, ready) = readying(&mut replica.service).await;
    assert_eq!((waited, ready), (ms(0), true));
    replica.upstream.now(Does::Succeed);
    replica.service.call(()).await.unwrap();
    assert_state(replica.circuit(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_try_acquire_asks_for_the_slot_of_the_next_call() {
    let mut replica = Replica::first().await;
    bring_to(While::ProbeDue, &[&replica]).await;
    assert!(replica.circuit().try_acquire().is_err());
    sleep(ms(10)).await;
    replica.circuit().try_acquire().unwrap().settle(Outcome::Success);
    sleep(ms(10)).await;
    let (_, ready) = readying(&mut replica.service).await;
    assert!(ready);
    assert_state(replica.circuit(), State::Closed);
}
