//! The details of the selected circuit, as lines.

use std::time::Duration;

use ratatui::text::{Line, Span};
use tower_breaker::State;
use tower_breaker::backend::{RecordState, View};
use tower_breaker::event::{HistoryEntry, Tally};

use super::cluster::Said;
use super::look::Look;
use super::model::Model;
use super::rows::{Rank, Row};
use crate::history::{change, explained, moment};
use crate::print::text;
use crate::view::{self, span};

/// Returns the lines: the state, the evidence, what replicas say, and the history, newest first.
pub(crate) fn lines(model: &Model, row: &Row, look: Look) -> Vec<Line<'static>> {
    let (name, now) = (row.name.as_str(), model.now);
    let mut lines = Vec::new();
    match model.cluster.view(name, now) {
        Ok(view) => {
            let state = view.shown_state();
            lines.push(head(row, state, &view, look));
            facts(&view, row, &mut lines);
            replicas(&model.cluster.said(name, state, now), look, &mut lines);
        }
        Err(error) => {
            lines.push(Line::styled(format!(" {} is unreadable", text(name)), look.warning()));
            lines.push(fact("why", &text(error)));
        }
    }
    match model.cluster.past(name, now) {
        Some((older, Ok(entries))) => past(entries, older, look, &mut lines),
        Some((_, Err(error))) => lines.push(fact("history", &text(error))),
        None => lines.push(fact("history", "not read yet")),
    }
    lines
}

fn fact(what: &str, is: &str) -> Line<'static> {
    Line::from(format!(" {what:<10}{is}"))
}

fn head(row: &Row, state: State, view: &View, look: Look) -> Line<'static> {
    let since = row
        .since
        .map_or_else(String::new, |since| format!(" for {}, since {}", span(since), moment(since)));
    let generation = view.generation;
    Line::from(vec![
        Span::styled(
            format!(" {} {} is {state}", look.symbol(row.state, row.rank), text(&row.name)),
            look.rank(row.rank).add_modifier(ratatui::style::Modifier::BOLD),
        ),
        Span::raw(format!("{since}; generation {generation}")),
    ])
}

fn facts(view: &View, row: &Row, lines: &mut Vec<Line<'static>>) {
    if !row.why.is_empty() {
        lines.push(fact("why", &row.why));
    }
    if let Some(record) = &view.overridden.record {
        lines.push(fact("override", &view::overridden(record)));
    }
    match &view.state {
        RecordState::Closed => {}
        RecordState::Open { terms, remaining } => {
            let next = match span(*remaining) {
                _ if remaining.is_zero() => "the next call is a probe".to_owned(),
                left => format!("probes in {left}"),
            };
            let next = format!("{next}, of {}; {} at once", span(terms.interval), terms.probes);
            lines.push(fact("next", &next));
        }
        RecordState::HalfOpen { terms, passed, out, .. } => {
            let (most, needed) = (terms.probes, terms.successes_to_close);
            let next = format!("{out} of {most} probes out, {passed} of {needed} have succeeded");
            lines.push(fact("next", &next));
        }
    }
    if view.tally.calls > 0 || view.tally.consecutive_failures > 0 {
        lines.push(fact("evidence", &view::counted(&view.tally)));
    }
}

fn replicas(said: &[Said<'_>], look: Look, lines: &mut Vec<Line<'static>>) {
    /// The most replicas that agree and are listed. Of those that disagree, which come first, all are.
    const MOST: usize = 8;

    let odd = said.iter().take_while(|one| one.disagrees).count();
    for (n, one) in said.iter().take(odd + MOST).enumerate() {
        let summary = one.summary;
        let detached = if summary.detached { ", detached: it decides without Redis" } else { "" };
        let counted = (summary.tally != Tally::default()).then(|| view::counted(&summary.tally));
        let parts = [
            Some(format!(
                "{} {} for {}{detached}",
                text(one.replica),
                summary.state,
                span(one.since)
            )),
            one.disagrees.then(|| "it disagrees".to_owned()),
            counted,
            Some(format!(
                "in all {} succeeded, {} failed, {} rejected",
                summary.succeeded, summary.failed, summary.rejected
            )),
        ];
        let words = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let line = fact(if n == 0 { "replicas" } else { "" }, &words);
        lines.push(if one.disagrees { line.style(look.warning()) } else { line });
    }
    if said.len() > odd + MOST {
        lines.push(fact("", &format!("and {} more", said.len() - odd - MOST)));
    }
}

fn past(entries: &[HistoryEntry], older: Duration, look: Look, lines: &mut Vec<Line<'static>>) {
    if entries.is_empty() {
        lines.push(fact("history", "no change within the last 24 hours"));
    }
    for (n, entry) in entries.iter().rev().enumerate() {
        let what = if n == 0 { "history" } else { "" };
        let ago = entry.ago.saturating_add(older);
        let (transition, rejects) = (&entry.transition, super::rows::rejects(entry.transition.to));
        let style = look.rank(if rejects { Rank::Rejects } else { Rank::Closed });
        lines.push(Line::from(vec![
            Span::raw(format!(" {what:<10}{} {:>9} ago  ", moment(ago), span(ago))),
            Span::styled(format!("{:<24}", change(transition)), style),
            Span::raw(explained(transition)),
        ]));
    }
}
