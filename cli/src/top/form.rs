//! What an operator is asked before a circuit is changed.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::OverrideChange;
use tower_breaker::overrides::{Override, OverrideState};

use crate::args;
use crate::print::text;
use crate::view::span;

/// The longest reason, in bytes.
const LONGEST: usize = 512;

/// How long an override lasts, unless the operator says otherwise: one that is forgotten ends.
const LASTING: &str = "10m";

/// What is done to a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Open,
    Close,
    Disable,
    Reset,
}

impl Action {
    pub(crate) fn of(key: char) -> Option<Self> {
        Some(match key {
            'o' => Self::Open,
            'c' => Self::Close,
            'd' => Self::Disable,
            'r' => Self::Reset,
            _ => return None,
        })
    }

    fn state(self) -> Option<OverrideState> {
        Some(match self {
            Self::Open => OverrideState::ForcedOpen,
            Self::Close => OverrideState::ForcedClosed,
            Self::Disable => OverrideState::Disabled,
            Self::Reset => return None,
        })
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Open => "force open",
            Self::Close => "force closed",
            Self::Disable => "disable",
            Self::Reset => "reset",
        }
    }

    fn means(self) -> &'static str {
        match self {
            Self::Open => "every replica rejects its calls",
            Self::Close => "every replica admits its calls",
            Self::Disable => "calls pass, and nothing is counted",
            Self::Reset => "its override ends, and it closes on every replica",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reason,
    Lasting,
    Confirm,
}

/// The questions on their way. The circuit is that of the first key, whatever is selected later.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) name: CircuitName,
    action: Action,
    step: Step,
    reason: String,
    lasting: String,
    /// Why the last answer was not taken.
    problem: Option<String>,
}

/// What follows a key.
#[derive(Debug)]
pub(crate) enum Answered {
    /// There is another question.
    Asks,
    /// The operator does not want to.
    Cancelled,
    Confirmed(OverrideChange),
}

impl Form {
    pub(crate) fn new(action: Action, name: CircuitName) -> Self {
        let step = if action == Action::Reset { Step::Confirm } else { Step::Reason };
        let (reason, lasting) = (String::new(), LASTING.to_owned());
        Self { name, action, step, reason, lasting, problem: None }
    }

    pub(crate) fn insert(&mut self, typed: &str) {
        self.problem = None;
        let (field, most) = match self.step {
            Step::Reason => (&mut self.reason, LONGEST),
            Step::Lasting => (&mut self.lasting, 64),
            Step::Confirm => return,
        };
        for c in typed.chars().filter(|c| !c.is_control()) {
            if field.len() + c.len_utf8() <= most {
                field.push(c);
            }
        }
    }

    pub(crate) fn erase(&mut self) {
        self.problem = None;
        match self.step {
            Step::Reason => drop(self.reason.pop()),
            Step::Lasting => drop(self.lasting.pop()),
            Step::Confirm => {}
        }
    }

    /// Erases the whole answer.
    pub(crate) fn clear(&mut self) {
        self.problem = None;
        match self.step {
            Step::Reason => self.reason.clear(),
            Step::Lasting => self.lasting.clear(),
            Step::Confirm => {}
        }
    }

    /// The answer to the question is given.
    pub(crate) fn enter(&mut self) {
        match self.step {
            Step::Reason if self.reason.trim().is_empty() => {
                self.problem = Some("a reason is needed, for those who see it later".to_owned());
            }
            Step::Reason => self.step = Step::Lasting,
            Step::Lasting => match self.lasts() {
                Ok(_) => self.step = Step::Confirm,
                Err(problem) => self.problem = Some(problem),
            },
            // Only `y` confirms: Enter comes by itself, from what was pasted or pressed twice.
            Step::Confirm => {}
        }
    }

    /// A character in answer to the question.
    pub(crate) fn key(&mut self, c: char, actor: Option<&str>) -> Answered {
        match (self.step, c) {
            (Step::Confirm, 'y' | 'Y') => Answered::Confirmed(self.change(actor)),
            (Step::Confirm, 'n' | 'N') => Answered::Cancelled,
            _ => {
                self.insert(c.encode_utf8(&mut [0; 4]));
                Answered::Asks
            }
        }
    }

    fn lasts(&self) -> Result<Option<Duration>, String> {
        match self.lasting.trim() {
            "" => Ok(None),
            lasting => args::time(lasting).map(Some),
        }
    }

    fn change(&self, actor: Option<&str>) -> OverrideChange {
        let Some(state) = self.action.state() else { return OverrideChange::Reset };
        let mut set = Override::new(state, self.reason.trim());
        if let Some(actor) = actor {
            set = set.actor(actor);
        }
        // It was checked before.
        if let Ok(Some(lasting)) = self.lasts() {
            set = set.lasting(lasting);
        }
        OverrideChange::Set(set.into())
    }

    /// What is asked, and what is typed so far. Both are escaped.
    pub(crate) fn asks(&self) -> (String, Option<String>) {
        let (verb, name) = (self.action.verb(), text(self.name.as_str()));
        match self.step {
            Step::Reason => (format!("{verb} {name}, why?"), Some(text(&self.reason))),
            Step::Lasting => {
                let asks = format!("{verb} {name}, for how long? (empty: until it is reset)");
                (asks, Some(text(&self.lasting)))
            }
            Step::Confirm => {
                let lasting = match (self.action, self.lasts()) {
                    (Action::Reset, _) => String::new(),
                    (_, Ok(Some(lasting))) => format!(" for {}", span(lasting)),
                    _ => " until it is reset".to_owned(),
                };
                (format!("{verb} {name}{lasting}: {}. y or n?", self.action.means()), None)
            }
        }
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What was done, for the message after it.
    pub(crate) fn verb(&self) -> &'static str {
        self.action.verb()
    }
}
