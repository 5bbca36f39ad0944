//! How a state changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::override_record::OverrideRecord;
use super::phase::{Origin, State};
use super::reason::Reason;
use super::window::Tally;

/// One change of a circuit's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Transition {
    /// The state that ended.
    pub from: State,
    /// The state that began. It is the same as [`from`](Self::from) in three cases only: after
    /// [`probe_now`](crate::Circuit::probe_now), when an override replaces one with the same state
    /// but another end, reason or operator, and when other replicas have probed an open circuit and
    /// their probes failed.
    pub to: State,
    /// Why the state changed.
    pub reason: Reason,
    /// The generation that began. It grows with each transition of the circuit, so that transitions
    /// that arrive out of order can be sorted. A generation that changes nothing visible has no
    /// transition.
    pub generation: u64,
    /// What had been counted in the state that ended: on a trip, the evidence. If the cluster
    /// opened the circuit, it is the evidence of all replicas.
    pub tally: Tally,
    /// How long the circuit stays open from now on, jitter included. `None` if no open interval
    /// runs.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "open_for_ms", with = "crate::data::millis_if_any", default)
    )]
    pub open_for: Option<Duration>,
    /// What decided: this process or the cluster. Without a backend it is always this process.
    pub origin: Origin,
    /// The override that began, with its reason, its operator and its duration. If the transition
    /// ends an override and no other one begins: the override that ended.
    pub overridden: Option<Arc<OverrideRecord>>,
    /// If the cluster opened the circuit: the names of the replicas that had reported failures,
    /// the latest first.
    #[cfg_attr(feature = "serde", serde(default))]
    pub contributors: Arc<[String]>,
    /// If evidence opened the circuit: the last failure in it, as text, for example `503 Service
    /// Unavailable`. It is that of the replica that opened the circuit. At most
    /// [`MAX_ERROR`](Self::MAX_ERROR) bytes.
    ///
    /// The circuit takes a text at most about once a second, and whenever the next failure could
    /// open it. So if several failures of one kind come at the same moment, it may be that of
    /// another one than the last. If none was taken lately, it is the
    /// [kind](crate::classify::FailureKind) of the failure.
    ///
    /// The text of errors is in it only if a layer or a classifier
    /// [says so](crate::CircuitBreakerLayer::describe_errors), because it may contain secrets. It
    /// may contain control characters: escape it before you print it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub last_error: Option<Arc<str>>,
}

impl Transition {
    /// The most bytes of [`last_error`](Self::last_error).
    pub const MAX_ERROR: usize = 256;

    /// Returns as much of a text as [`last_error`](Self::last_error) may have.
    pub(crate) fn cut_error(text: &str) -> &str {
        let end = (0..=Self::MAX_ERROR.min(text.len())).rfind(|&end| text.is_char_boundary(end));
        &text[..end.unwrap_or_default()]
    }

    /// Returns a transition without evidence, of this process. For a
    /// [backend](crate::backend::Backend::history), which sets the other fields.
    #[must_use]
    pub fn new(from: State, to: State, reason: Reason, generation: u64) -> Self {
        Self {
            from,
            to,
            reason,
            generation,
            tally: Tally::default(),
            open_for: None,
            origin: Origin::Local,
            overridden: None,
            contributors: Arc::default(),
            last_error: None,
        }
    }
}

impl fmt::Display for Transition {
    /// For example `closed -> open: 12 of 20 calls failed; probes in 31.2 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.reason.with(&self.tally))?;
        match self.open_for {
            Some(interval) => write!(f, "; probes in {:.1} s", interval.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// What happened to a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event {
    /// The circuit changed its state.
    Transition(Transition),
    /// The circuit is in [`State::MetricsOnly`], and its evidence now meets a condition that would
    /// have opened it. Sent for each condition that the evidence begins to meet, and again only
    /// after the evidence has not met it in between.
    WouldTrip {
        /// The condition that the evidence meets.
        reason: Reason,
    },
    /// Ten or more consecutive calls were cancelled or failed, and the last of them was cancelled
    /// and left no evidence. The usual cause is a timeout outside the circuit breaker: put it
    /// inside, so that each such call counts as a failure. Sent once per circuit.
    CallsCancelled {
        /// How many consecutive calls were cancelled or failed.
        calls: u64,
    },
}
