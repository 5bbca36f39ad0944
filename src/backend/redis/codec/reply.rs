//! Answers, as the scripts write them.

use std::time::Duration;

use serde::Deserialize;

use super::super::fault;
use super::keys;
use crate::backend::{
    BackendError, Changes, Cursor, Heartbeat, OpenTerms, Overridden, OverrideRecord, RecordState,
    ReplicaInfo, Roll, Roster, Sender, View,
};
use crate::machine::{OverrideState, Reason, Tally, Transition};

/// A generation, or a version of an override, is at most so far ahead of the server's clock, in
/// milliseconds. Otherwise a wrong one would be in force for ever.
const DAY: u64 = 86_400_000;

/// A script's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "fields of several messages")]
pub(in super::super) struct Reply {
    /// The number of the request that this answers.
    pub(in super::super) id: u64,
    /// The server's time, in microseconds.
    pub(in super::super) now: u64,
    /// Something was published.
    pub(in super::super) published: bool,
    /// The error of the last attempt to publish.
    pub(in super::super) unpublished: Option<String>,
    refused: Option<String>,
    view: Option<ReplyView>,
    lease: Option<u64>,
    epoch: u64,
    version: u64,
    restarted: bool,
    more: bool,
    views: Vec<(String, ReplyView)>,
    live: u64,
    newest: u64,
    watched: bool,
    replicas: Vec<(String, u64, String)>,
    /// The age and the text of each entry.
    pub(super) history: Vec<(u64, String)>,
}

impl Reply {
    pub(in super::super) fn parse(text: &str) -> Result<Self, BackendError> {
        serde_json::from_str(text).map_err(|_| {
            BackendError::refused("redis's answer is not of this version of tower-breaker")
        })
    }

    /// Returns whether the command arrived too late for its caller, and did nothing.
    pub(in super::super) fn is_late(&self) -> bool {
        self.refused.as_deref() == Some("late")
    }

    /// Returns the answer, unless the script refused.
    pub(in super::super) fn accepted(self) -> Result<Self, BackendError> {
        match self.refused.as_deref() {
            None => Ok(self),
            Some("ahead") => Err(BackendError::refused(
                "the view is not restored: its generation or the version of its override is more \
                 than a day ahead of redis's clock",
            )),
            Some("late") => Err(late()),
            Some(_) => Err(newer()),
        }
    }

    /// Returns the view of a circuit, and what remains of a lease if one was granted.
    pub(in super::super) fn view(self) -> Result<(View, Option<Duration>), BackendError> {
        let now = self.now / 1000;
        let view = self.view.unwrap_or_default().checked(now)?;
        let longest = match view.state {
            RecordState::HalfOpen { terms, .. } => terms.lease,
            _ => Duration::MAX,
        };
        Ok((view, self.lease.map(|lease| Duration::from_millis(lease).min(longest))))
    }

    pub(in super::super) fn changes(self) -> Changes {
        let now = self.now / 1000;
        let mut changes = Changes {
            cursor: Cursor { epoch: self.epoch, version: self.version },
            restarted: self.restarted,
            more: self.more,
            ..Changes::default()
        };
        for (name, view) in self.views {
            // A name that no replica has written names no circuit.
            let Some(circuit) = keys::circuit(&name) else { continue };
            match view.checked(now) {
                Ok(view) => changes.views.push((circuit, view)),
                Err(error) => changes.refused.push((circuit, error)),
            }
        }
        changes
    }

    pub(in super::super) fn roster(&self) -> Roster {
        Roster { live: self.live, watched: self.watched, newest: self.newest }
    }

    pub(in super::super) fn replicas(self) -> Vec<ReplicaInfo> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Info {
            name: String,
            version: String,
            impaired: String,
        }
        let known = self.replicas.into_iter().filter_map(|(id, silent, info)| {
            let Info { name, version, impaired } = serde_json::from_str(&info).ok()?;
            let heartbeat = Heartbeat { sender: Sender { name, id }, version, impaired, seen: 0 };
            Some(ReplicaInfo::new(heartbeat, Duration::from_millis(silent)))
        });
        known.collect()
    }
}

pub(in super::super) fn late() -> BackendError {
    BackendError::unavailable("redis ran the command too late, or its clock jumped")
}

fn newer() -> BackendError {
    BackendError::refused(
        "the record was written by a newer version of tower-breaker, and this version must not \
         change it: upgrade this one, or delete the circuit's keys",
    )
}

fn corrupt() -> BackendError {
    BackendError::refused(
        "the record is corrupt: its generation or the version of its override is more than a day \
         ahead of redis's clock: delete the circuit's keys",
    )
}

/// A view as a script writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReplyView {
    error: Option<String>,
    generation: u64,
    revision: u64,
    state: String,
    reason: Option<String>,
    tally: [u64; 4],
    shares: Vec<[u64; 4]>,
    votes: u64,
    suspect: Option<[u64; 4]>,
    contributors: Vec<String>,
    last_error: Option<String>,
    terms: [u64; 5],
    remaining: u64,
    passed: u64,
    out: u64,
    next_expiry: Option<u64>,
    overridden: ReplyOverride,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReplyOverride {
    version: u64,
    state: Option<String>,
    reason: String,
    actor: Option<String>,
    remaining: Option<u64>,
}

