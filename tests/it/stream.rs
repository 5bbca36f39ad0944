//! The stream of what happens in a store.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::unconstrained;
use tower_breaker::event::{BackendStatus, Event, Events, Reason, StoreEvent};
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, Outcome, State, Store};

use crate::support::faulty::{Faulty, Gap};
use crate::support::network::Network;
use crate::support::*;

/// What is there, without waiting.
fn received(events: &mut Events) -> Vec<StoreEvent> {
    let mut context = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Some(event)) = pin!(unconstrained(events.recv())).poll(&mut context) {
        all.push(event);
    }
    all
}

/// In one line each.
fn lines(events: &[StoreEvent]) -> Vec<String> {
    let line = |event: &StoreEvent| match event {
        StoreEvent::Circuit { name, event: Event::Transition(change) } => {
            format!("{name}: {change}")
        }
        StoreEvent::Circuit { name, event } => format!("{name}: {event:?}"),
        StoreEvent::Backend(status) => format!("backend {status}"),
        other => format!("{other:?}"),
    };
    events.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_receiver_gets_the_events_of_every_circuit_in_order() {
    let store = store(fragile());
    let early = store.circuit("early");
    let mut events = store.events();
    fail(&early);
    store.circuit("late").metrics_only("trying");
    fail(&store.circuit("late"));
    assert_eq!(
        lines(&received(&mut events)),
        [
            "early: closed -> open: 1 failure; probes in 10.0 s",
            "late: closed -> metrics-only: an operator acted",
            "late: WouldTrip { reason: ConsecutiveFailures }",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_override_has_its_reason_its_operator_and_its_duration() {
    let store = store(fragile());
    let mut events = store.events();
    let wild = "<script>\n\u{1b}[31m";
    let r#override = Override::force_open(wild).actor(wild).lasting(s(60));
    store.circuit("payments").set_override(r#override);
    advance(s(61)).await;
    assert_state(&store.circuit("payments"), State::ForcedOpen);
    assert_eq!(store.circuit("payments").snapshot().state, State::Closed);
    let events = received(&mut events);
    let [
        StoreEvent::Circuit { event: Event::Transition(began), .. },
        StoreEvent::Circuit { event: Event::Transition(ended), .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    let record = began.overridden.as_ref().unwrap();
    assert_eq!((record.reason.as_str(), record.actor.as_deref()), (wild, Some(wild)));
    assert_eq!((record.remaining, ended.reason), (Some(s(60)), Reason::OverrideOver));
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_gets_the_number_of_events_that_it_missed() {
    let store = store(fragile());
    let mut events = store.events();
    let circuit = store.circuit("payments");
    for n in 0..1_030 {
        circuit.disable(n.to_string());
    }
    let all = received(&mut events);
    assert_eq!(all[0], StoreEvent::Missed { events: 6 });
    assert_eq!(all.len(), 1_025);
    // Another one, which begins now, has missed nothing.
    let mut other = store.events();
    circuit.disable("again");
    assert_eq!((received(&mut events).len(), received(&mut other).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_the_store() {
    let store = store(fragile());
    let mut events = store.events();
    store.circuit("payments").force_open("test");
    drop(store);
    assert_eq!(received(&mut events).len(), 1);
    assert_eq!(events.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_gets_every_change_of_the_status_of_the_backend() {
    let line = Faulty::new(0, 0, Network::new(7, false));
    let store = store_on(line.clone(), fragile()).build();
    let mut events = store.events();
    tokio::time::sleep(s(1)).await;
    line.cut();
    tokio::time::sleep(s(5)).await;
    line.heal(Gap::Notified);
    tokio::time::sleep(s(5)).await;
    let statuses: Vec<_> = received(&mut events)
        .into_iter()
        .map(|event| match event {
            StoreEvent::Backend(status) => status,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        matches!(
            &statuses[..],
            [BackendStatus::Connected, BackendStatus::Degraded { .. }, BackendStatus::Connected]
        ),
        "{statuses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_limit_that_is_reached_is_an_event_at_most_once_a_minute() {
    let store = Store::builder().key_limit(1).build();
    let mut events = store.events();
    let hosts = store.keyed("outbound");
    let held = hosts.circuit("a").unwrap();
    assert!(hosts.circuit("b").is_none() && hosts.circuit("c").is_none());
    advance(s(61)).await;
    assert!(hosts.circuit("d").is_none());
    drop(held);
    let reached = |calls| StoreEvent::KeyLimitReached {
        layer: "outbound".try_into().unwrap(),
        limit: 1,
        calls,
    };
    assert_eq!(received(&mut events), [reached(1), reached(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_receivers_waker_may_use_the_circuit_and_may_panic() {
    struct Wakes(tower_breaker::Circuit);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            // Under a lock, this would hang.
            assert!(self.0.snapshot().generation >= 2);
            panic!("as asked");
        }
    }
    must_end(|| {
        let store = store(fragile());
        let mut events = store.events();
        let circuit = store.circuit("payments");
        let waker = Waker::from(Arc::new(Wakes(circuit.clone())));
        let mut next = Box::pin(async move { events.recv().await });
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        circuit.try_acquire().unwrap().settle(Outcome::failure());
        assert_state(&circuit, State::Open);
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    });
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn an_event_of_the_stream_is_one_object_as_data() {
    use serde_json::{from_value, json, to_value};

    let store = store(fragile());
    let mut events = store.events();
    fail(&store.circuit("a\n<b>"));
    let event = received(&mut events).remove(0);
    let data = to_value(&event).unwrap();
    assert_eq!(
        (&data["kind"], &data["name"], &data["event"], &data["to"]),
        (&json!("circuit"), &json!("a\n<b>"), &json!("transition"), &json!("open"))
    );
    assert_eq!(from_value::<StoreEvent>(data).unwrap(), event);
    let status = StoreEvent::Backend(BackendStatus::Closed);
    assert_eq!(to_value(&status).unwrap(), json!({ "kind": "backend", "status": "closed" }));
    let missed = StoreEvent::Missed { events: 3 };
    assert_eq!(to_value(&missed).unwrap(), json!({ "kind": "missed", "events": 3 }));
}

fn rejections(name: &str, calls: u64, within: Duration) -> StoreEvent {
    StoreEvent::Rejections { name: name.to_owned().try_into().unwrap(), calls, within }
}

fn reject(n: u64, circuit: &Circuit) {
    (0..n).for_each(|_| drop(rejected(circuit)));
}

#[tokio::test(start_paused = true)]
async fn rejections_come_once_a_second_for_each_circuit() {
    let store = store(fragile());
    let [one, other] = ["one", "other"].map(|name| store.circuit(name));
    one.force_open("test");
    other.force_open("test");
    reject(9, &one);
    let mut events = store.events().with_rejections();
    assert_eq!(received(&mut events), [], "those before are not among them");
    reject(3, &one);
    advance(ms(999)).await;
    assert_eq!(received(&mut events), []);
    reject(4, &one);
    reject(1, &other);
    let began = now();
    let mut found = vec![events.recv().await.unwrap(), events.recv().await.unwrap()];
    assert!(began.elapsed() <= ms(2), "it wakes by itself");
    found.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(found, [rejections("one", 7, s(1)), rejections("other", 1, s(1))]);
    let late = store.keyed("late").circuit("a").unwrap();
    late.force_open("test");
    assert_eq!(received(&mut events).len(), 1, "what happens comes at once");
    reject(2, &late);
    advance(s(3)).await;
    assert_eq!(received(&mut events), [rejections("late:a", 2, s(3))]);
    assert_eq!(received(&mut events), []);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_with_rejections_ends_with_its_store() {
    let store = store(fragile());
    let mut events = store.events().with_rejections();
    drop(store);
    assert_eq!(events.recv().await, None);
}
