//! What happens, as log events of the target `tower_breaker`.
//!
//! The level says who must act: a circuit that opens is a warning, for somebody should look at the
//! upstream; that it recovers, or that a hand has set its state, is for the record.

use tracing::{info, warn};

use crate::machine::{Event, Reason, State, Tally};
use crate::name::Name;

pub(crate) fn trace(circuit: &Name, event: &Event) {
    match event {
        Event::Transition(transition) => {
            let from = transition.from.as_str();
            let to = transition.to.as_str();
            let reason = transition.reason.as_str();
            let generation = transition.generation;
            if transition.to == State::Open && transition.reason != Reason::ByHand {
                let open_for_ms = transition.open_for.map_or(0, |wait| wait.as_millis());
                let Tally { calls, failures, slow_calls, consecutive_failures, .. } =
                    transition.tally;
                warn!(
                    target: "tower_breaker",
                    %circuit, from, to, reason, generation, open_for_ms,
                    calls, failures, slow_calls, consecutive_failures,
                    "circuit opened"
                );
            } else {
                info!(
                    target: "tower_breaker",
                    %circuit, from, to, reason, generation,
                    "circuit changed its state"
                );
            }
        }
        Event::WouldTrip { reason } => warn!(
            target: "tower_breaker",
            %circuit, reason = reason.as_str(),
            "circuit would have opened, but is metrics-only"
        ),
    }
}

pub(crate) fn second_policy(circuit: &Name) {
    warn!(
        target: "tower_breaker",
        %circuit,
        "a second, different policy was given for this circuit; the first one holds"
    );
}
