//! Reads the metrics of a store.

use std::time::Duration;

use super::family::{Family, Kind};
use crate::circuit::{Circuit, Snapshot};
use crate::event::BackendStatus;
use crate::machine::State;
use crate::stats::{DURATION_BOUNDS, Durations, Totals};
use crate::store::{BackendNumbers, OperationNumbers, Store};

/// The most circuits of keys of a store that have gauges of their own.
pub const MOST_KEYED: usize = 100;

impl Store {
    /// Returns all metrics of the store as they are now. The docs of [`metrics`](crate::metrics)
    /// list them.
    ///
    /// # Cost
    ///
    /// It reads each circuit under its lock, one after the other, circuits of keys included.
    #[must_use]
    pub fn metrics(&self) -> Vec<Family> {
        families(self, Keyed::NotClosed)
    }
}

/// What is read of circuits of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyed {
    /// The sums of their counters alone.
    #[cfg(feature = "metrics")]
    Sums,
    /// The gauges of those that are not closed too.
    NotClosed,
}

pub(super) fn families(store: &Store, of_keys: Keyed) -> Vec<Family> {
    let mut metrics = Metrics::new();
    let (keyed, named): (Vec<_>, Vec<_>) =
        store.circuits().into_iter().partition(Circuit::is_keyed);
    for circuit in named {
        let snapshot = circuit.snapshot();
        metrics.totals(snapshot.name.as_str(), &snapshot.totals);
        metrics.gauges(&circuit, &snapshot);
        if let Some(durations) = circuit.durations() {
            metrics.durations(snapshot.name.as_str(), &durations);
        }
    }
    for (layer, totals) in store.keyed_totals() {
        metrics.totals(layer.as_str(), &totals);
    }
    let shown = keyed.into_iter().filter(|_| of_keys == Keyed::NotClosed);
    let not_closed = shown.filter(|circuit| circuit.state() != State::Closed);
    for circuit in not_closed.take(MOST_KEYED) {
        metrics.gauges(&circuit, &circuit.snapshot());
    }
    metrics.store(&store.backend());
    if let Some(numbers) = store.backend_numbers() {
        metrics.backend(numbers);
    }
    metrics.into_families()
}

struct Metrics {
    calls: Family,
    failed: Family,
    slow: Family,
    rejected: Family,
    probes: Family,
    would_trip: Family,
    transitions: Family,
    state_seconds: Family,
    call_seconds: Family,
    state: Family,
    failure_ratio: Family,
    slow_ratio: Family,
    failure_threshold: Family,
    slow_threshold: Family,
    leases: Family,
    detached: Family,
    overridden: Family,
    degraded: Family,
    impaired: Family,
    replicas: Family,
    view_age: Family,
    operations: Family,
}

