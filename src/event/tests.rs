//! What the log says.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::layer::{Context, SubscriberExt};

use super::log;
use super::*;
use crate::backend::Impairment;
use crate::machine::{OverrideRecord, OverrideState, State};
use crate::name::CircuitName;

/// A line per event: its level, then its fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                write!(self.0, " {}={value:?}", field.name()).unwrap();
            }
        }
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

/// Returns what is logged.
fn logged(logs: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    tracing::subscriber::with_default(subscriber, logs);
    std::mem::take(&mut *lines.0.lock().unwrap())
}

fn traced(transition: Transition) -> String {
    let circuit = CircuitName::expect("payments");
    let lines = logged(|| log::trace(&circuit, &Event::Transition(transition)));
    lines.into_iter().next().unwrap()
}

fn transition(from: State, to: State, reason: Reason) -> Transition {
    Transition {
        from,
        to,
        reason,
        generation: 7,
        tally: Tally::default(),
        open_for: None,
        origin: Origin::Cluster,
        overridden: None,
        contributors: Arc::default(),
        last_error: None,
    }
}

fn record(reason: &str, actor: Option<&str>, remaining: Option<u64>) -> Arc<OverrideRecord> {
    Arc::new(OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: reason.to_owned(),
        actor: actor.map(ToOwned::to_owned),
        remaining: remaining.map(Duration::from_millis),
    })
}

#[track_caller]
fn assert_starts(line: &str, start: &str) {
    assert!(line.starts_with(start), "{line}\n{start}");
}

#[test]
fn an_override_is_logged_with_its_operator_its_reason_and_its_end() {
    let begin = |record| {
        let forced = transition(State::Closed, State::ForcedOpen, Reason::Override);
        traced(Transition { overridden: Some(record), ..forced })
    };
    let line = begin(record("their maintenance window", Some("alice"), Some(3_600_000)));
    assert_starts(
        &line,
        "INFO message=circuit \"payments\" is forced open by alice: \"their maintenance window\"; \
         ends in 3600 s circuit=payments from=\"closed\" to=\"forced_open\" reason=\"override\"",
    );
    let fields = "actor=\"alice\" override_reason=\"their maintenance window\" ends_in_ms=3600000";
    assert!(line.ends_with(fields), "{line}");
    assert_starts(
        &begin(record("", None, Some(1_512))),
        "INFO message=circuit \"payments\" is forced open; ends in 1.5 s circuit=",
    );
    assert_starts(
        &begin(record("a \"b\"", None, None)),
        "INFO message=circuit \"payments\" is forced open: \"a \\\"b\\\"\"; \
         lasts until an operator ends it circuit=",
    );
}

#[test]
fn the_end_of_an_override_says_what_is_in_force_again() {
    let mut over = transition(State::ForcedOpen, State::Open, Reason::OverrideOver);
    over.overridden = Some(record("maintenance", Some("alice"), Some(1_000)));
    over.open_for = Some(Duration::from_secs(20));
    let line = traced(over);
    assert_starts(
        &line,
        "INFO message=circuit \"payments\" changed from forced open to open: the override expired; \
         probes in 20.0 s circuit=",
    );
    assert!(line.ends_with("actor=\"alice\" override_reason=\"maintenance\""), "{line}");
}

#[test]
fn a_trip_of_the_cluster_is_logged_with_all_evidence_and_who_reported_it() {
    let mut trip = transition(State::Closed, State::Open, Reason::FailureRate);
    trip.tally = Tally { calls: 20, failures: 12, ..Tally::default() };
    trip.open_for = Some(Duration::from_secs(30));
    trip.contributors = Arc::from(["pod-1".to_owned(), "pod-2".to_owned()]);
    let line = traced(trip);
    assert_starts(
        &line,
        "WARN message=circuit \"payments\" opened: 12 of 20 calls failed; probes in 30.0 s; \
         reported by pod-1, pod-2 circuit=payments from=\"closed\" to=\"open\"",
    );
    assert!(line.ends_with("contributors=\"pod-1, pod-2\""), "{line}");
}

