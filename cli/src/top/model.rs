//! What is shown: a reducer of what happens in the cluster and of keys. It reads no clock, and does
//! nothing but to say what is to be done.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tower_breaker::CircuitName;
use tower_breaker::backend::{OverrideChange, ReplicaInfo, View};
use tower_breaker::event::HistoryEntry;
use tower_breaker::store::ReplicaCircuits;

use super::cluster::Cluster;
use super::form::{Action, Answered, Form};
use super::rows::{Rank, Row, Sort, rows};
use crate::print::text;
use crate::view::details;

/// The most circuits whose past is read without being selected.
const MOST_PASTS: usize = 100;

/// The most questions about the past that wait for an answer.
const MOST_ASKED: usize = 4;

/// For how long a message is shown.
const MESSAGE: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    Tick,
    Key(KeyEvent),
    Pasted(String),
    /// All circuits that are not plain.
    Listed(Vec<(String, Result<View, String>)>),
    Changed(String, Box<View>),
    Published(ReplicaCircuits),
    Replicas(Vec<ReplicaInfo>),
    /// The backend does not answer.
    Away(String),
    Past(CircuitName, Result<Vec<HistoryEntry>, String>),
    /// The answer to a change.
    Done(CircuitName, &'static str, Result<Box<View>, String>),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    ReadPast(CircuitName),
    Change(CircuitName, &'static str, OverrideChange),
    Quit,
}

#[derive(Debug)]
pub(crate) enum Mode {
    Browse,
    Search,
    Ask(Box<Form>),
    Help,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) now: Duration,
    pub(crate) cluster: Cluster,
    pub(crate) mode: Mode,
    pub(crate) search: String,
    pub(crate) sort: Sort,
    /// The details of the selected circuit fill the screen, from this line on.
    pub(crate) enlarged: Option<u16>,
    /// The name of the selected circuit: rows move. It stays if its row is gone, so that no key
    /// acts on another circuit instead.
    selected: Option<String>,
    message: Option<(Duration, String)>,
    asked: usize,
    /// The second in which it was last decided what to ask: with many circuits that takes a while.
    decided: Option<u64>,
    actor: Option<String>,
}

impl Model {
    pub(crate) fn new(actor: Option<String>) -> Self {
        Self {
            now: Duration::ZERO,
            cluster: Cluster::new(),
            mode: Mode::Browse,
            search: String::new(),
            sort: Sort::Name,
            enlarged: None,
            selected: None,
            message: None,
            asked: 0,
            decided: None,
            actor,
        }
    }

