//! A circuit as the backend describes it, as text and as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use tower_breaker::backend::{RecordState, View};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::OverrideRecord;
use tower_breaker::{CircuitName, State};

use crate::print::text;

/// The view after some time, if nothing has changed: what remains is less, and an override whose time
/// is over has ended.
pub(crate) fn aged(view: &View, by: Duration) -> View {
    let mut view = view.clone();
    match &mut view.state {
        RecordState::Closed => {}
        RecordState::Open { remaining, .. } => *remaining = remaining.saturating_sub(by),
        RecordState::HalfOpen { next_expiry, .. } => {
            *next_expiry = next_expiry.map(|left| left.saturating_sub(by));
        }
    }
    if let Some(record) = &mut view.overridden.record {
        record.remaining = record.remaining.map(|left| left.saturating_sub(by));
        if record.remaining.is_some_and(|left| left.is_zero()) {
            view.overridden.record = None;
        }
    }
    view
}

/// A duration for people: `9m 5s`, `1.2s`.
pub(crate) fn span(time: Duration) -> String {
    if time >= Duration::from_secs(10) {
        humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
    } else {
        format!("{:.1}s", time.as_secs_f64())
    }
}

/// What the state is based on, in one line.
pub(crate) fn details(view: &View) -> String {
    let mut parts = Vec::new();
    if let Some(record) = &view.overridden.record {
        parts.push(overridden(record));
        if view.state.state() != State::Closed {
            parts.push(format!("beneath it: {}", view.state.state()));
        }
    }
    match &view.state {
        RecordState::Closed if view.suspect.is_some() => {
            parts.push(suspicion(&view.tally));
        }
        RecordState::Closed => {}
        RecordState::Open { remaining, terms } => {
            let reason = view.reason.map_or_else(String::new, |why| why_open(why, &view.tally));
            parts.push(reason);
            parts.push(if remaining.is_zero() {
                "the next call is a probe".to_owned()
            } else {
                format!("probes in {}", span(*remaining))
            });
            if terms.reopenings > 0 {
                parts.push(format!("opened again {} times", terms.reopenings));
            }
        }
        RecordState::HalfOpen { terms, passed, out, .. } => {
            let needed = terms.successes_to_close;
            parts.push(format!("{out} probes out, {passed} of {needed} have succeeded"));
        }
    }
    parts.extend(last_error(view.last_error.as_deref()));
    if view.votes > 0 {
        parts.push(format!("{} votes for opening", view.votes));
    }
    parts.extend(failures_on(&view.contributors));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// Which replicas had failures.
pub(crate) fn failures_on(contributors: &[String]) -> Option<String> {
    let names: Vec<_> = contributors.iter().map(|name| text(name)).collect();
    (!names.is_empty()).then(|| format!("failures on {}", names.join(", ")))
}

/// The last failure in the evidence.
pub(crate) fn last_error(error: Option<&str>) -> Option<String> {
    error.map(|error| format!("last error: {}", text(error)))
}

pub(crate) fn overridden(record: &OverrideRecord) -> String {
    let actor = record.actor.as_ref().map(|actor| format!(" by {}", text(actor)));
    let remaining = record.remaining.map(|left| format!(", {} left", span(left)));
    let (actor, remaining) = (actor.unwrap_or_default(), remaining.unwrap_or_default());
    format!("override{actor}{remaining}: {}", text(&record.reason))
}

pub(crate) fn why_open(reason: Reason, tally: &Tally) -> String {
    let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = tally;
    match reason {
        Reason::ConsecutiveFailures => format!("{consecutive_failures} consecutive failures"),
        Reason::FailureRate | Reason::FailureCount => format!("{failures} of {calls} calls failed"),
        Reason::SlowCallRate => format!("{slow_calls} of {calls} calls were slow"),
        Reason::NoCompletions => {
            format!("{unanswered} calls in a row were cancelled or failed")
        }
        other => other.as_str().replace('_', " "),
    }
}

/// That failures add up. What is pushed has no totals.
pub(crate) fn suspicion(tally: &Tally) -> String {
    let counted = (*tally != Tally::default()).then(|| format!(", {}", counted(tally)));
    format!("suspect: failures add up{}", counted.unwrap_or_default())
}

pub(crate) fn counted(tally: &Tally) -> String {
    let Tally { calls, failures, slow_calls, consecutive_failures, .. } = tally;
    format!(
        "{failures} of {calls} calls failed, {slow_calls} slow, {consecutive_failures} consecutive \
         failures"
    )
}

/// A view as JSON. Times are in milliseconds, and what does not apply is null.
pub(crate) fn as_json(name: &CircuitName, view: &View) -> Value {
    let (remaining, probes) = match &view.state {
        RecordState::Closed => (None, None),
        RecordState::Open { remaining, .. } => (Some(millis(*remaining)), None),
        RecordState::HalfOpen { terms, passed, out, .. } => {
            let needed = terms.successes_to_close;
            (None, Some(json!({ "out": out, "passed": passed, "needed": needed })))
        }
    };
    let record = view.overridden.record.as_ref().map(|record| {
        json!({
            "state": record.state.state().as_str(),
            "reason": record.reason,
            "actor": record.actor,
            "remaining_ms": record.remaining.map(millis),
        })
    });
    json!({
        "circuit": name.as_str(),
        "state": view.shown_state().as_str(),
        "record_state": view.state.state().as_str(),
        "generation": view.generation,
        "reason": view.reason.map(Reason::as_str),
        "tally": tally(&view.tally),
        "suspect": view.suspect.is_some(),
        "votes": view.votes,
        "contributors": view.contributors,
        "last_error": view.last_error,
        "probes_in_ms": remaining,
        "probes": probes,
        "override": record,
    })
}

pub(crate) fn tally(tally: &Tally) -> Value {
    json!({
        "calls": tally.calls,
        "failures": tally.failures,
        "slow_calls": tally.slow_calls,
        "consecutive_failures": tally.consecutive_failures,
        "unanswered": tally.unanswered,
    })
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
