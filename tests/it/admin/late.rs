//! A backend that answers late, or pushes nothing.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::sleep;
use tower_breaker::admin::{AdminService, Operator};
use tower_breaker::backend::{
    Answer, Backend, Batch, Changes, Group, Heartbeat, Lease, MemoryBackend, Move, Notice,
    OverrideChange, Probed, ReplicaInfo, Roster, Sender, View, read as view,
};
use tower_breaker::overrides::Override;
use tower_breaker::{CircuitName, State};

use super::client::{Stream, get, read, write};
use crate::support::log::Log;
use crate::support::*;

/// It stores each override at once. The answer takes 100 ms, and 5 s for a circuit that is called
/// late.
#[derive(Clone, Debug)]
struct Late {
    backend: MemoryBackend,
    /// What `subscribe` returns, if not what the backend pushes.
    mute: Option<broadcast::Sender<Notice>>,
}

impl Backend for Late {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        self.backend.sync(group, batch)
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.backend.transition(circuit, from, to)
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        self.backend.acquire_probe(circuit, generation, nonce)
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.backend.settle_probe(circuit, lease, result)
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.backend.restore(circuit, view)
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        Box::pin(async move {
            let view = self.backend.set_override(circuit, change).await;
            sleep(if circuit.as_str().starts_with("late") { s(5) } else { ms(100) }).await;
            view
        })
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.backend.heartbeat(heartbeat)
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.backend.replicas()
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.backend.watch()
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        self.backend.publish(sender, circuits)
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        let mute = self.mute.as_ref().map(broadcast::Sender::subscribe);
        mute.unwrap_or_else(|| self.backend.subscribe())
    }
}

fn name(name: &str) -> CircuitName {
    CircuitName::new(name.to_owned()).unwrap()
}

async fn force_open(backend: &MemoryBackend, circuit: &str, set: Override) {
    backend.set_override(&name(circuit), &OverrideChange::Set(set.into())).await.unwrap();
}

fn service(backend: &MemoryBackend) -> AdminService {
    AdminService::of_backend(Late { backend: backend.clone(), mute: None })
        .authorise(|_| async { Ok(Operator::new("alice")) })
}

#[tokio::test(start_paused = true)]
async fn reset_of_all_lists_what_the_backend_has_acknowledged_within_a_second() {
    let backend = MemoryBackend::new();
    let admin = service(&backend);
    for n in 0..100 {
        force_open(&backend, &format!("quick {n:02}"), Override::force_open("x")).await;
    }
    let start = now();
    let all = json!({ "all": true });
    let reset = write(&admin, "/api/reset", &all).await.json();
    assert!(start.elapsed() <= s(1), "{:?}", start.elapsed());
    assert_eq!(reset["reset"].as_array().unwrap().len(), 100);
    assert_eq!((&reset["failed"], &reset["acknowledged"]), (&json!([]), &json!(true)));

    for circuit in ["late a", "late b", "quick"] {
        force_open(&backend, circuit, Override::force_open("x")).await;
    }
    let start = now();
    let reset = write(&admin, "/api/reset", &all).await.json();
    assert_eq!(start.elapsed(), s(1));
    let failed = json!(["late a", "late b"]);
    assert_eq!(reset, json!({ "reset": ["quick"], "failed": failed, "acknowledged": false }));

    force_open(&backend, "late a", Override::force_open("x")).await;
    let answer = write(&admin, "/api/reset", &all).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let text = "not acknowledged: the change may be in force or not: no answer within 1s";
    assert_eq!(answer.error(), text);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_acknowledged_says_so_and_is_logged() {
    let backend = MemoryBackend::new();
    let admin = service(&backend);
    let log = Log::default();
    let _listening = log.listen();
    let set = json!({ "state": "forced_open", "reason": "x" });
    let path = "/api/circuits/late/override";
    let answer = write(&admin, path, &set).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.error().starts_with("not acknowledged: the change may be in force or not"));
    assert_eq!(view(&backend, &name("late")).await.unwrap().shown_state(), State::ForcedOpen);
    // A client that hangs up.
    assert!(tokio::time::timeout(ms(50), write(&admin, path, &set)).await.is_err());
    let says = [
        "INFO message=operator \"alice\" asks to override circuit \"late\"",
        "INFO message=operator \"alice\" asked, without acknowledgement, to override circuit \
         \"late\"",
        "INFO message=operator \"alice\" asks to override circuit \"late\"",
    ];
    let lines = log.lines();
    assert_eq!(lines.len(), says.len(), "{lines:?}");
    for (line, says) in lines.iter().zip(says) {
        assert!(line.starts_with(says), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transition_that_another_request_has_read_is_in_the_stream() {
    let backend = MemoryBackend::new();
    let mute = Some(broadcast::Sender::new(8));
    let admin = AdminService::of_backend(Late { backend: backend.clone(), mute });
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    sleep(s(2)).await;
    force_open(&backend, "payments", Override::force_open("x")).await;
    assert_eq!(get(&admin, "/api/ready").await.status, StatusCode::OK);
    assert_eq!(read(&admin, "/api/overview").await["circuits"][0]["state"], "forced_open");
    let start = now();
    let moved = stream.next("transition").await.data;
    assert_eq!(
        (&moved["name"], &moved["transition"]["to"]),
        (&json!("payments"), &json!("forced_open"))
    );
    assert!(start.elapsed() <= s(1), "{:?}", start.elapsed());
    assert_eq!(stream.circuit("payments").await["state"], "forced_open");
}

#[tokio::test(start_paused = true)]
async fn an_override_is_shown_no_longer_than_it_lasts() {
    let backend = MemoryBackend::new();
    let admin = service(&backend);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    force_open(&backend, "payments", Override::force_open("x").lasting(ms(2_300))).await;
    let start = now();
    assert_eq!(stream.circuit("payments").await["state"], "forced_open");
    assert_eq!(stream.next("gone").await.data, json!(["payments"]));
    assert!((ms(2_300)..=ms(2_320)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(read(&admin, "/api/overview").await["circuits"], json!([]));
    assert_eq!(read(&admin, "/api/circuits/payments").await["override"], Value::Null);
}
