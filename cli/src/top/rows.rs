//! One circuit as one row: what is wrong first.

use std::cmp::Reverse;
use std::time::Duration;

use tower_breaker::State;
use tower_breaker::backend::{RecordState, View};

use super::cluster::{Cluster, Said};
use crate::print::text;
use crate::view::{self, span};

/// How bad a row is: the smaller, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Its calls are rejected, at least on some replicas.
    Rejects,
    /// It is overridden in another way, or its record cannot be read.
    Unusual,
    /// It is closed, and failures add up.
    Suspect,
    Closed,
}

/// What rows of one rank are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Name,
    /// What changed last comes first.
    Newest,
    /// The largest share of failed calls comes first.
    Failures,
    /// The most rejected calls come first.
    Rejected,
}

impl Sort {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Name => Self::Newest,
            Self::Newest => Self::Failures,
            Self::Failures => Self::Rejected,
            Self::Rejected => Self::Name,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Newest => "newest change",
            Self::Failures => "share of failures",
            Self::Rejected => "rejected calls",
        }
    }
}

/// A circuit as one row. Its texts are escaped, but for its name.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rank: Rank,
    /// `None`: its record cannot be read.
    pub(crate) state: Option<State>,
    pub(crate) since: Option<Duration>,
    /// What happens next, and when.
    pub(crate) next: String,
    /// Rejected calls, on all replicas that say it.
    pub(crate) rejected: Option<u64>,
    /// Failures, and calls that ended.
    pub(crate) failures: Option<(u64, u64)>,
    pub(crate) why: String,
}

impl Row {
    fn new(name: &str, cluster: &Cluster, now: Duration) -> Self {
        let view = match cluster.view(name, now) {
            Ok(view) => view,
            Err(error) => return Self::unreadable(name, error),
        };
        let state = view.shown_state();
        let said = cluster.said(name, state, now);
        let elsewhere = said.iter().any(|said| said.disagrees && rejects(said.summary.state));
        let rank = match state {
            state if rejects(state) || elsewhere => Rank::Rejects,
            State::Closed if view.suspect.is_some() => Rank::Suspect,
            State::Closed => Rank::Closed,
            _ => Rank::Unusual,
        };
        Self {
            name: name.to_owned(),
            rank,
            state: Some(state),
            since: cluster.since(name, &said, now),
            next: next(&view),
            rejected: rejected(&said),
            failures: failures(&view, &said),
            why: why(&view, &said),
        }
    }

    fn unreadable(name: &str, error: &str) -> Self {
        Self {
            name: name.to_owned(),
            rank: Rank::Unusual,
            state: None,
            since: None,
            next: String::new(),
            rejected: None,
            failures: None,
            why: text(error),
        }
    }

    /// Parts per million that failed.
    fn share(&self) -> u64 {
        let (failures, calls) = self.failures.unwrap_or_default();
        failures.saturating_mul(1_000_000).checked_div(calls).unwrap_or_default()
    }
}

/// Returns the rows whose names contain a text, whatever its case, what is wrong first.
pub(crate) fn rows(cluster: &Cluster, search: &str, sort: Sort, now: Duration) -> Vec<Row> {
    let search = search.to_lowercase();
    let names = cluster.names().into_iter();
    let found = names.filter(|name| search.is_empty() || name.to_lowercase().contains(&search));
    let mut rows: Vec<_> = found.map(|name| Row::new(name, cluster, now)).collect();
    // The sort is stable, and names are in order.
    match sort {
        Sort::Name => rows.sort_by_key(|row| row.rank),
        Sort::Newest => rows.sort_by_key(|row| (row.rank, row.since.unwrap_or(Duration::MAX))),
        Sort::Failures => rows.sort_by_key(|row| (row.rank, Reverse(row.share()))),
        Sort::Rejected => rows.sort_by_key(|row| (row.rank, Reverse(row.rejected))),
    }
    rows
}

/// Whether calls are rejected in a state.
pub(crate) fn rejects(state: State) -> bool {
    matches!(state, State::Open | State::HalfOpen | State::ForcedOpen)
}

/// What happens next.
fn next(view: &View) -> String {
    if let Some(record) = &view.overridden.record {
        return record.remaining.map_or_else(
            || "until it is reset".to_owned(),
            |left| format!("ends in {}", span(left)),
        );
    }
    match &view.state {
        RecordState::Closed => String::new(),
        RecordState::Open { remaining, .. } if remaining.is_zero() => "next call probes".to_owned(),
        RecordState::Open { remaining, .. } => format!("probes in {}", span(*remaining)),
        RecordState::HalfOpen { terms, passed, out, .. } => {
            format!("{out} probing, {passed}/{} ok", terms.successes_to_close)
        }
    }
}

/// Why the circuit is in its state.
fn why(view: &View, said: &[Said<'_>]) -> String {
    let mut parts = Vec::new();
    let odd: Vec<_> = said.iter().filter(|said| said.disagrees).collect();
    if let Some(first) = odd.first() {
        let detached = if first.summary.detached { ", detached" } else { "" };
        let (state, count) = (first.summary.state, said.len());
        parts.push(format!("{} of {count} replicas disagree ({state}{detached})", odd.len()));
    }
    if let Some(record) = &view.overridden.record {
        let actor = record.actor.as_ref().map_or_else(String::new, |by| format!("{}: ", text(by)));
        parts.push(format!("{actor}{}", text(&record.reason)));
        if view.state.state() != State::Closed {
            parts.push(format!("beneath it: {}", view.state.state()));
        }
        return parts.join("; ");
    }
    match &view.state {
        RecordState::Closed if view.suspect.is_some() => {
            parts.push(view::suspicion(&view.tally));
        }
        RecordState::Closed => {}
        RecordState::Open { terms, .. } | RecordState::HalfOpen { terms, .. } => {
            parts.extend(view.reason.map(|reason| view::why_open(reason, &view.tally)));
            if terms.reopenings > 0 {
                parts.push(format!("opened again {} times", terms.reopenings));
            }
        }
    }
    parts.extend(view::last_error(view.last_error.as_deref()));
    parts.extend(view::failures_on(&view.contributors));
    parts.join("; ")
}

/// The evidence: of the record, where there is one; else what replicas count.
fn failures(view: &View, said: &[Said<'_>]) -> Option<(u64, u64)> {
    let known = [view.tally.failures, view.tally.calls];
    let sums = said.iter().map(|said| [said.summary.tally.failures, said.summary.tally.calls]);
    let [failures, calls] = if view.tally.calls > 0 && view.state.state() != State::Closed {
        known
    } else {
        sums.fold([0_u64; 2], |[a, b], [c, d]| [a.saturating_add(c), b.saturating_add(d)])
    };
    let [failures, calls] = if calls == 0 { known } else { [failures, calls] };
    (calls > 0).then_some((failures, calls))
}

/// Rejected calls on all replicas, since each of them made the circuit.
fn rejected(said: &[Said<'_>]) -> Option<u64> {
    let each = said.iter().map(|said| said.summary.rejected);
    (!said.is_empty()).then(|| each.fold(0, u64::saturating_add))
}
