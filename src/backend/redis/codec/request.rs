//! Requests, as the scripts read them.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::MOST;
use super::keys::escape;
use crate::backend::{
    Attention, Batch, Heartbeat, Lease, Move, OpenTerms, OverrideChange, OverrideRecord, Probed,
    RecordState, Report, Shares, View,
};
use crate::machine::{Reason, Tally, Transition};
use crate::name::CircuitName;

/// The request of an operation. What it does not need is absent: to a script, a `null` is a value.
#[derive(Default, Serialize)]
pub(in super::super) struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<[u64; 5]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tally: Option<[u64; 4]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contributors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overridden: Option<OverrideRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
}

#[derive(Default, Serialize)]
struct OverrideRequest {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
}

/// What a replica says of itself, as it is stored.
#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    version: &'a str,
    impaired: &'a str,
}

impl Request {
    fn of(circuit: &CircuitName) -> Self {
        Self { name: Some(escape(circuit.as_str())), ..Self::default() }
    }

    pub(in super::super) fn transition(circuit: &CircuitName, from: u64, to: &Move) -> Self {
        let request = Self { from: Some(number(from)), ..Self::of(circuit) };
        match to {
            Move::Open { terms: of, reason, tally: counted, last_error } => Self {
                to: Some("open"),
                reason: Some(reason.as_str()),
                terms: Some(terms(of)),
                tally: Some(tally(counted)),
                last_error: last_error.as_deref().map(error),
                ..request
            },
            Move::Closed { reason } => {
                Self { to: Some("closed"), reason: Some(reason.as_str()), ..request }
            }
        }
    }

    pub(in super::super) fn acquire(circuit: &CircuitName, generation: u64, nonce: u64) -> Self {
        let (generation, nonce) = (Some(number(generation)), Some(name(nonce)));
        Self { generation, nonce, ..Self::of(circuit) }
    }

    pub(in super::super) fn settle(circuit: &CircuitName, lease: Lease, result: &Probed) -> Self {
        let request = Self::acquire(circuit, lease.generation, lease.nonce);
        match result {
            Probed::Passed => Self { result: Some("passed"), ..request },
            Probed::Released => Self { result: Some("released"), ..request },
            Probed::Failed { terms: of, reason, last_error } => Self {
                result: Some("failed"),
                reason: Some(reason.as_str()),
                terms: Some(terms(of)),
                last_error: last_error.as_deref().map(error),
                ..request
            },
        }
    }

    pub(in super::super) fn restore(circuit: &CircuitName, view: &View) -> Self {
        let (state, remaining, of) = match view.state {
            RecordState::Closed => ("closed", Duration::ZERO, OpenTerms::default()),
            RecordState::Open { terms, remaining } => ("open", remaining, terms),
            RecordState::HalfOpen { terms, .. } => ("half_open", Duration::ZERO, terms),
        };
        let record = view.overridden.record.as_ref();
        let overridden = record.map_or_else(OverrideRequest::default, OverrideRequest::of);
        Self {
            generation: Some(number(view.generation)),
            revision: Some(number(view.revision)),
            state: Some(state),
            reason: view.reason.map(Reason::as_str),
            remaining: Some(millis(remaining)),
            terms: Some(terms(&of)),
            tally: Some(tally(&view.tally)),
            contributors: view.contributors.iter().take(View::MAX_CONTRIBUTORS).cloned().collect(),
            last_error: view.last_error.as_deref().map(error),
            overridden: Some(OverrideRequest {
                version: number(view.overridden.version),
                ..overridden
            }),
            ..Self::of(circuit)
        }
    }

    pub(in super::super) fn set_override(circuit: &CircuitName, change: &OverrideChange) -> Self {
        let (change, overridden) = match change {
            OverrideChange::Set(record) => ("set", Some(OverrideRequest::of(record))),
            OverrideChange::Clear => ("clear", None),
            OverrideChange::Reset => ("reset", None),
        };
        Self { change: Some(change), overridden, ..Self::of(circuit) }
    }

    pub(in super::super) fn history(circuit: &CircuitName) -> Self {
        Self::of(circuit)
    }

    pub(in super::super) fn heartbeat(heartbeat: &Heartbeat) -> Self {
        let Heartbeat { sender, version, impaired, seen } = heartbeat;
        let info = Info { name: &sender.name, version, impaired };
        let (id, info, seen) = (sender.id.clone(), json(&info), (*seen).min(MOST));
        Self { id: Some(id), info: Some(info), seen: Some(seen), ..Self::default() }
    }

    pub(in super::super) fn json(&self) -> String {
        json(self)
    }
}

impl OverrideRequest {
    fn of(record: &OverrideRecord) -> Self {
        Self {
            version: 0,
            state: Some(record.state.state().as_str()),
            reason: Some(record.reason.clone()),
            actor: record.actor.clone(),
            remaining: record.remaining.map(millis),
        }
    }
}

/// A batch of reports.
#[derive(Serialize)]
pub(in super::super) struct BatchRequest<'a> {
    name: &'a str,
    id: &'a str,
    seq: u64,
    epoch: u64,
    since: u64,
    seen: u64,
    circuits: Vec<Item>,
}

