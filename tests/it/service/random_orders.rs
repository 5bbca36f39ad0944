//! Services and calls in random orders: readied, called, dropped, hung, answered. After any of them
//! the circuit can recover, and it never admits more probes than it has slots.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use prop::sample::Index;
use proptest::prelude::*;
use tower::{Layer, Service};
use tower_breaker::{CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, State, Store};

use crate::support::upstream::{Does, Upstream};
use crate::support::*;

type Breaker = CircuitBreaker<Upstream, ErrorsAsFailures>;
type Call = Pin<Box<<Breaker as Service<()>>::Future>>;

#[derive(Clone, Copy, Debug)]
enum Step {
    Clone(Index),
    Ready(Index),
    /// Readies and calls a service, and polls the call once.
    Call(Index, Does),
    DropService(Index),
    DropCall(Index),
    /// Whether the inner services are pending.
    Pending(bool),
    Wait(u64),
    Override(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let does = prop_oneof![1 => Just(Does::Succeed), 3 => Just(Does::Fail), 1 => Just(Does::Hang)];
    prop_oneof![
        1 => any::<Index>().prop_map(Step::Clone),
        4 => any::<Index>().prop_map(Step::Ready),
        4 => (any::<Index>(), does).prop_map(|(at, does)| Step::Call(at, does)),
        1 => any::<Index>().prop_map(Step::DropService),
        1 => any::<Index>().prop_map(Step::DropCall),
        1 => any::<bool>().prop_map(Step::Pending),
        2 => (1..12_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Override),
    ]
}

struct Play {
    upstream: Upstream,
    services: Vec<Breaker>,
    calls: Vec<Call>,
    store: Store,
}

impl Play {
    async fn step(&mut self, step: Step) {
        let mut cx = Context::from_waker(Waker::noop());
        let live = self.services.len();
        match step {
            Step::Clone(at) => self.services.push(self.services[at.index(live)].clone()),
            Step::Ready(at) => {
                let _ = self.services[at.index(live)].poll_ready(&mut cx);
            }
            Step::Call(at, does) => {
                let service = &mut self.services[at.index(live)];
                // The inner service panics if it is called before it is ready.
                if matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))) {
                    self.upstream.now(does);
                    let mut call = Box::pin(service.call(()));
                    if call.as_mut().poll(&mut cx).is_pending() {
                        self.calls.push(call);
                    }
                }
            }
            Step::DropService(at) if live > 1 => drop(self.services.swap_remove(at.index(live))),
            Step::DropCall(at) if !self.calls.is_empty() => {
                drop(self.calls.swap_remove(at.index(self.calls.len())));
            }
            Step::DropService(_) | Step::DropCall(_) => {}
            Step::Pending(pending) => self.upstream.set_pending(pending),
            Step::Wait(seconds) => advance(s(seconds)).await,
            Step::Override(open) if open => drop(self.store.circuit("test").force_open("test")),
            Step::Override(_) => drop(self.store.circuit("test").reset()),
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_circuit_recovers_after_any_order_of_calls_and_drops(
        steps in prop::collection::vec(step(), 1..120),
        probes in 1..4_u64,
    ) {
        paused(async move {
            let store = store(fragile().probes(probes).successes_to_close(2));
            let upstream = Upstream::new(Does::Succeed);
            let layer = CircuitBreakerLayer::new(store.clone()).named("test");
            let first = layer.classify(ErrorsAsFailures).layer(upstream.clone());
            let circuit = store.circuit("test");
            let services = vec![first];
            let mut play = Play { upstream, services, calls: Vec::new(), store };
            for step in steps {
                play.step(step).await;
                prop_assert!(circuit.snapshot().probes_out as u64 <= probes);
            }
            // Ready services and hung calls stay as they are. The upstream works, no override holds
            // the circuit, and more time passes than a lease or an interval lasts.
            if circuit.state() == State::ForcedOpen {
                circuit.reset();
            }
            for _ in 0..2 {
                advance(s(60)).await;
                for _ in 0..4 {
                    if let Ok(permit) = circuit.try_acquire() {
                        permit.settle(tower_breaker::Outcome::Success);
                    }
                }
            }
            prop_assert_eq!(circuit.state(), State::Closed);
            prop_assert_eq!(circuit.snapshot().probes_out, 0);
            Ok(())
        })?;
    }
}
