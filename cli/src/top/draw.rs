//! The screen as a function of the model.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Clear, Paragraph, Row as Cells, Table, Wrap};
use tower_breaker::State;

use super::cluster::Link;
use super::look::Look;
use super::model::{Mode, Model};
use super::pane;
use super::rows::{Rank, Row};
use crate::print::text;
use crate::view::span;

/// The lines of the headline, of the status, and of the keys.
const AROUND: u16 = 4;

/// With fewer lines than this there are no details beneath the table.
const DETAILS_FROM: u16 = 18;

pub(crate) fn whole(frame: &mut Frame<'_>, model: &Model, look: Look) {
    let rows = model.rows();
    let at = model.position(&rows);
    let area = frame.area();
    let below = if area.height >= DETAILS_FROM { (area.height - AROUND) * 2 / 5 } else { 0 };
    let [head, status, table, details, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Min(0),
        Constraint::Length(if model.enlarged.is_some() { 0 } else { below }),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(headline(model, &rows, look), head);
    frame.render_widget(Paragraph::new(vec![standing(model, &rows, look)]), status);
    if let Some(from) = model.enlarged {
        details_of(frame, model, &rows, look, table, from);
    } else {
        listing(frame, model, &rows, at, look, table);
        details_of(frame, model, &rows, look, details, 0);
    }
    frame.render_widget(keys(model, look), footer);
    if matches!(model.mode, Mode::Help) {
        help(frame, area, look);
    }
}

/// Redis never answered.
const NOT_KNOWN: &str = " not known: Redis does not answer";

fn headline(model: &Model, rows: &[Row], look: Look) -> Paragraph<'static> {
    let rejecting: Vec<_> = rows.iter().filter(|row| row.rank == Rank::Rejects).collect();
    let unreadable = rows.iter().filter(|row| row.state.is_none()).count();
    let away = matches!(model.cluster.link, Link::Away { .. });
    let when = if away { "when Redis last answered: " } else { "" };
    let readable = if unreadable > 0 { "readable " } else { "" };
    let mut words = match (&model.cluster.link, rejecting.len()) {
        (Link::Reading, _) => " reading the circuits".to_owned(),
        (_, 0) if away && model.cluster.answered.is_none() => NOT_KNOWN.to_owned(),
        (_, 0) => {
            let matching = if model.search.is_empty() { "" } else { "that matches " };
            format!(" {when}no {readable}circuit {matching}rejects calls")
        }
        (_, count) => {
            let names: Vec<_> = rejecting.iter().take(20).map(|row| text(&row.name)).collect();
            let (s, reject) = if count == 1 { ("", "rejects") } else { ("s", "reject") };
            format!(" {when}{count} circuit{s} {reject} calls: {}", names.join(", "))
        }
    };
    if unreadable > 0 {
        let is = if unreadable == 1 { "is" } else { "are" };
        words = format!("{words}; {unreadable} {is} unreadable");
    }
    let style = match rejecting.len() {
        0 if away || unreadable > 0 => look.warning(),
        count => look.headline(count > 0),
    };
    Paragraph::new(words).style(style)
}

/// How current it is, and of what.
fn standing(model: &Model, rows: &[Row], look: Look) -> Line<'static> {
    let now = model.now;
    let link = match &model.cluster.link {
        Link::Reading => Span::raw(" connected"),
        Link::Connected => Span::raw(" Redis answers"),
        Link::Away { since, error } => {
            let away = span(now.saturating_sub(*since));
            let mut words = format!(" REDIS DOES NOT ANSWER since {away}: {}", text(error));
            if let Some(answered) = model.cluster.answered {
                let old = span(now.saturating_sub(answered));
                words = format!("{words}. What is shown is {old} old");
            }
            return Line::from(Span::styled(words, look.warning()));
        }
    };
    let replicas = model.cluster.replicas();
    let silent = replicas.iter().filter(|replica| replica.is_silent()).count();
    let impaired = replicas.iter().filter(|replica| !replica.impaired.is_empty()).count();
    let mut parts = vec![link, Span::raw(format!("; {}", count(replicas.len(), "replica")))];
    if silent > 0 {
        parts.push(Span::styled(format!(", {silent} silent"), look.warning()));
    }
    if impaired > 0 {
        parts.push(Span::styled(format!(", {impaired} impaired"), look.warning()));
    }
    parts.push(Span::raw(format!("; {}", count(rows.len(), "circuit"))));
    if !model.search.is_empty() {
        parts.push(Span::raw(format!(" with \"{}\"", text(&model.search))));
    }
    parts.push(Span::raw(format!("; by {}", model.sort.as_str())));
    Line::from(parts)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn listing(
    frame: &mut Frame<'_>,
    model: &Model,
    rows: &[Row],
    at: Option<usize>,
    look: Look,
    area: Rect,
) {
    let head = ["", "CIRCUIT", "STATE", "SINCE", "NEXT", "REJECTED", "FAILED", "WHY"];
    let head = Cells::new(head.map(Cell::from)).style(Look::QUIET);
    if rows.is_empty() {
        let words = match (&model.cluster.link, model.cluster.answered) {
            (Link::Reading, _) => "",
            (Link::Away { .. }, None) => NOT_KNOWN,
            _ if !model.search.is_empty() => " no circuit matches; Esc ends the search",
            (Link::Away { .. }, Some(_)) => {
                " every circuit was closed when Redis last answered, and no replica published any"
            }
            (Link::Connected, _) => " every circuit is closed, and no replica publishes any",
        };
        return frame.render_widget(Paragraph::new(words), area);
    }
    let wide = area.width >= 100;
    let names = rows.iter().map(|row| text(&row.name).chars().count()).max().unwrap_or(0);
    let names = u16::try_from(names).unwrap_or(u16::MAX).clamp(7, if wide { 40 } else { 18 });
    let widths = [
        Constraint::Length(2),
        Constraint::Length(names),
        Constraint::Length(13),
        Constraint::Length(if wide { 8 } else { 6 }),
        Constraint::Length(if wide { 18 } else { 12 }),
        Constraint::Length(if wide { 9 } else { 8 }),
        Constraint::Length(if wide { 14 } else { 6 }),
        Constraint::Min(0),
    ];
    let height = usize::from(area.height.saturating_sub(1));
    let first = at.unwrap_or(0).saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    let visible = rows.iter().enumerate().skip(first).take(height);
    let lines = visible.map(|(n, row)| line(row, at == Some(n), wide, look));
    frame.render_widget(Table::new(lines, widths).header(head), area);
}

