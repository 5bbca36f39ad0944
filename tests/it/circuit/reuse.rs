//! Engines serve one circuit after another, and code of users runs under no lock of theirs.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use tower_breaker::backend::MemoryBackend;
use tower_breaker::event::Event;
use tower_breaker::{Circuit, Policy, State, Store};

use crate::support::*;

/// Long enough for a test that hangs to be told from one that is slow.
const HANGS: Duration = Duration::from_secs(20);

/// Runs `test` on a thread of its own, so that one that hangs fails.
#[track_caller]
fn must_end(what: &str, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    assert!(ended.recv_timeout(HANGS).is_ok() || thread.is_finished(), "{what} hangs");
    thread.join().unwrap();
}

/// Sends the generation of each transition of the circuit.
fn generations(circuit: &Circuit) -> Receiver<u64> {
    let (tell, told) = mpsc::channel();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event {
            let _ = tell.send(transition.generation);
        }
    });
    told
}

#[test]
fn events_of_a_circuit_are_all_told_though_its_engine_is_wanted() {
    let store = store(fragile());
    let old = store.circuit("old");
    let (reached, is_told): (Sender<u64>, _) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    old.on_change(move |event| {
        if let Event::Transition(transition) = event {
            reached.send(transition.generation).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let permit = hold(&old);
    let telling = thread::spawn(move || permit.settle(tower_breaker::Outcome::failure()));
    assert_eq!(is_told.recv_timeout(HANGS), Ok(2), "it opens, and that is being told");
    drop(old.reset());
    drop((old, store));

    // The store and every handle are gone. New circuits must not take over what is being told.
    let new: Vec<_> = (0..50).map(|_| Store::in_memory().circuit("new")).collect();
    for circuit in &new {
        let told = generations(circuit);
        drop(circuit.disable("a test"));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [2], "told before the call returns");
    }
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    telling.join().unwrap();
    assert_eq!(is_told.try_iter().collect::<Vec<_>>(), [3]);
}

/// Looks at the circuit when it is woken, for which the engine's lock must be free.
struct Looks(Mutex<Option<Circuit>>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        if let Some(circuit) = &*self.0.lock().unwrap() {
            let _ = circuit.snapshot();
        }
    }
}

#[test]
fn who_waits_for_an_override_is_woken_without_a_lock() {
    must_end("a waker that looks at the circuit", || {
        paused(async {
            let store = Store::builder().backend(MemoryBackend::new()).build();
            let circuit = store.circuit("test");
            let waker = Arc::new(Looks(Mutex::new(Some(circuit.clone())))).into();
            let mut cx = Context::from_waker(&waker);
            let mut first = circuit.force_open("the first");
            assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_pending());
            // Nothing has run between: the first is replaced before anybody was told of it.
            let second = circuit.force_closed("the second");
            let answer = std::pin::Pin::new(&mut first).poll(&mut cx);
            assert!(matches!(answer, Poll::Ready(Err(_))), "{answer:?}");
            let mut third = second;
            assert!(std::pin::Pin::new(&mut third).poll(&mut cx).is_pending());
            // The end of the store drops what is still to be told.
            let _ = store.shutdown(s(1)).await;
        });
    });
}

#[test]
fn a_panic_payload_that_panics_silences_no_observer() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any("dropped");
        }
    }

    let circuit = circuit(Policy::builder());
    circuit.on_change(|_| std::panic::panic_any(Bomb));
    let told = generations(&circuit);
    drop(circuit.disable("a test"));
    drop(circuit.reset());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [2, 3]);
    assert_state(&circuit, State::Closed);
}

/// Panics when it is dropped.
struct DropBomb;

impl Drop for DropBomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            std::panic::panic_any("dropped");
        }
    }
}

#[test]
fn what_an_observer_captured_panics_in_no_call_of_others() {
    for _ in 0..10 {
        let store = store(fragile());
        let held = store.circuit("held");
        for circuit in [&held, &store.circuit("not held"), &store.circuit("nor this")] {
            let bomb = DropBomb;
            circuit.on_change(move |_| {
                let _ = &bomb;
            });
        }
        drop(store);
        drop(held);
    }
    for _ in 0..100 {
        succeed(&Store::in_memory().circuit("unrelated"));
    }
}

#[test]
fn a_waker_that_panics_silences_no_observer() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("woken");
        }
    }

    let circuit = circuit(fragile());
    let told = generations(&circuit);
    paused(async {
        let layer = tower_breaker::CircuitBreakerLayer::new(store(fragile())).wait_while_open();
        let inner = tower::service_fn(|(): ()| async { Err::<(), _>("down") });
        let layer = layer.classify(tower_breaker::ErrorsAsFailures);
        let mut service = tower::Layer::layer(&layer, inner);
        let told_too = generations(service.circuit());
        let _ = tower::ServiceExt::<()>::oneshot(service.clone(), ()).await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let waker = Arc::new(Panics).into();
        let mut panics = Context::from_waker(&waker);
        assert!(tower::Service::<()>::poll_ready(&mut service, &mut panics).is_pending());
        drop(service.circuit().reset());
        drop(service.circuit().disable("a test"));
        assert_eq!(told_too.try_iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert!(tower::Service::<()>::poll_ready(&mut service, &mut cx).is_ready());
    });
    fail(&circuit);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [2]);
}