    pub(crate) fn apply(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Tick => {
                self.cluster.tick(now);
                return self.ask_pasts();
            }
            Input::Key(key) => return self.key(key),
            Input::Pasted(pasted) => match &mut self.mode {
                Mode::Ask(form) => form.insert(&pasted),
                Mode::Search => self.search.extend(pasted.chars().filter(|c| !c.is_control())),
                Mode::Browse | Mode::Help => {}
            },
            Input::Listed(circuits) => self.cluster.listed(circuits, now),
            Input::Changed(name, view) => self.cluster.changed(name, *view, now),
            Input::Published(said) => self.cluster.published(said, now),
            Input::Replicas(replicas) => self.cluster.replicas_are(replicas, now),
            Input::Away(error) => self.cluster.away(error, now),
            Input::Past(name, entries) => {
                self.asked = self.asked.saturating_sub(1);
                self.cluster.past_is(name.as_str(), entries, now);
            }
            Input::Done(name, verb, answer) => self.done(&name, verb, answer),
        }
        Vec::new()
    }

    fn done(&mut self, name: &CircuitName, verb: &str, answer: Result<Box<View>, String>) {
        let shown = text(name.as_str());
        let message = match answer {
            Ok(view) => {
                let (state, details) = (view.shown_state(), details(&view));
                let colon = if details.is_empty() { "" } else { ": " };
                self.cluster.changed(name.as_str().to_owned(), *view, self.now);
                format!("{shown} is {state}{colon}{details}")
            }
            Err(error) => format!("cannot {verb} {shown}: {}", text(&error)),
        };
        self.message = Some((self.now, message));
    }

    /// The message of the last change, while it is new. It is escaped.
    pub(crate) fn message(&self) -> Option<&str> {
        let new = |at: Duration| self.now.saturating_sub(at) < MESSAGE;
        self.message.as_ref().filter(|(at, _)| new(*at)).map(|(_, message)| &**message)
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        rows(&self.cluster, &self.search, self.sort, self.now)
    }

    /// Where the selected row is. `None`: no circuit is selected, or its row is gone.
    pub(crate) fn position(&self, rows: &[Row]) -> Option<usize> {
        let name = self.selected.as_ref()?;
        rows.iter().position(|row| row.name == *name)
    }

    /// The row whose details are shown: the first one, until a circuit is selected.
    pub(crate) fn detailed<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        if self.selected.is_none() {
            return rows.first();
        }
        rows.get(self.position(rows)?)
    }

    /// The selected circuit whose row is gone.
    pub(crate) fn gone(&self, rows: &[Row]) -> Option<&str> {
        self.selected.as_deref().filter(|_| self.position(rows).is_none())
    }

    /// What was not read of the past of circuits that matter now.
    fn ask_pasts(&mut self) -> Vec<Effect> {
        let second = Some(self.now.as_secs());
        if self.decided == second
            || self.asked >= MOST_ASKED
            || !matches!(self.cluster.link, super::cluster::Link::Connected)
        {
            return Vec::new();
        }
        self.decided = second;
        let rows = self.rows();
        let selected = self.detailed(&rows).into_iter();
        let wrong = rows.iter().filter(|row| row.rank < Rank::Closed).take(MOST_PASTS);
        let mut effects = Vec::new();
        for row in selected.chain(wrong) {
            let Ok(name) = CircuitName::new(row.name.clone()) else { continue };
            if self.asked < MOST_ASKED && self.cluster.ask_past(&name, self.now) {
                self.asked += 1;
                effects.push(Effect::ReadPast(name));
            }
        }
        effects
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Terminals send Esc and a key after it as the same bytes.
            let mut effects = self.key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            let after = key.modifiers - KeyModifiers::ALT;
            effects.extend(self.key(KeyEvent::new(key.code, after)));
            return effects;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return vec![Effect::Quit];
        }
        match &mut self.mode {
            Mode::Browse => return self.browse(key.code),
            Mode::Help => self.mode = Mode::Browse,
            Mode::Search => match key.code {
                KeyCode::Enter => {
                    self.mode = Mode::Browse;
                    let rows = self.rows();
                    if self.position(&rows).is_none() {
                        self.selected = rows.first().map(|row| row.name.clone());
                    }
                }
                KeyCode::Esc => {
                    self.search.clear();
                    self.mode = Mode::Browse;
                }
                KeyCode::Backspace => drop(self.search.pop()),
                KeyCode::Char('u') if control => self.search.clear(),
                KeyCode::Char(c) if !control && self.search.len() < 256 => self.search.push(c),
                _ => {}
            },
            Mode::Ask(form) => match key.code {
                KeyCode::Enter => form.enter(),
                KeyCode::Esc => self.mode = Mode::Browse,
                KeyCode::Backspace => form.erase(),
                KeyCode::Char('u') if control => form.clear(),
                KeyCode::Char(c) if !control => match form.key(c, self.actor.as_deref()) {
                    Answered::Asks => {}
                    Answered::Cancelled => self.mode = Mode::Browse,
                    Answered::Confirmed(change) => {
                        let effect = Effect::Change(form.name.clone(), form.verb(), change);
                        self.mode = Mode::Browse;
                        self.message = Some((self.now, "waiting for the backend".to_owned()));
                        return vec![effect];
                    }
                },
                _ => {}
            },
        }
        Vec::new()
    }

    fn browse(&mut self, code: KeyCode) -> Vec<Effect> {
        match code {
            KeyCode::Char('q') => return vec![Effect::Quit],
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Search,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Esc | KeyCode::Enter if self.enlarged.is_some() => self.enlarged = None,
            KeyCode::Esc => self.search.clear(),
            KeyCode::Enter => {
                if self.selected.is_none() {
                    self.go(0);
                }
                self.enlarged = Some(0);
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-10),
            KeyCode::PageDown => self.go(10),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Char(c) => {
                let Some(action) = Action::of(c) else { return Vec::new() };
                let rows = self.rows();
                let selected = self.position(&rows).and_then(|at| rows.get(at));
                if let Some(row) = selected {
                    if let Ok(name) = CircuitName::new(row.name.clone()) {
                        self.mode = Mode::Ask(Box::new(Form::new(action, name)));
                    }
                } else {
                    // Rows move: the first one may have become another since it was looked at.
                    let problem = "no circuit is selected; select one with Up or Down";
                    self.message = Some((self.now, problem.to_owned()));
                }
            }
            _ => {}
        }
        Vec::new()
    }

    /// Scrolls the details where they fill the screen; else selects another row.
    fn go(&mut self, by: isize) {
        if let Some(line) = &mut self.enlarged {
            let to = isize::try_from(*line).unwrap_or(0).saturating_add(by);
            *line = u16::try_from(to.clamp(0, 500)).unwrap_or(0);
            return;
        }
        let rows = self.rows();
        let last = isize::try_from(rows.len()).unwrap_or(isize::MAX) - 1;
        // Without a selection, Down selects the first row.
        let from = self.position(&rows).map_or(-1, |at| isize::try_from(at).unwrap_or(0));
        let at = from.saturating_add(by);
        let row = usize::try_from(at.clamp(0, last.max(0))).unwrap_or(0);
        self.selected = rows.get(row).map(|row| row.name.clone());
    }
}
