//! The store runs no user code under a lock: what users' code does, it may do with the store too.

use std::sync::mpsc;
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Policy, Store};
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Runs a test that could hang.
#[track_caller]
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(20)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

/// Uses every part of a store when it is dropped.
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

/// Circuits that are in use no more, and whose observers have captured such a value.
fn observe(store: &Store, circuit: &tower_breaker::Circuit, dropped: &mpsc::Sender<()>) {
    let value = UsesOnDrop(store.clone(), dropped.clone());
    circuit.on_change(move |_| {
        let _ = &value;
    });
}

#[test]
fn what_an_old_circuit_s_observers_captured_may_use_the_store_when_it_is_dropped() {
    in_time(|| {
        let store = Store::in_memory();
        let (dropped, drops) = mpsc::channel();
        for n in 0..32 {
            let old = Store::in_memory();
            observe(&store, &old.circuit("old"), &dropped);
            let _ = store.circuit(format!("new {n}"));
            observe(&store, &old.keyed("old").circuit("old").unwrap(), &dropped);
            drop(old);
            let _ = store.circuit(format!("newer {n}"));
            let _ = store.keyed("up").circuit(&n.to_string());
        }
        assert!(drops.try_recv().is_ok());
    });
}

#[test]
fn what_an_evicted_circuit_s_observers_captured_may_use_the_store_when_it_is_dropped() {
    in_time(|| {
        let (dropped, drops) = mpsc::channel();
        let store = Store::builder().key_limit(1).build();
        let keys = store.keyed("up");
        for n in 0..32 {
            // Of values that are dropped, each makes a few circuits more.
            if let Some(circuit) = keys.circuit(&n.to_string()) {
                observe(&store, &circuit, &dropped);
            }
        }
        drop((store, keys, drops));
    });
}

#[test]
fn what_an_idle_circuit_s_observers_captured_may_use_the_store_when_it_is_dropped() {
    in_time(|| {
        crate::support::paused(async {
            let (dropped, drops) = mpsc::channel();
            let store = Store::builder().key_idle(Duration::from_secs(1)).build();
            for n in 0..32 {
                let keys = store.keyed("idle");
                observe(&store, &keys.circuit(&n.to_string()).unwrap(), &dropped);
                crate::support::advance(Duration::from_secs(3)).await;
            }
            drop(drops);
        });
    });
}

/// A subscriber that uses the store at each event of the log.
struct UsesOnEvent(Store, mpsc::Sender<String>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for UsesOnEvent {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
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
    in_time(|| {
        crate::support::paused(async {
            let store = Store::builder().backend(MemoryBackend::new()).key_limit(1).build();
            let full = Store::builder().key_limit(0).build();
            let (send, messages) = mpsc::channel();
            // Another one, or the only one could be taken for never interested.
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
                "no circuit for requests",
                "this layer has no name",
            ];
            assert_eq!(messages.len(), starts.len(), "{messages:#?}");
            for (message, start) in messages.iter().zip(starts) {
                assert!(message.starts_with(start), "{message}");
            }
        });
    });
}
