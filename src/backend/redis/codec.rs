//! What is sent to the scripts, and what comes back.
//!
//! Answers are JSON. Unknown fields are ignored, and missing ones have their default, so that
//! versions can share a backend for as long as the number of the schema is the same.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

use crate::backend::{
    BackendError, Geometry, Move, OpenTerms, Overridden, OverrideRecord, Probed, RecordState,
    Report, View,
};
use crate::machine::{OverrideState, Reason, Tally};
use crate::name::CircuitName;

/// Numbers of a script are doubles; up to this one they are exact.
const MOST: u64 = (1 << 53) - 1;

/// Returns a circuit's key. The prefix and the name are the hash tag, whole, so that both keys of a
/// circuit are in one slot. What could end the tag, or a line of a log, is escaped.
pub(super) fn key(prefix: &str, name: &str) -> String {
    let mut key = format!("{{{prefix}:");
    for character in name.chars() {
        if matches!(character, '{' | '}' | '%' | ' ') || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(key, "%{byte:02x}");
            }
        } else {
            key.push(character);
        }
    }
    key + "}"
}

/// The arguments of an operation.
#[derive(Default)]
pub(super) struct Args(pub(super) Vec<String>);

impl Args {
    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.push(number.min(MOST).to_string());
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(text.to_owned());
        self
    }

    /// A nonce is a name, not a number to calculate with.
    pub(super) fn nonce(self, nonce: u64) -> Self {
        self.text(&format!("{nonce:x}"))
    }

    fn millis(self, duration: Duration) -> Self {
        self.number(millis(duration))
    }

    fn millis_or_never(self, duration: Option<Duration>) -> Self {
        match duration {
            Some(duration) => self.millis(duration),
            None => self.text("-1"),
        }
    }

    fn flag(self, flag: bool) -> Self {
        self.number(flag.into())
    }

    fn terms(self, terms: &OpenTerms) -> Self {
        self.millis(terms.interval)
            .number(terms.reopenings.into())
            .number(terms.probes)
            .millis(terms.lease)
            .number(terms.successes_to_close)
    }

    fn tally(self, tally: &Tally) -> Self {
        self.number(tally.calls)
            .number(tally.failures)
            .number(tally.slow_calls)
            .number(tally.consecutive_failures)
    }

    pub(super) fn report(self, report: &Report) -> Self {
        let delta = &report.delta;
        let args = self
            .text(&report.replica)
            .number(report.seq)
            .number(report.generation)
            .number(delta.calls)
            .number(delta.failures)
            .number(delta.slow_calls)
            .number(delta.streak)
            .flag(delta.succeeded)
            .millis_or_never(report.vote)
            .flag(report.shares);
        match report.window {
            Some(window) => args.window(window),
            None => args,
        }
    }

    fn window(self, window: Geometry) -> Self {
        self.number(window.millis).number(window.bucket_millis()).number(window.buckets.into())
    }

    pub(super) fn transition(self, to: &Move) -> Self {
        match to {
            Move::Open { terms, reason, tally } => {
                self.text("open").text(reason.as_str()).terms(terms).tally(tally)
            }
            Move::Closed { reason } => self.text("closed").text(reason.as_str()),
        }
    }

    pub(super) fn probed(self, result: &Probed) -> Self {
        match result {
            Probed::Passed => self.text("passed"),
            Probed::Released => self.text("released"),
            Probed::Failed { terms, reason } => {
                self.text("failed").text(reason.as_str()).terms(terms)
            }
        }
    }

    pub(super) fn override_record(self, record: Option<&OverrideRecord>) -> Self {
        let Some(record) = record else { return self.text("").text("").text("-1") };
        let args = self
            .text(record.state.state().as_str())
            .text(&record.reason)
            .millis_or_never(record.remaining);
        match &record.actor {
            Some(actor) => args.text(actor),
            None => args,
        }
    }

    pub(super) fn view(self, view: &View) -> Self {
        let (state, remaining, terms) = match view.state {
            RecordState::Closed => ("closed", Duration::ZERO, OpenTerms::default()),
            RecordState::Open { terms, remaining } => ("open", remaining, terms),
            RecordState::HalfOpen { terms, .. } => ("half_open", Duration::ZERO, terms),
        };
        self.number(view.generation)
            .number(view.revision)
            .text(state)
            .text(view.reason.map_or("", Reason::as_str))
            .millis(remaining)
            .terms(&terms)
            .tally(&view.tally)
            .number(view.overridden.version)
            .override_record(view.overridden.record.as_ref())
    }
}

/// A script's answer.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    /// The server's time.
    pub(super) now: u64,
    refused: Option<String>,
    view: Option<ReplyView>,
    lease: Option<u64>,
}

