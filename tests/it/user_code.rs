//! Code of users: observers, wakers, log subscribers, and the values that they drop.
//!
//! No lock is held while it runs, so it may use the store and the circuit. Its panics disturb no
//! other call.

use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread;

use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{Circuit, CircuitBreakerLayer, ErrorsAsFailures, Policy, State, Store};
use tracing_subscriber::layer::{Context as LogContext, SubscriberExt};

use crate::support::*;

/// Uses every part of a store when it is dropped, and reports the drop.
struct UsesOnDrop(Store, mpsc::Sender<()>);

impl Drop for UsesOnDrop {
    fn drop(&mut self) {
        use_all(&self.0);
        let _ = self.1.send(());
    }
}

fn use_all(store: &Store) {
    let _ = (store.circuits().len(), format!("{store:?}"));
    let _ = (store.get("one"), store.circuit("one"), store.get("up:one"));
    for key in ["one", "two", "three"] {
        let _ = store.keyed("up").circuit(key);
    }
    store.set_policy("two", Policy::cache());
}

/// Gives the circuit an observer that has captured a value which uses the store when it is dropped.
fn use_on_drop(store: &Store, circuit: &Circuit, dropped: &mpsc::Sender<()>) {
    let value = UsesOnDrop(store.clone(), dropped.clone());
    circuit.on_change(move |_| {
        let _ = &value;
    });
}

#[test]
fn values_captured_by_observers_may_use_the_store_at_an_engine_reuse() {
    must_end(|| {
        let store = Store::in_memory();
        let (dropped, drops) = mpsc::channel();
        for n in 0..32 {
            let old = Store::in_memory();
            use_on_drop(&store, &old.circuit("old"), &dropped);
            let _ = store.circuit(format!("new {n}"));
            use_on_drop(&store, &old.keyed("old").circuit("old").unwrap(), &dropped);
            drop(old);
            let _ = store.circuit(format!("newer {n}"));
            let _ = store.keyed("up").circuit(&n.to_string());
        }
        assert!(drops.try_recv().is_ok());
    });
}

#[test]
fn values_captured_by_observers_may_use_the_store_at_an_eviction() {
    must_end(|| {
        let (dropped, drops) = mpsc::channel();
        let store = Store::builder().key_limit(1).build();
        let keys = store.keyed("up");
        for n in 0..32 {
            // Each dropped value makes a few more circuits.
            if let Some(circuit) = keys.circuit(&n.to_string()) {
                use_on_drop(&store, &circuit, &dropped);
            }
        }
        drop((store, keys, drops));
    });
}

#[test]
fn values_captured_by_observers_may_use_the_store_when_keys_are_idle() {
    must_end(|| {
        paused(async {
            let (dropped, drops) = mpsc::channel();
            let store = Store::builder().key_idle(s(1)).build();
            for n in 0..32 {
                let keys = store.keyed("idle");
                use_on_drop(&store, &keys.circuit(&n.to_string()).unwrap(), &dropped);
                advance(s(3)).await;
            }
            drop(drops);
        });
    });
}

