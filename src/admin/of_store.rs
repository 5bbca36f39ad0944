//! The circuits of a store, as the service shows them.

use super::wire::{Circuit, Condition, Counted, Overridden, Probes, Said, Samples, Why, millis};
use crate::circuit::{Circuit as Handle, Snapshot};
use crate::event::{Reason, Tally};
use crate::machine::{OverrideState, State};
use crate::policy::{Cancelled, Policy};
use crate::store::Store;

/// Returns a circuit without samples, with what `said` returns of its replicas. It may call observers: not under a lock.
pub(super) fn circuit(
    store: &Store,
    circuit: &Handle,
    said: impl FnOnce(State) -> (Vec<Said>, usize),
) -> Circuit {
    let snapshot = circuit.snapshot();
    let rejects = !circuit.is_available();
    let policy = circuit.policy();
    let last = circuit.last_transition();
    let (replicas, replicas_omitted) = said(snapshot.state);
    let probes = (snapshot.state == State::HalfOpen).then(|| Probes {
        out: snapshot.probes_out as u64,
        passed: snapshot.probes_passed,
        needed: policy.successes_to_close(),
    });
    let conditions = conditions(&policy, snapshot.tally);
    let critical = store.is_critical(circuit.name());
    let Snapshot { name, state, since, tally, totals, .. } = snapshot;
    let overridden = OverrideState::from_name(state.as_str()).map(|set| {
        let reason = snapshot.override_reason.unwrap_or_default();
        Overridden::new(set, reason, snapshot.override_actor, snapshot.override_remaining)
    });
    Circuit {
        name: name.as_str().to_owned(),
        keyed: circuit.is_keyed(),
        critical,
        state,
        since_ms: Some(millis(since)),
        generation: snapshot.generation,
        origin: snapshot.origin,
        detached: snapshot.detached,
        rejects,
        why: last.map(|entry| Why::of(&entry.transition)),
        tally,
        conditions,
        retry_after_ms: snapshot.retry_after.map(millis),
        reopenings: snapshot.reopenings,
        probes,
        overridden,
        totals: Some(Counted::of(&totals)),
        failed_by: Some(totals.failed),
        latency: None,
        replicas,
        replicas_omitted,
        samples: Samples::LeftOut,
    }
}

/// Returns at most this many of the circuits that are listed, what is wrong first, and how many
/// others the store has.
pub(super) fn listed(store: &Store, most: usize) -> (Vec<Handle>, usize) {
    let (listed, total) = store.listed();
    let key = |circuit: Handle| {
        let (passes, closed) = (circuit.is_available(), circuit.state() == State::Closed);
        (passes, closed, circuit)
    };
    let mut listed: Vec<_> = listed.into_iter().map(key).collect();
    listed.sort_by(|(passes, closed, a), (others, others_closed, b)| {
        (passes, closed, a.name()).cmp(&(others, others_closed, b.name()))
    });
    listed.truncate(most);
    let omitted = total.saturating_sub(listed.len());
    (listed.into_iter().map(|(_, _, circuit)| circuit).collect(), omitted)
}

fn conditions(policy: &Policy, tally: Tally) -> Vec<Condition> {
    let rate = |kind, value, threshold: Option<f64>| {
        let (calls, minimum_calls) = (tally.calls, policy.enough_calls());
        threshold.map(|threshold| Condition::Rate { kind, value, threshold, calls, minimum_calls })
    };
    let count = |kind, value, threshold: Option<u64>| {
        threshold.map(|threshold| Condition::Count { kind, value, threshold })
    };
    let unanswered = (policy.cancelled() != Cancelled::Ignored).then(|| policy.minimum_calls());
    let all = [
        count(
            Reason::ConsecutiveFailures,
            tally.consecutive_failures,
            policy.consecutive_failures(),
        ),
        rate(Reason::FailureRate, tally.failure_rate(), policy.failure_rate()),
        count(Reason::FailureCount, tally.failures, policy.failure_count()),
        rate(Reason::SlowCallRate, tally.slow_call_rate(), policy.slow_call_rate()),
        count(Reason::NoCompletions, tally.unanswered, unanswered),
    ];
    all.into_iter().flatten().collect()
}
