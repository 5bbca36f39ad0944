//! The circuits of a backend, as the service shows them.

use std::time::Duration;

use super::views::Viewed;
use super::wire::{Circuit, Overridden, Probes, Said, Samples, Why, millis};
use crate::backend::{RecordState, View};
use crate::event::{Origin, Transition};
use crate::health::CircuitHealth;
use crate::machine::State;
use crate::name::CircuitName;

/// Returns a circuit without samples, with what replicas say of it.
pub(super) fn circuit(name: &CircuitName, viewed: &Viewed, said: (Vec<Said>, usize)) -> Circuit {
    let (view, age) = (&viewed.view, viewed.age());
    let state = view.shown_state();
    let (mut retry_after, mut probes, mut reopenings) = (None, None, 0);
    match &view.state {
        RecordState::Closed => {}
        RecordState::Open { terms, remaining } => {
            retry_after = (state == State::Open).then(|| remaining.saturating_sub(age));
            reopenings = terms.reopenings;
        }
        RecordState::HalfOpen { terms, passed, out, .. } => {
            let needed = terms.successes_to_close;
            probes = Some(Probes { out: *out, passed: *passed, needed });
            reopenings = terms.reopenings;
        }
    }
    let rejects = match state {
        State::ForcedOpen => true,
        State::Open => retry_after.is_some_and(|left| !left.is_zero()),
        State::HalfOpen => is_full(view),
        _ => false,
    };
    let overridden = view.overridden.record.clone().map(|record| {
        let remaining = record.remaining.map(|left| left.saturating_sub(age));
        Overridden::new(record.state, record.reason, record.actor, remaining)
    });
    Circuit {
        name: name.as_str().to_owned(),
        keyed: false,
        critical: false,
        state,
        since_ms: viewed.since().map(millis),
        generation: view.generation.max(view.overridden.version),
        origin: Origin::Cluster,
        detached: false,
        rejects,
        why: why(view),
        tally: view.tally,
        conditions: Vec::new(),
        retry_after_ms: retry_after.map(millis),
        reopenings,
        probes,
        overridden,
        totals: None,
        failed_by: None,
        latency: None,
        replicas: said.0,
        replicas_omitted: said.1,
        samples: Samples::Unknown,
    }
}

/// Returns whether all probe slots are taken.
fn is_full(view: &View) -> bool {
    matches!(&view.state, RecordState::HalfOpen { terms, out, .. } if *out >= terms.probes.max(1))
}

/// The last transition, as far as the record has it.
fn why(view: &View) -> Option<Why> {
    let transition = view.transition_since(&View::default()).or_else(|| {
        let state = view.state.state();
        view.reason.map(|reason| Transition::new(state, state, reason, view.generation))
    })?;
    Some(Why::of(&transition))
}

/// Returns the health of a circuit.
pub(super) fn health(circuit: &Circuit) -> Option<CircuitHealth> {
    let Circuit { state, rejects, tally, retry_after_ms, overridden, .. } = circuit;
    Some(CircuitHealth {
        name: CircuitName::new(circuit.name.clone()).ok()?,
        state: *state,
        since: Duration::from_millis(circuit.since_ms.unwrap_or_default()),
        rejects: *rejects,
        critical: false,
        calls: tally.calls,
        failure_ratio: None,
        failure_ratio_threshold: None,
        retry_after: retry_after_ms.map(Duration::from_millis),
        detached: false,
        override_reason: overridden.as_ref().map(|set| set.reason.clone()),
    })
}