#[test]
fn text_from_outside_cannot_break_a_line() {
    let evil = "a\nWARN b\r\u{2028}\u{1b}[31m\"";
    let circuit = CircuitName::new(evil.to_owned()).unwrap();
    let mut forced = transition(State::Closed, State::ForcedOpen, Reason::Override);
    forced.overridden = Some(record(evil, Some(evil), None));
    let mut trip = transition(State::Closed, State::Open, Reason::FailureRate);
    trip.contributors = Arc::from([evil.to_owned()]);
    let impaired =
        BackendStatus::Impaired { what: vec![Impairment::NotPushed { cause: evil.to_owned() }] };
    let degraded = BackendStatus::Degraded { reason: evil.to_owned() };
    let lines = logged(|| {
        log::trace(&circuit, &Event::Transition(forced));
        log::trace(&circuit, &Event::Transition(trip));
        log::trace(&circuit, &Event::CallsCancelled { calls: 10 });
        log::trace(&circuit, &Event::WouldTrip { reason: Reason::FailureRate });
        log::second_policy(&circuit);
        log::unnamed(&circuit);
        log::refused(&circuit, evil);
        log::no_room(evil, 1, 1);
        log::no_key(evil, 1);
        log::unknown_variable(evil, None);
        log::configured(Some(evil), &evil);
        #[cfg(feature = "admin")]
        log::operated(evil, "reset", Some(&circuit));
        log::backend(&BackendStatus::Connected, &impaired);
        log::backend(&impaired, &degraded);
    });
    assert_eq!(lines.len(), 13 + usize::from(cfg!(feature = "admin")));
    for line in lines {
        let breaks = |c: char| c.is_control() || c == '\u{2028}';
        assert!(!line.contains(breaks), "{line:?}");
    }
}

#[test]
fn each_impairment_is_logged_when_it_begins_and_when_it_ends() {
    let pushed = Impairment::NotPushed { cause: "denied".to_owned() };
    let detached = |circuits| Impairment::CircuitsDetached { circuits, cause: "OOM".to_owned() };
    let impaired = |what: &[Impairment]| BackendStatus::Impaired { what: what.to_vec() };
    let degraded = BackendStatus::Degraded { reason: "timeout".to_owned() };
    let still_degraded = BackendStatus::Degraded { reason: "refused".to_owned() };
    let history = [
        BackendStatus::Connecting,
        BackendStatus::Connected,
        impaired(std::slice::from_ref(&pushed)),
        impaired(&[pushed.clone(), detached(1)]),
        impaired(&[pushed, detached(2)]),
        impaired(&[detached(3)]),
        BackendStatus::Connected,
        degraded,
        still_degraded,
        impaired(&[detached(4)]),
        BackendStatus::Connected,
        BackendStatus::Closed,
    ];
    let mut lines = Vec::new();
    let mut from = BackendStatus::None;
    for to in history {
        lines.push(logged(|| log::backend(&from, &to)).len());
        assert_eq!(logged(|| log::backend(&to, &to)), Vec::<String>::new());
        from = to;
    }
    assert_eq!(lines, [1, 1, 1, 1, 0, 1, 1, 1, 0, 2, 1, 1]);
    let begins = logged(|| log::backend(&BackendStatus::Connected, &impaired(&[detached(1)])));
    assert_eq!(begins, ["WARN message=impaired: 1 circuit is detached: OOM cause=\"OOM\""]);
    let ends = logged(|| log::backend(&impaired(&[detached(2)]), &BackendStatus::Connected));
    assert_eq!(ends, ["INFO message=no longer impaired: 2 circuits are detached: OOM"]);
}

#[test]
fn a_status_says_what_is_impaired() {
    let what = vec![
        Impairment::NotPushed { cause: "denied".to_owned() },
        Impairment::Unsafe { cause: "keys may be evicted".to_owned() },
    ];
    let status = BackendStatus::Impaired { what };
    let text = "impaired: changes are not pushed: denied; keys may be evicted";
    assert_eq!(status.to_string(), text);
    assert!(status.is_connected() && !status.is_degraded());
    assert_eq!(status.impairments().len(), 2);
    for status in [BackendStatus::None, BackendStatus::Connecting, BackendStatus::Closed] {
        assert!(!status.is_connected() && !status.is_degraded(), "{status}");
    }
}
