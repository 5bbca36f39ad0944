//! The log: `tracing` events with the target `tower_breaker`.
//!
//! The level says whether an operator must act. A circuit that opens is a warning, because the
//! upstream needs attention. A circuit that recovers, and an override, are information.
//!
//! Names, reasons and errors come from outside. [`Escaped`] and quotes keep each event on its line.

use std::fmt;
use std::time::Duration;

use tracing::{info, warn};

use super::BackendStatus;
use crate::machine::{Event, OverrideRecord, Reason, State, Tally, Transition};
use crate::name::CircuitName;

pub(crate) fn trace(circuit: &CircuitName, event: &Event) {
    let name = Escaped(circuit.as_str());
    match event {
        Event::Transition(transition) if is_alarm(transition) => opened(&name, transition),
        Event::Transition(transition) => changed(&name, transition),
        Event::CallsCancelled { calls } => warn!(
            target: "tower_breaker",
            circuit = %name, calls,
            "circuit \"{name}\": {calls} calls in a row were cancelled or failed; if a timeout \
             outside the circuit breaker cancels them, put it inside, so that each counts as a \
             failure"
        ),
        Event::WouldTrip { reason } => warn!(
            target: "tower_breaker",
            circuit = %name, reason = reason.as_str(),
            "circuit \"{name}\" would have opened, but is metrics-only: its evidence meets {reason}"
        ),
    }
}

/// Returns whether the circuit opened by itself.
fn is_alarm(transition: &Transition) -> bool {
    transition.to == State::Open
        && !matches!(transition.reason, Reason::Override | Reason::OverrideOver)
}

fn opened(circuit: &Escaped<'_>, transition: &Transition) {
    let Transition { from, to, reason, generation, tally, open_for, origin, .. } = transition;
    let Tally { calls, failures, slow_calls, consecutive_failures, unanswered } = tally;
    let open_for = open_for.unwrap_or_default();
    let contributors = names(&transition.contributors);
    let error = transition.last_error.as_deref().map(|error| Escaped(error).to_string());
    let last = Clause("; last failure: ", error.as_deref());
    warn!(
        target: "tower_breaker",
        %circuit, from = from.as_str(), to = to.as_str(), reason = reason.as_str(),
        origin = origin.as_str(), generation, open_for_ms = open_for.as_millis(),
        calls, failures, slow_calls, consecutive_failures, unanswered,
        contributors = contributors.as_deref(), last_error = error.as_deref(),
        "circuit \"{circuit}\" opened: {}{last}; probes in {:.1} s{}",
        reason.with(tally),
        open_for.as_secs_f64(),
        Clause("; reported by ", contributors.as_deref()),
    );
}

fn changed(circuit: &Escaped<'_>, transition: &Transition) {
    let Transition { from, to, reason, generation, tally, open_for, origin, .. } = transition;
    let record = transition.overridden.as_deref();
    let text = match record {
        Some(record) if to.is_overridden() => began(*to, record),
        _ if (*from, *to) == (State::Open, State::Open) => {
            "probes with its next call: an operator ended the open interval".to_owned()
        }
        _ => {
            let wait = open_for.map(|wait| format!("{:.1} s", wait.as_secs_f64()));
            let wait = Clause("; probes in ", wait.as_deref());
            format!("changed from {from} to {to}: {}{wait}", reason.with(tally))
        }
    };
    let lasts = record.filter(|_| to.is_overridden()).and_then(|record| record.remaining);
    info!(
        target: "tower_breaker",
        %circuit, from = from.as_str(), to = to.as_str(), reason = reason.as_str(),
        origin = origin.as_str(), generation,
        actor = record.and_then(|record| record.actor.as_deref()),
        override_reason = record.map(|record| record.reason.as_str()),
        ends_in_ms = lasts.map(|lasts| lasts.as_millis()),
        "circuit \"{circuit}\" {text}"
    );
}

/// Describes an override that began: `is forced open by alice: "maintenance"; ends in 3600 s`.
fn began(state: State, record: &OverrideRecord) -> String {
    let actor = record.actor.as_deref().map(|actor| Escaped(actor).to_string());
    let reason = Some(&record.reason).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!("{reason:?}"));
    let end = record.remaining.map_or("lasts until an operator ends it".to_owned(), |remaining| {
        format!("ends in {} s", tenths(remaining))
    });
    let (actor, reason) = (Clause(" by ", actor.as_deref()), Clause(": ", reason.as_deref()));
    format!("is {state}{actor}{reason}; {end}")
}

/// Returns the seconds, with one decimal if it is not zero.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// Returns the names of replicas, or `None` if there are none.
fn names(replicas: &[String]) -> Option<String> {
    let names: Vec<_> = replicas.iter().map(|name| Escaped(name).to_string()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Part of a sentence, if there is something to say.
struct Clause<'a>(&'static str, Option<&'a str>);

impl fmt::Display for Clause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(start, what) = self;
        what.map_or(Ok(()), |what| write!(f, "{start}{what}"))
    }
}