impl ReplyView {
    /// Returns the view, unless it is an error, or cannot be true at this time of the server.
    pub(super) fn checked(self, now: u64) -> Result<View, BackendError> {
        match self.error.as_deref() {
            Some("newer") => return Err(newer()),
            Some(error) => return Err(fault::in_script(error)),
            None => {}
        }
        let bound = now.saturating_add(DAY);
        if self.generation > bound || self.overridden.version > bound {
            return Err(corrupt());
        }
        Ok(self.into())
    }
}

impl From<ReplyView> for View {
    fn from(reply: ReplyView) -> Self {
        let terms = terms(reply.terms);
        let at_most = |millis, most| Duration::from_millis(millis).min(most);
        let state = match reply.state.as_str() {
            "open" => {
                RecordState::Open { terms, remaining: at_most(reply.remaining, terms.interval) }
            }
            "half_open" => RecordState::HalfOpen {
                terms,
                passed: reply.passed,
                out: reply.out,
                next_expiry: reply.next_expiry.map(|next| at_most(next, terms.lease)),
            },
            _ => RecordState::Closed,
        };
        let mut contributors = reply.contributors;
        contributors.truncate(View::MAX_CONTRIBUTORS);
        Self {
            generation: reply.generation.max(View::FIRST),
            revision: reply.revision,
            state,
            reason: reply.reason.as_deref().and_then(Reason::from_name),
            tally: tally(reply.tally),
            shares: reply.shares.into_iter().map(tally).collect(),
            votes: reply.votes,
            suspect: reply.suspect.map(|[id, age, answered, consecutive_failures]| Roll {
                id,
                age: Duration::from_millis(age),
                answered,
                consecutive_failures,
            }),
            contributors,
            last_error: reply.last_error.map(|text| Transition::cut_error(&text).into()),
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

/// As the scripts mend them.
fn terms([interval, reopenings, probes, lease, successes_to_close]: [u64; 5]) -> OpenTerms {
    OpenTerms {
        interval: Duration::from_millis(interval),
        reopenings: u32::try_from(reopenings).unwrap_or(u32::MAX),
        probes: probes.max(1),
        lease: if lease == 0 { Duration::from_secs(10) } else { Duration::from_millis(lease) },
        successes_to_close,
    }
}

pub(super) fn tally([calls, failures, slow_calls, consecutive_failures]: [u64; 4]) -> Tally {
    Tally { calls, failures, slow_calls, consecutive_failures, ..Tally::default() }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    fn view(text: &str) -> Result<View, BackendError> {
        let reply = format!(r#"{{"now":1000000000000,"view":{text}}}"#);
        Reply::parse(&reply).unwrap().view().map(|(view, _)| view)
    }

    #[test]
    fn what_is_not_known_is_ignored_and_what_is_missing_has_its_default() {
        let reply = Reply::parse(r#"{"now":7000,"new":1,"view":{"generation":9,"x":{}}}"#).unwrap();
        let (view, lease) = reply.accepted().unwrap().view().unwrap();
        assert_eq!((view.generation, view.state, lease), (9, RecordState::Closed, None));
    }

    #[test]
    fn a_view_from_the_future_is_refused() {
        for wrong in [r#"{"generation":1086400001}"#, r#"{"overridden":{"version":1086400001}}"#] {
            let error = view(wrong).unwrap_err();
            assert!(!error.is_unavailable() && error.to_string().contains("corrupt"), "{error}");
        }
        assert_eq!(view(r#"{"generation":1086400000}"#).unwrap().generation, 1_086_400_000);
    }

    #[test]
    fn nothing_lasts_longer_than_it_can() {
        let open = view(r#"{"state":"open","terms":[5,9999999999,0,0,0],"remaining":9}"#).unwrap();
        let RecordState::Open { terms, remaining } = open.state else { panic!("{open:?}") };
        assert_eq!((terms.reopenings, terms.probes), (u32::MAX, 1));
        assert_eq!((remaining, terms.lease), (Duration::from_millis(5), Duration::from_secs(10)));
        let half_open = r#"{"state":"half_open","terms":[5,0,1,7,1],"out":1,"next_expiry":8}"#;
        let half_open = view(half_open).unwrap();
        assert!(matches!(
            half_open.state,
            RecordState::HalfOpen { next_expiry: Some(next), .. } if next.as_millis() == 7
        ));
    }

    #[test]
    fn one_circuit_that_cannot_be_read_fails_no_other() {
        let reply = Reply::parse(
            r#"{"now":1000000,"views":[["a",{"generation":2}],["b",{"error":"newer"}],
            ["c",{"error":"WRONGTYPE Operation"}],["d",{"generation":99999999999}],["%41",{}]]}"#,
        );
        let changes = reply.unwrap().accepted().unwrap().changes();
        assert_eq!(changes.views.len(), 1);
        let refused: Vec<_> = changes.refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(refused, ["b", "c", "d"]);
        assert!(changes.refused.iter().all(|(_, error)| !error.is_unavailable()));
    }
}
