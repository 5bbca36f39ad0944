//! What the service sends, as data. The page and programs read it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::mem::take;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::backend::ReplicaInfo;
use crate::event::{BackendStatus, HistoryEntry, Origin, Reason, Tally, Transition};
use crate::machine::{OverrideState, State};
use crate::stats::{ByKind, Totals};

/// Everything, as it is at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    pub(super) title: String,
    pub(super) version: &'static str,
    pub(super) source: &'static str,
    pub(super) replica: Option<String>,
    pub(super) writable: bool,
    pub(super) backend: BackendStatus,
    pub(super) sample_ms: u64,
    pub(super) circuits: Vec<Circuit>,
    pub(super) omitted: usize,
    pub(super) replicas: Vec<Replica>,
}

/// A circuit. What is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Circuit {
    pub(super) name: String,
    pub(super) keyed: bool,
    pub(super) critical: bool,
    pub(super) state: State,
    pub(super) since_ms: Option<u64>,
    pub(super) generation: u64,
    pub(super) origin: Origin,
    pub(super) detached: bool,
    pub(super) rejects: bool,
    pub(super) why: Option<Why>,
    pub(super) tally: Tally,
    pub(super) conditions: Vec<Condition>,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) reopenings: u32,
    pub(super) probes: Option<Probes>,
    #[serde(rename = "override")]
    pub(super) overridden: Option<Overridden>,
    pub(super) totals: Option<Counted>,
    pub(super) failed_by: Option<ByKind>,
    /// Percentiles, once circuits measure latencies.
    pub(super) latency: Option<()>,
    pub(super) replicas: Vec<Said>,
    pub(super) replicas_omitted: usize,
    #[serde(skip_serializing_if = "Samples::is_left_out")]
    pub(super) samples: Samples,
}

/// A transition as it happens.
#[derive(Debug, Serialize)]
pub(super) struct Moved<'a> {
    pub(super) name: &'a str,
    pub(super) transition: HistoryEntry,
}

/// A circuit after a change, and whether the backend has stored the change.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    pub(super) circuit: Circuit,
    pub(super) acknowledged: bool,
}

/// Why a circuit is in its state.
#[derive(Debug, Serialize)]
pub(super) struct Why {
    pub(super) reason: Reason,
    pub(super) text: String,
    pub(super) tally: Tally,
    pub(super) contributors: Vec<String>,
    pub(super) last_error: Option<String>,
}

impl Why {
    pub(super) fn of(transition: &Transition) -> Self {
        Self {
            reason: transition.reason,
            text: transition.reason.with(&transition.tally).to_string(),
            tally: transition.tally,
            contributors: transition.contributors.to_vec(),
            last_error: None,
        }
    }
}

/// What could open a circuit, and how far its evidence is from that.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Condition {
    Rate { kind: Reason, value: Option<f64>, threshold: f64, calls: u64, minimum_calls: u64 },
    Count { kind: Reason, value: u64, threshold: u64 },
}

#[derive(Debug, Serialize)]
pub(super) struct Probes {
    pub(super) out: u64,
    pub(super) passed: u64,
    pub(super) needed: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Overridden {
    pub(super) state: State,
    pub(super) reason: String,
    pub(super) actor: Option<String>,
    pub(super) remaining_ms: Option<u64>,
}

impl Overridden {
    pub(super) fn new(
        state: OverrideState,
        reason: String,
        actor: Option<String>,
        remaining: Option<Duration>,
    ) -> Self {
        Self { state: state.state(), reason, actor, remaining_ms: remaining.map(millis) }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Counted {
    succeeded: u64,
    failed: u64,
    ignored: u64,
    cancelled: u64,
    stale: u64,
    slow: u64,
    rejected: u64,
}

impl Counted {
    pub(super) fn of(totals: &Totals) -> Self {
        let Totals { succeeded, ignored, cancelled, stale, slow, rejected, .. } = *totals;
        let failed = totals.failed.sum();
        Self { succeeded, failed, ignored, cancelled, stale, slow, rejected }
    }
}

/// What a replica has said of a circuit last.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) state: State,
    pub(super) since_ms: u64,
    pub(super) generation: u64,
    pub(super) detached: bool,
    pub(super) tally: Tally,
    pub(super) succeeded: Option<u64>,
    pub(super) failed: Option<u64>,
    pub(super) rejected: Option<u64>,
}

/// What was counted in one interval: succeeded, failed, rejected and slow calls.
pub(super) type Sample = [u32; 4];

/// The samples of a circuit.
#[derive(Debug)]
pub(super) enum Samples {
    /// The message has none.
    LeftOut,
    /// Nothing samples this circuit.
    Unknown,
    Known(Vec<Sample>),
}

impl Samples {
    fn is_left_out(&self) -> bool {
        matches!(self, Self::LeftOut)
    }
}

impl Serialize for Samples {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::LeftOut | Self::Unknown => serializer.serialize_none(),
            Self::Known(samples) => samples.serialize(serializer),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) version: String,
    pub(super) silent_ms: u64,
    pub(super) silent: bool,
    pub(super) impaired: String,
}

impl Replica {
    pub(super) fn of(info: ReplicaInfo) -> Self {
        let (silent_ms, silent) = (millis(info.silent_for), info.is_silent());
        let ReplicaInfo { name, id, version, impaired, .. } = info;
        Self { name, id, version, silent_ms, silent, impaired }
    }

    /// Returns whether both say the same, apart from what changes all the time.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let said = |replica: &Self| {
            let Self { name, id, version, silent, impaired, .. } = replica.clone();
            (name, id, version, silent, impaired)
        };
        said(self) == said(other)
    }
}

impl Circuit {
    /// Returns a number that changes with what the circuit says, apart from times that run.
    pub(super) fn fingerprint(&mut self) -> u64 {
        let since = self.since_ms.take();
        let retry = self.retry_after_ms.take();
        let remaining = self.overridden.as_mut().and_then(|set| set.remaining_ms.take());
        let said: Vec<_> = self.replicas.iter_mut().map(|said| take(&mut said.since_ms)).collect();
        let mut hasher = DefaultHasher::new();
        json(self).hash(&mut hasher);
        self.since_ms = since;
        self.retry_after_ms = retry;
        if let Some(set) = &mut self.overridden {
            set.remaining_ms = remaining;
        }
        for (replica, since) in self.replicas.iter_mut().zip(said) {
            replica.since_ms = since;
        }
        hasher.finish()
    }
}

/// Whole milliseconds, rounded up, as everywhere in the crate's data.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Writes JSON. Texts from outside are escaped in it: no control character remains.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Bytes {
    // Only a `Serialize` that fails, or a map whose keys are not text, has no JSON; there is none.
    serde_json::to_vec(value).unwrap_or_default().into()
}