/// Text from outside, with everything escaped that could break a line or end a quotation.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = format!("{:?}", self.0);
        f.write_str(&quoted[1..quoted.len() - 1])
    }
}

pub(crate) fn second_policy(circuit: &CircuitName) {
    warn!(
        target: "tower_breaker",
        circuit = %Escaped(circuit.as_str()),
        "a second, different policy has no effect, because this circuit has one already; give \
         every layer with this name the same policy"
    );
}

/// Logs a change of the status: what began, and what ended.
pub(crate) fn backend(from: &BackendStatus, to: &BackendStatus) {
    let (before, after) = (from.impairments(), to.impairments());
    match to {
        _ if from == to => {}
        BackendStatus::None => {}
        BackendStatus::Connecting => info!(
            target: "tower_breaker",
            "connecting to the backend; until then, circuits of this replica decide without it"
        ),
        BackendStatus::Degraded { .. } if from.is_degraded() => {}
        BackendStatus::Degraded { reason } => warn!(
            target: "tower_breaker",
            reason,
            "degraded: the backend does not answer: {}; circuits of this replica decide without it \
             until it does",
            Escaped(reason)
        ),
        BackendStatus::Closed => info!(
            target: "tower_breaker",
            "closed: the store uses its backend no more; its circuits decide without it"
        ),
        BackendStatus::Connected | BackendStatus::Impaired { .. } => {
            if from.is_degraded() {
                info!(target: "tower_breaker", "recovered: the backend answers again");
            } else if !from.is_connected() {
                info!(target: "tower_breaker", "connected: the backend answers");
            }
            for impairment in before.iter().filter(|known| !known.is_among(after)) {
                let text = impairment.to_string();
                let text = Escaped(&text);
                info!(target: "tower_breaker", "no longer impaired: {text}");
            }
            for impairment in after.iter().filter(|new| !new.is_among(before)) {
                let text = impairment.to_string();
                let text = Escaped(&text);
                let cause = impairment.cause();
                warn!(target: "tower_breaker", cause, "impaired: {text}");
            }
        }
    }
}

pub(crate) fn refused(circuit: &CircuitName, error: &str) {
    warn!(
        target: "tower_breaker",
        circuit = %Escaped(circuit.as_str()), error = %Escaped(error),
        "the backend refuses operations on this circuit, which decides without it and tries again"
    );
}

pub(crate) fn unnamed(circuit: &CircuitName) {
    warn!(
        target: "tower_breaker",
        circuit = %Escaped(circuit.as_str()),
        "this layer has no name, so its circuit is not shared with other replicas; name it with \
         `named`"
    );
}

/// Logs that `calls` with new keys have passed without a circuit.
pub(crate) fn no_room(layer: &str, limit: usize, calls: u64) {
    warn!(
        target: "tower_breaker",
        layer, limit, calls,
        "key limit reached, and every circuit examined is in use or overridden; calls with new \
         keys pass through uncounted; raise `key_limit`"
    );
}

/// Logs that `calls` have had no key.
pub(crate) fn no_key(layer: &str, calls: u64) {
    warn!(
        target: "tower_breaker",
        layer, calls,
        "requests had no usable key, so no circuit counts them; check what the layer takes the key \
         from"
    );
}

/// Logs that settings of the configuration cannot change a policy of the code.
pub(crate) fn configured(circuit: Option<&str>, error: &dyn fmt::Display) {
    let circuit = circuit.map(|name| Escaped(name).to_string());
    let error = error.to_string();
    let error = Escaped(&error);
    warn!(
        target: "tower_breaker",
        circuit = circuit.as_deref(), %error,
        "the settings of the configuration do not fit the policy in the code, so they change the \
         default policy instead; set `preset` with them"
    );
}

/// Logs what an operator has done through the admin endpoint. Resets and policies have no other
/// record of the operator.
#[cfg(feature = "admin")]
pub(crate) fn operated(operator: &str, what: &str, circuit: Option<&CircuitName>) {
    let operator: String = operator.chars().take(512).collect();
    let operator = Escaped(&operator);
    if let Some(circuit) = circuit.map(|name| Escaped(name.as_str())) {
        info!(
            target: "tower_breaker",
            %circuit, %operator, what,
            "operator \"{operator}\" {what} circuit \"{circuit}\""
        );
    } else {
        info!(
            target: "tower_breaker",
            %operator, what,
            "operator \"{operator}\" {what} all circuits that were not closed"
        );
    }
}

pub(crate) fn unknown_variable(variable: &str, nearest: Option<&str>) {
    let variable: String = variable.chars().take(256).collect();
    let variable = Escaped(&variable);
    let meant = Clause("; did you mean ", nearest);
    warn!(
        target: "tower_breaker",
        %variable, nearest,
        "unknown environment variable {variable}; check its spelling{meant}"
    );
}