fn line(row: &Row, selected: bool, wide: bool, look: Look) -> Cells<'static> {
    let marker = if selected { look.marker() } else { " " };
    let state = match row.state {
        None => "unreadable".to_owned(),
        Some(State::Closed) if row.rank == Rank::Suspect => "suspect".to_owned(),
        Some(state) => state.to_string(),
    };
    let failed = row.failures.map_or_else(String::new, |(failures, calls)| {
        let percent = failures.saturating_mul(100) / calls.max(1);
        if wide { format!("{percent} % of {calls}") } else { format!("{percent} %") }
    });
    let cells = [
        format!("{marker}{}", look.symbol(row.state, row.rank)),
        text(&row.name),
        state,
        row.since.map_or_else(String::new, short),
        if wide { row.next.clone() } else { row.next.replace("probes in", "probe") },
        row.rejected.map_or_else(String::new, |rejected| rejected.to_string()),
        failed,
        row.why.clone(),
    ];
    let style = look.rank(row.rank);
    let style = if selected { style.add_modifier(Modifier::REVERSED) } else { style };
    Cells::new(cells.map(Cell::from)).style(style)
}

/// A duration in two units at most: `2h 5m`.
fn short(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

fn details_of(
    frame: &mut Frame<'_>,
    model: &Model,
    rows: &[Row],
    look: Look,
    area: Rect,
    from: u16,
) {
    let mut details = match (model.detailed(rows), model.gone(rows)) {
        _ if area.height == 0 => return,
        (Some(row), _) => pane::lines(model, row, look),
        (None, Some(gone)) => {
            let words = format!(" {} is not among these circuits; select another one", text(gone));
            vec![Line::styled(words, look.warning())]
        }
        (None, None) => return,
    };
    let rule = look.rule().repeat(usize::from(area.width));
    let mut lines = vec![Line::styled(rule, Look::QUIET)];
    lines.extend(details.drain(..).skip(usize::from(from)));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn keys(model: &Model, look: Look) -> Paragraph<'static> {
    let cursor = if look.unicode { "▏" } else { "_" };
    let line = match &model.mode {
        Mode::Search => {
            Line::from(format!(" search: {}{cursor}  (Enter, Esc)", text(&model.search)))
        }
        Mode::Ask(form) => {
            let (asks, typed) = form.asks();
            let problem = form.problem().map(|problem| format!(" [{problem}] "));
            let typed = typed.map_or_else(String::new, |typed| format!(" {typed}{cursor}"));
            let asks = Span::styled(format!(" {asks}"), look.warning());
            let problem = Span::styled(problem.unwrap_or_default(), look.rank(Rank::Rejects));
            // The problem first: a long answer pushes what follows it out of the line.
            Line::from(vec![problem, asks, Span::raw(typed)])
        }
        Mode::Browse | Mode::Help => match model.message() {
            Some(message) => Line::styled(format!(" {message}"), look.warning()),
            None => Line::styled(
                " o open  c close  d disable  r reset  / search  s sort  Enter details  ? help  q quit",
                Look::QUIET,
            ),
        },
    };
    Paragraph::new(line)
}

fn help(frame: &mut Frame<'_>, area: Rect, look: Look) {
    let keys = [
        ["Up Down j k", "select a circuit"],
        ["PgUp PgDn Home End", "the same, further"],
        ["Enter", "details on the whole screen, and back"],
        ["o", "force open: every replica rejects its calls"],
        ["c", "force closed: every replica admits its calls"],
        ["d", "disable: calls pass, and nothing is counted"],
        ["r", "reset: end the override, and close"],
        ["/", "search names; Esc ends the search"],
        ["s", "sort within what is equally bad"],
        ["q Ctrl-C", "quit"],
    ];
    let mut lines: Vec<_> =
        keys.iter().map(|[key, means]| Line::from(format!("  {key:<20}{means}"))).collect();
    let symbols = [
        (State::Open, Rank::Rejects),
        (State::HalfOpen, Rank::Rejects),
        (State::ForcedOpen, Rank::Rejects),
        (State::ForcedClosed, Rank::Unusual),
        (State::Disabled, Rank::Unusual),
        (State::Closed, Rank::Closed),
    ];
    let symbols =
        symbols.map(|(state, rank)| format!("{} {state}", look.symbol(Some(state), rank)));
    lines.push(Line::default());
    lines.push(Line::from(format!("  {}", symbols.join("   "))));
    lines
        .push(Line::from("  FAILED: when it opened; of a closed circuit, what replicas count now"));
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = 74.min(area.width);
    let box_area = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    lines.insert(0, Line::styled("  keys (any key goes back)", look.headline(false)));
    frame.render_widget(Clear, box_area);
    frame.render_widget(Paragraph::new(lines), box_area);
}