/// A name, and perhaps a report.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Ask([String; 1]),
    Report(String, Box<ReportRequest>),
}

#[derive(Serialize)]
struct ReportRequest {
    generation: u64,
    /// Its length, that of a bucket, and how many buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<[u64; 3]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    counts: Vec<[u64; 4]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vote: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roll: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet: Option<u64>,
}

impl<'a> BatchRequest<'a> {
    /// Returns the request, and its circuits in the order of their keys: each once, those of the
    /// reports first.
    pub(in super::super) fn of(batch: &'a Batch) -> (Self, Vec<&'a CircuitName>) {
        let mut circuits: Vec<_> = batch.reports.iter().map(|report| &report.circuit).collect();
        let reports = batch.reports.iter().map(|report| {
            Item::Report(escape(report.circuit.as_str()), Box::new(ReportRequest::of(report)))
        });
        let mut known: HashSet<_> = circuits.iter().copied().collect();
        let asked: Vec<_> = batch.circuits.iter().filter(|circuit| known.insert(circuit)).collect();
        circuits.extend(&asked);
        let asked = asked.into_iter().map(|circuit| Item::Ask([escape(circuit.as_str())]));
        let request = Self {
            name: &batch.sender.name,
            id: &batch.sender.id,
            seq: number(batch.seq),
            epoch: number(batch.since.epoch),
            since: number(batch.since.version),
            seen: number(batch.seen),
            circuits: reports.chain(asked).collect(),
        };
        (request, circuits)
    }

    pub(in super::super) fn json(&self) -> String {
        json(self)
    }
}

impl ReportRequest {
    fn of(report: &Report) -> Self {
        let window = report.window.map(|window| {
            [number(window.millis), number(window.bucket_millis()), window.buckets.max(1).into()]
        });
        let counts = report.counts.iter().filter(|_| window.is_some()).map(|count| {
            let numbers = [count.calls, count.failures, count.slow_calls].map(number);
            [micros(count.age), numbers[0], numbers[1], numbers[2]]
        });
        let failures = report.failures.iter().filter(|failures| failures.number > 0);
        let (roll, quiet) = match report.attention {
            Some(Attention::RollCall { after }) => (Some(number(after)), None),
            Some(Attention::Quiet { after }) => (None, Some(number(after))),
            None => (None, None),
        };
        Self {
            generation: number(report.generation),
            window,
            counts: counts.filter(|[_, counts @ ..]| counts.iter().any(|n| *n > 0)).collect(),
            failures: failures.map(|of| [micros(of.age), number(of.number)]).collect(),
            last_success: report.last_success.map(micros),
            vote: report.vote.map(millis),
            shares: match report.shares {
                Shares::None => None,
                Shares::Count => Some(1),
                Shares::Return => Some(2),
            },
            roll,
            quiet,
        }
    }
}

fn terms(terms: &OpenTerms) -> [u64; 5] {
    [
        millis(terms.interval),
        terms.reopenings.into(),
        number(terms.probes),
        millis(terms.lease),
        number(terms.successes_to_close),
    ]
}

fn tally(tally: &Tally) -> [u64; 4] {
    [tally.calls, tally.failures, tally.slow_calls, tally.consecutive_failures].map(number)
}

fn error(text: &str) -> String {
    Transition::cut_error(text).to_owned()
}

/// A nonce is a name, not a number to calculate with.
fn name(nonce: u64) -> String {
    format!("{nonce:x}")
}

fn number(number: u64) -> u64 {
    number.min(MOST)
}

/// Rounded up: what lasts at all lasts a millisecond. Cut off far below the numbers whose sum with
/// the server's time would not be exact.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).min(MOST >> 4)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(MOST >> 2)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("only texts and numbers")
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;
    use crate::backend::{Cursor, Geometry, Sender};

    #[test]
    fn a_request_has_no_null_and_no_number_that_a_script_cannot_hold() {
        let circuit = CircuitName::new("a b").unwrap();
        let report = Report {
            circuit: circuit.clone(),
            generation: u64::MAX,
            window: Some(Geometry { millis: u64::MAX, buckets: 0 }),
            counts: vec![],
            failures: vec![],
            last_success: Some(Duration::MAX),
            vote: None,
            shares: Shares::None,
            attention: Some(Attention::Quiet { after: u64::MAX }),
        };
        let sender = Sender { name: "r".to_owned(), id: "1".to_owned() };
        let (reports, circuits) = (vec![report], vec![circuit.clone()]);
        let since = Cursor { epoch: u64::MAX, version: u64::MAX };
        let batch = Batch { sender, seq: u64::MAX, since, seen: u64::MAX, reports, circuits };
        assert_eq!(BatchRequest::of(&batch).1, [&circuit], "once");
        let (view, most) = (View { generation: u64::MAX, ..View::default() }, MOST.to_string());
        for text in [BatchRequest::of(&batch).0.json(), Request::restore(&circuit, &view).json()] {
            assert!(!text.contains("null") && !text.contains(&u64::MAX.to_string()), "{text}");
            assert!(text.contains(&most) && text.contains("a%20b"), "{text}");
        }
    }
}