impl Reply {
    pub(super) fn parse(text: &str) -> Result<Self, BackendError> {
        serde_json::from_str(text).map_err(|error| {
            BackendError::refused(format!("redis's answer is not of this version: {error}"))
        })
    }

    /// Returns the view, and what remains of a lease if one was granted. `None`: the command
    /// arrived too late for its caller, and nothing was done.
    pub(super) fn said(self) -> Result<Option<(View, Option<Duration>)>, BackendError> {
        match (self.view, self.refused.as_deref()) {
            (Some(view), _) => Ok(Some((view.into(), self.lease.map(Duration::from_millis)))),
            (None, Some("late")) => Ok(None),
            (None, _) => Err(BackendError::refused(
                "the record was written by a newer version of tower-breaker, and this version must \
                 not change it: upgrade this one, or delete the circuit's keys",
            )),
        }
    }
}

/// Returns what a script published, if it is about a circuit.
pub(super) fn notice(text: &str) -> Option<(CircuitName, View)> {
    #[derive(Deserialize)]
    struct Notice {
        name: String,
        view: ReplyView,
    }
    let Notice { name, view } = serde_json::from_str(text).ok()?;
    Some((CircuitName::new(name).ok()?, view.into()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReplyView {
    generation: u64,
    revision: u64,
    state: String,
    reason: Option<String>,
    tally: [u64; 4],
    shares: Vec<[u64; 4]>,
    votes: u64,
    #[serde(rename = "opening")]
    terms: [u64; 5],
    remaining: u64,
    passed: u64,
    out: u64,
    next_expiry: Option<u64>,
    overridden: ReplyOverride,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReplyOverride {
    version: u64,
    state: Option<String>,
    reason: String,
    actor: Option<String>,
    remaining: Option<u64>,
}

impl From<ReplyView> for View {
    fn from(reply: ReplyView) -> Self {
        let terms = terms(reply.terms);
        let state = match reply.state.as_str() {
            "open" => {
                RecordState::Open { terms, remaining: Duration::from_millis(reply.remaining) }
            }
            "half_open" => RecordState::HalfOpen {
                terms,
                passed: reply.passed,
                out: reply.out,
                next_expiry: reply.next_expiry.map(Duration::from_millis),
            },
            _ => RecordState::Closed,
        };
        Self {
            generation: reply.generation,
            revision: reply.revision,
            state,
            reason: reply.reason.as_deref().and_then(Reason::from_name),
            tally: tally(reply.tally),
            shares: reply.shares.into_iter().map(tally).collect(),
            votes: reply.votes,
            overridden: reply.overridden.into(),
        }
    }
}

impl From<ReplyOverride> for Overridden {
    fn from(reply: ReplyOverride) -> Self {
        let state = reply.state.as_deref().and_then(OverrideState::from_name);
        let record = state.map(|state| OverrideRecord {
            state,
            reason: reply.reason,
            actor: reply.actor,
            remaining: reply.remaining.map(Duration::from_millis),
        });
        Self { version: reply.version, record }
    }
}

fn terms([interval, reopenings, probes, lease, successes_to_close]: [u64; 5]) -> OpenTerms {
    OpenTerms {
        interval: Duration::from_millis(interval),
        reopenings: u32::try_from(reopenings).unwrap_or(u32::MAX),
        probes,
        lease: Duration::from_millis(lease),
        successes_to_close,
    }
}

fn tally([calls, failures, slow_calls, consecutive_failures]: [u64; 4]) -> Tally {
    Tally { calls, failures, slow_calls, consecutive_failures, ..Tally::default() }
}

/// Rounded up: what lasts at all lasts a millisecond. Cut off far below the numbers whose sum with
/// the server's time would not be exact.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).min(u64::MAX >> 16)
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_share_a_key_and_none_can_leave_its_hash_tag() {
        let names = ["a", "a b", "a%20b", "{a}", "}", "a\nb", "a%0ab", "a:b", "ä\u{85}", "%7d"];
        let keys: std::collections::BTreeSet<_> = names.map(|name| key("cb", name)).into();
        assert_eq!(keys.len(), names.len());
        for key in keys {
            let tag = key.strip_prefix('{').and_then(|key| key.strip_suffix('}')).unwrap();
            assert!(!tag.contains(['{', '}', ' ', '\n']), "{key}");
        }
    }

    #[test]
    fn what_is_not_known_is_ignored_and_what_is_missing_has_its_default() {
        let reply = Reply::parse(r#"{"now":7,"new":1,"view":{"generation":9,"what":{}}}"#).unwrap();
        let (view, lease) = reply.said().unwrap().expect("not late");
        assert_eq!((view.generation, view.state, lease), (9, RecordState::Closed, None));
    }
}