/// A log subscriber that uses the store at each event.
struct UsesOnEvent(Store, mpsc::Sender<String>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for UsesOnEvent {
    fn on_event(&self, event: &tracing::Event<'_>, _: LogContext<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        use_all(&self.0);
        let _ = self.1.send(message.0);
    }
}

#[test]
fn a_log_subscriber_may_use_the_store() {
    must_end(|| {
        paused(async {
            let store = Store::builder().backend(MemoryBackend::new()).key_limit(1).build();
            let full = Store::builder().key_limit(0).build();
            let (send, messages) = mpsc::channel();
            // With a single subscriber, tracing may cache that it wants no events.
            let _other = tracing::Dispatch::new(tracing_subscriber::registry());
            for used in [&store, &full] {
                let layer = UsesOnEvent(used.clone(), send.clone());
                let _guard =
                    tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
                let _ = used.keyed("up").circuit("a");
                let _ = used.keyed("up").circuit("");
                let layer = CircuitBreakerLayer::new(used.clone()).classify(ErrorsAsFailures);
                let inner = service_fn(|(): ()| async { Ok::<_, ()>(()) });
                let service = layer.clone().layer(inner);
                drop(service.circuit().force_open("test"));
                let _ = used.circuit_with("a", Policy::cache());
                let _ = used.circuit_with("a", Policy::database());
                let keyed = layer.keyed_by_fn(|(): &()| Some("a".into())).layer(inner);
                keyed.oneshot(()).await.unwrap();
            }
            let mut messages: Vec<_> = messages.try_iter().collect();
            messages.sort();
            messages.dedup();
            let starts = [
                "a second, different policy",
                "circuit \"",
                "key limit reached",
                "requests had no usable key",
                "this layer has no name",
            ];
            assert_eq!(messages.len(), starts.len(), "{messages:#?}");
            for (message, start) in messages.iter().zip(starts) {
                assert!(message.starts_with(start), "{message}");
            }
        });
    });
}

/// Takes a snapshot of the circuit when it is woken, for which the lock of the engine must be free.
struct SnapshotOnWake(Mutex<Option<Circuit>>);

impl Wake for SnapshotOnWake {
    fn wake(self: Arc<Self>) {
        if let Some(circuit) = &*self.0.lock().unwrap() {
            let _ = circuit.snapshot();
        }
    }
}

#[test]
fn a_waker_of_a_pending_override_runs_without_a_lock() {
    must_end(|| {
        paused(async {
            let store = Store::builder().backend(MemoryBackend::new()).build();
            let circuit = store.circuit("test");
            let waker = Arc::new(SnapshotOnWake(Mutex::new(Some(circuit.clone())))).into();
            let mut cx = Context::from_waker(&waker);
            let mut first = circuit.force_open("the first");
            assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_pending());
            // No task has run since: the first override is replaced before it was sent.
            let second = circuit.force_closed("the second");
            let answer = std::pin::Pin::new(&mut first).poll(&mut cx);
            assert!(matches!(answer, Poll::Ready(Err(_))), "{answer:?}");
            let mut third = second;
            assert!(std::pin::Pin::new(&mut third).poll(&mut cx).is_pending());
            // The shutdown drops what was not sent.
            let _ = store.shutdown(s(1)).await;
        });
    });
}

#[test]
fn a_panicking_waker_silences_no_observer() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("woken");
        }
    }

    let circuit = circuit(fragile());
    let plain = generations(&circuit);
    paused(async {
        let layer = tower_breaker::CircuitBreakerLayer::new(store(fragile())).wait_while_open();
        let inner = tower::service_fn(|(): ()| async { Err::<(), _>("down") });
        let layer = layer.classify(tower_breaker::ErrorsAsFailures);
        let mut service = tower::Layer::layer(&layer, inner);
        let waited_for = generations(service.circuit());
        let _ = tower::ServiceExt::<()>::oneshot(service.clone(), ()).await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let waker = Arc::new(Panics).into();
        let mut panics = Context::from_waker(&waker);
        assert!(tower::Service::<()>::poll_ready(&mut service, &mut panics).is_pending());
        drop(service.circuit().reset());
        drop(service.circuit().disable("a test"));
        assert_eq!(waited_for.try_iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert!(tower::Service::<()>::poll_ready(&mut service, &mut cx).is_ready());
    });
    fail(&circuit);
    assert_eq!(plain.try_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_panicking_panic_payload_silences_no_observer() {
    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            std::panic::panic_any("dropped");
        }
    }

    let circuit = circuit(Policy::builder());
    circuit.on_change(|_| std::panic::panic_any(PanicsOnDrop));
    let generations = generations(&circuit);
    drop(circuit.disable("a test"));
    drop(circuit.reset());
    assert_eq!(generations.try_iter().collect::<Vec<_>>(), [2, 3]);
    assert_state(&circuit, State::Closed);
}

/// Panics when it is dropped, unless its thread panics already.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !thread::panicking() {
            std::panic::panic_any("dropped");
        }
    }
}

#[test]
fn a_captured_value_that_panics_at_its_drop_disturbs_no_other_call() {
    for _ in 0..10 {
        let store = store(fragile());
        let held = store.circuit("held");
        for circuit in [&held, &store.circuit("not held"), &store.circuit("nor this")] {
            let captured = PanicsOnDrop;
            circuit.on_change(move |_| {
                let _ = &captured;
            });
        }
        drop(store);
        drop(held);
    }
    for _ in 0..100 {
        succeed(&Store::in_memory().circuit("unrelated"));
    }
}
