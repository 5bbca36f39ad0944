//! The log: `tracing` events with the target `tower_breaker`.
//!
//! The level says whether an operator must act. A circuit that opens is a warning, because the
//! upstream needs attention. A circuit that recovers, and an override, are information.

use tracing::{info, warn};

use super::BackendStatus;
use crate::backend::BackendError;
use crate::machine::{Event, Reason, State, Tally};
use crate::name::CircuitName;

pub(crate) fn trace(circuit: &CircuitName, event: &Event) {
    match event {
        Event::Transition(transition) => {
            let from = transition.from.as_str();
            let to = transition.to.as_str();
            let reason = transition.reason.as_str();
            let generation = transition.generation;
            let origin = transition.origin.as_str();
            let why = transition.reason.with(&transition.tally);
            if transition.to == State::Open && transition.reason != Reason::Override {
                let open_for_ms = transition.open_for.map_or(0, |wait| wait.as_millis());
                let Tally { calls, failures, slow_calls, consecutive_failures, unanswered, .. } =
                    transition.tally;
                warn!(
                    target: "tower_breaker",
                    %circuit, from, to, reason, origin, generation, open_for_ms,
                    calls, failures, slow_calls, consecutive_failures, unanswered,
                    "circuit \"{circuit}\" opened: {why}; probes in {:.1} s",
                    transition.open_for.unwrap_or_default().as_secs_f64(),
                );
            } else {
                info!(
                    target: "tower_breaker",
                    %circuit, from, to, reason, origin, generation,
                    "circuit \"{circuit}\" changed from {} to {}: {why}", transition.from, transition.to
                );
            }
        }
        Event::CallsCancelled { calls } => warn!(
            target: "tower_breaker",
            %circuit, calls,
            "circuit \"{circuit}\": {calls} calls in a row were cancelled or failed; if a timeout \
             outside the circuit breaker cancels them, put it inside, so that each counts as a \
             failure"
        ),
        Event::WouldTrip { reason } => warn!(
            target: "tower_breaker",
            %circuit, reason = reason.as_str(),
            "circuit \"{circuit}\" would have opened, but is metrics-only: its evidence meets \
             {reason}"
        ),
    }
}

pub(crate) fn second_policy(circuit: &CircuitName) {
    warn!(
        target: "tower_breaker",
        %circuit,
        "a second, different policy has no effect, because this circuit has one already; give \
         every layer with this name the same policy"
    );
}

pub(crate) fn backend(status: &BackendStatus) {
    match status {
        BackendStatus::Degraded { reason } => warn!(
            target: "tower_breaker",
            reason,
            "degraded: the backend does not answer; circuits of this replica decide without it"
        ),
        status => info!(target: "tower_breaker", %status, "recovered: the backend answers again"),
    }
}

pub(crate) fn backend_warning(warning: &str) {
    warn!(target: "tower_breaker", warning, "the backend answers, but its configuration is unsafe");
}

pub(crate) fn refused(circuit: &CircuitName, error: &BackendError) {
    warn!(
        target: "tower_breaker",
        %circuit, %error,
        "the backend refuses operations on this circuit, which decides without it and tries again"
    );
}

pub(crate) fn unnamed(circuit: &CircuitName) {
    warn!(
        target: "tower_breaker",
        %circuit,
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

pub(crate) fn unknown_variable(variable: &str) {
    warn!(target: "tower_breaker", variable, "unknown environment variable; check its spelling");
}