#[expect(clippy::cast_precision_loss, reason = "counts up to 2^53 are exact")]
fn number(count: u64) -> f64 {
    count as f64
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

impl Metrics {
    fn new() -> Self {
        let counter = |name, help| Family::new(name, Kind::Counter, help);
        let gauge = |name, help| Family::new(name, Kind::Gauge, help);
        Self {
            calls: counter(
                "tower_breaker_calls_total",
                "Calls that ended, by what they counted as",
            ),
            failed: counter(
                "tower_breaker_failed_calls_total",
                "Calls that failed, by the failure",
            ),
            slow: counter(
                "tower_breaker_slow_calls_total",
                "Calls that ran for longer than the slow call duration of the policy",
            ),
            rejected: counter(
                "tower_breaker_not_permitted_calls_total",
                "Calls that the circuit rejected",
            ),
            probes: counter("tower_breaker_probes_total", "Probes that began"),
            would_trip: counter(
                "tower_breaker_would_trip_total",
                "How often a metrics-only circuit would have opened",
            ),
            transitions: counter("tower_breaker_transitions_total", "Changes of the state"),
            state_seconds: counter(
                "tower_breaker_state_seconds_total",
                "Time spent in each state, in seconds",
            ),
            call_seconds: Family::new(
                "tower_breaker_call_duration_seconds",
                Kind::Histogram,
                "How long calls took that succeeded or failed, in seconds: a sample",
            ),
            state: gauge("tower_breaker_state", "1 for the current state, 0 for the others"),
            failure_ratio: gauge(
                "tower_breaker_failure_ratio",
                "The share of the calls in the window that failed, from 0 to 1",
            ),
            slow_ratio: gauge(
                "tower_breaker_slow_call_ratio",
                "The share of the calls in the window that were slow, from 0 to 1",
            ),
            failure_threshold: gauge(
                "tower_breaker_failure_ratio_threshold",
                "The failure ratio that opens the circuit",
            ),
            slow_threshold: gauge(
                "tower_breaker_slow_call_ratio_threshold",
                "The slow call ratio that opens the circuit",
            ),
            leases: gauge("tower_breaker_probe_leases", "Probes of this process that are out"),
            detached: gauge(
                "tower_breaker_detached",
                "1 while the circuit decides without the backend",
            ),
            overridden: gauge(
                "tower_breaker_override",
                "1 while an override is in force that has no end, 0 while it has one",
            ),
            degraded: gauge("tower_breaker_store_degraded", "1 while the backend does not answer"),
            impaired: gauge(
                "tower_breaker_store_impaired",
                "1 while the backend works only in part",
            ),
            replicas: gauge("tower_breaker_replicas", "Replicas that use the same backend"),
            view_age: gauge(
                "tower_breaker_view_age_seconds",
                "Seconds since the last heartbeat was sent that the backend answered",
            ),
            operations: Family::new(
                "tower_breaker_store_operation_duration_seconds",
                Kind::Histogram,
                "How long operations on the backend took, in seconds",
            ),
        }
    }

    fn totals(&mut self, name: &str, totals: &Totals) {
        let kinds = [
            ("successful", totals.succeeded),
            ("failed", totals.failed.sum()),
            ("ignored", totals.ignored),
            ("cancelled", totals.cancelled),
            ("stale", totals.stale),
        ];
        for (kind, calls) in kinds {
            self.calls.push(&[("name", name), ("kind", kind)], number(calls));
        }
        for (kind, calls) in totals.failed.iter().filter(|(_, calls)| *calls > 0) {
            self.failed.push(&[("name", name), ("kind", kind.as_str())], number(calls));
        }
        let name = ("name", name);
        self.slow.push(&[name], number(totals.slow));
        self.rejected.push(&[name], number(totals.rejected));
        self.probes.push(&[name], number(totals.probes));
        self.would_trip.push(&[name], number(totals.would_trip));
        for change in &totals.transitions {
            let labels = [
                name,
                ("from", change.from.as_str()),
                ("to", change.to.as_str()),
                ("reason", change.reason.as_str()),
                ("origin", change.origin.as_str()),
            ];
            self.transitions.push(&labels, number(change.times));
        }
        for (state, time) in totals.times.iter() {
            self.state_seconds.push(&[name, ("state", state.as_str())], time.as_secs_f64());
        }
    }

    fn durations(&mut self, name: &str, durations: &Durations) {
        let bounds = DURATION_BOUNDS.map(|bound| bound.as_secs_f64());
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets = bounds.zip(durations.calls).collect();
        self.call_seconds.push_histogram(&[("name", name)], durations.sum.as_secs_f64(), buckets);
    }

    fn gauges(&mut self, circuit: &Circuit, snapshot: &Snapshot) {
        let (policy, tally) = (circuit.policy(), snapshot.tally);
        let name = ("name", snapshot.name.as_str());
        for (state, _) in snapshot.totals.times.iter() {
            let is_current = flag(state == snapshot.state);
            self.state.push(&[name, ("state", state.as_str())], is_current);
        }
        let calls = Some(tally.calls).filter(|calls| *calls >= policy.minimum_calls().max(1));
        let ratio = |part: u64| calls.map(|calls| number(part) / number(calls));
        let gauges = [
            (&mut self.failure_ratio, policy.failure_rate().and_then(|_| ratio(tally.failures))),
            (&mut self.slow_ratio, policy.slow_call_rate().and_then(|_| ratio(tally.slow_calls))),
            (&mut self.failure_threshold, policy.failure_rate()),
            (&mut self.slow_threshold, policy.slow_call_rate()),
            (&mut self.leases, Some(number(snapshot.probes_out as u64))),
            (&mut self.detached, Some(flag(snapshot.detached))),
            (
                &mut self.overridden,
                snapshot.state.is_overridden().then(|| flag(snapshot.override_remaining.is_none())),
            ),
        ];
        for (family, value) in gauges {
            if let Some(value) = value {
                family.push(&[name], value);
            }
        }
    }

    fn store(&mut self, status: &BackendStatus) {
        if *status == BackendStatus::None {
            return;
        }
        self.degraded.push(&[], flag(matches!(status, BackendStatus::Degraded { .. })));
        self.impaired.push(&[], flag(matches!(status, BackendStatus::Impaired { .. })));
    }

    fn backend(&mut self, numbers: BackendNumbers) {
        if let Some((live, age)) = numbers.replicas {
            self.replicas.push(&[], number(live));
            self.view_age.push(&[], age.as_secs_f64());
        }
        for OperationNumbers { operation, result, sum, buckets } in numbers.operations {
            let bound =
                |bound: Option<Duration>| bound.map_or(f64::INFINITY, |it| it.as_secs_f64());
            let buckets = buckets.into_iter().map(|(most, n)| (bound(most), n)).collect();
            let labels = [("operation", operation), ("result", result)];
            self.operations.push_histogram(&labels, sum.as_secs_f64(), buckets);
        }
    }

    fn into_families(self) -> Vec<Family> {
        vec![
            self.calls,
            self.failed,
            self.slow,
            self.rejected,
            self.probes,
            self.would_trip,
            self.transitions,
            self.state_seconds,
            self.call_seconds,
            self.state,
            self.failure_ratio,
            self.slow_ratio,
            self.failure_threshold,
            self.slow_threshold,
            self.leases,
            self.detached,
            self.overridden,
            self.degraded,
            self.impaired,
            self.replicas,
            self.view_age,
            self.operations,
        ]
    }
}
