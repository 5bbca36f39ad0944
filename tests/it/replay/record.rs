//! Recordings of a store.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tower_breaker::event::Event;
use tower_breaker::replay::{Recorder, Replay};
use tower_breaker::{CircuitName, Outcome, State, Store};

use crate::support::{advance, fail, fragile, hold, ignore, ms, now, paused, s, succeed, times};

/// A writer whose text the test reads.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_call_is_recorded_with_when_it_ended_how_long_it_took_and_how() {
    paused(async {
        // A call that is measured for its latency is timed, whenever the recording began.
        let store = Store::builder().latency_sample(0).build();
        let early = store.circuit("early");
        let before = hold(&early);
        let text = Text::default();
        let recording = store.record(Recorder::new(text.clone())).unwrap();
        let late = store.circuit("la\"te");
        let keyed = store.keyed("hosts").circuit("a").unwrap();
        let held = hold(&early);
        advance(ms(1500)).await;
        held.settle(Outcome::Success);
        before.settle(Outcome::Success);
        fail(&late);
        ignore(&keyed);
        drop(hold(&keyed));
        early.disable("still recorded");
        times(2, succeed, &early);
        let recorded = recording.stop();
        succeed(&early);
        assert_eq!(
            text.read(),
            "{\"at\":1.500000000,\"took\":1.500000000,\"outcome\":\"success\",\"circuit\":\"early\"}\n\
             {\"at\":1.500000000,\"took\":0.000000000,\"outcome\":\"failure\",\"circuit\":\"la\\\"te\"}\n\
             {\"at\":1.500000000,\"took\":0.000000000,\"outcome\":\"ignored\",\"circuit\":\"hosts:a\"}\n\
             {\"at\":1.500000000,\"took\":0.000000000,\"outcome\":\"cancelled\",\"circuit\":\"hosts:a\"}\n\
             {\"at\":1.500000000,\"took\":0.000000000,\"outcome\":\"success\",\"circuit\":\"early\"}\n\
             {\"at\":1.500000000,\"took\":0.000000000,\"outcome\":\"success\",\"circuit\":\"early\"}\n",
        );
        assert_eq!((recorded.written, recorded.bytes), (6, text.read().len() as u64));
        assert_eq!((recorded.dropped, recorded.untimed, recorded.full), (0, 1, false));
        assert_eq!((recorded.ended, recorded.error), (true, None));
    });
}

#[test]
fn a_recording_changes_no_evidence_and_its_replay_has_the_same_transitions() {
    paused(async {
        let policy = fragile().failure_rate(0.5).minimum_calls(4).jitter(0.0).build().unwrap();
        let policy = policy.to_builder().without_consecutive_failures().build().unwrap();
        let live: Arc<Mutex<Vec<_>>> = Arc::default();
        let (seen, zero) = (live.clone(), now());
        let observer = move |_: &CircuitName, event: &Event| {
            if let Event::Transition(transition) = event {
                // A trace has no texts of failures.
                let mut transition = transition.clone();
                transition.last_error = None;
                seen.lock().unwrap().push((now() - zero, transition));
            }
        };
        let store = Store::builder().default_policy(policy.clone()).on_change(observer).build();
        let text = Text::default();
        let recording = store.record(Recorder::new(text.clone())).unwrap();
        let circuit = store.circuit("payments");
        for round in 0..3 {
            times(2, succeed, &circuit);
            assert_eq!(circuit.snapshot().tally.calls, 2);
            times(2, fail, &circuit);
            assert_eq!(circuit.state(), State::Open, "round {round}");
            advance(s(11)).await;
            succeed(&circuit);
            assert_eq!(circuit.state(), State::Closed);
        }
        assert_eq!(recording.stop().written, 15);
        let replayed = Replay::new(policy).read(text.read().as_bytes()).unwrap();
        let circuit = &replayed.policies[0].circuits[0];
        let transitions: Vec<_> =
            circuit.transitions.iter().map(|timed| (timed.at, timed.transition.clone())).collect();
        assert_eq!(transitions.len(), 9);
        assert_eq!(transitions, *live.lock().unwrap());
    });
}

#[test]
fn a_trace_that_is_full_ends_the_recording_and_another_may_begin() {
    let store = Store::in_memory();
    let circuit = store.circuit("payments");
    let text = Text::default();
    let recording = store.record(Recorder::new(text.clone()).max_bytes(200)).unwrap();
    let again = store.record(Recorder::new(Text::default())).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    while !recording.recorded().ended {
        succeed(&circuit);
    }
    let recorded = recording.recorded();
    assert!(recorded.full && recorded.written == 2 && recorded.bytes <= 200, "{recorded:?}");
    assert_eq!(text.read().lines().count(), 2);

    // The thread ends its recording just after it says so.
    let other = loop {
        if let Ok(other) = store.record(Recorder::new(Text::default())) {
            break other;
        }
    };
    drop(recording);
    succeed(&circuit);
    assert_eq!(other.stop().written, 1, "the first is no more concerned with the second");
}

/// A writer that waits until the test lets it write.
struct Slow(Receiver<()>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_writer_delays_no_call_and_what_does_not_fit_is_counted() {
    let (go, wait): (Sender<()>, _) = channel();
    let store = Store::in_memory();
    let circuit = store.circuit("payments");
    let recording = store.record(Recorder::new(Slow(wait)).queue(10)).unwrap();
    times(1_000, succeed, &circuit);
    assert_eq!(circuit.snapshot().tally.calls, 1_000);
    drop(go);
    let recorded = recording.stop();
    assert_eq!(recorded.written + recorded.dropped, 1_000);
    assert!(recorded.dropped > 0, "{recorded:?}");
}

struct Broken {
    panics: bool,
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        assert!(!self.panics, "a writer that panics");
        Err(io::Error::other("the disk is full"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_or_panics_ends_the_recording_and_no_call_fails() {
    let store = Store::in_memory();
    let circuit = store.circuit("payments");
    for (panics, error) in [(false, "the disk is full"), (true, "the writer panicked")] {
        let recording = loop {
            if let Ok(recording) = store.record(Recorder::new(Broken { panics })) {
                break recording;
            }
        };
        while !recording.recorded().ended {
            succeed(&circuit);
        }
        let recorded = recording.stop();
        assert_eq!(recorded.error.as_deref(), Some(error));
        succeed(&circuit);
    }
}

#[test]
fn a_recording_outlives_its_store_without_harm() {
    let store = Store::in_memory();
    succeed(&store.circuit("payments"));
    let recording = store.record(Recorder::new(Text::default())).unwrap();
    succeed(&store.circuit("payments"));
    drop(store);
    assert_eq!(recording.stop().written, 1);
}
