//! How things look: with colours or without, with symbols beyond ASCII or without. Colour never says
//! anything by itself: each state has its word and its symbol.

use ratatui::style::{Color, Modifier, Style};
use tower_breaker::State;

use super::rows::Rank;
use crate::connection::variable;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) colours: bool,
    pub(crate) unicode: bool,
}

impl Look {
    /// What is there if one looks for it.
    pub(crate) const QUIET: Style = Style::new().add_modifier(Modifier::DIM);

    /// Reads the environment: `NO_COLOR`, `TERM`, and the locale.
    pub(crate) fn of_environment() -> Self {
        let dumb = variable("TERM").is_none_or(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
        let locale = locale.unwrap_or_default().to_lowercase();
        Self {
            colours: variable("NO_COLOR").is_none() && !dumb,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub(crate) fn rank(self, rank: Rank) -> Style {
        match rank {
            Rank::Rejects => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            Rank::Unusual => self.colour(Color::Yellow).add_modifier(Modifier::BOLD),
            Rank::Suspect => self.colour(Color::Yellow),
            Rank::Closed => Style::new(),
        }
    }

    /// The headline: what is wrong stands out from two metres.
    pub(crate) fn headline(self, wrong: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match (wrong, self.colours) {
            (true, true) => style.fg(Color::White).bg(Color::Red),
            (true, false) => style.add_modifier(Modifier::REVERSED),
            (false, _) => style,
        }
    }

    pub(crate) fn warning(self) -> Style {
        self.colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// The symbol of a state. `None`: its record cannot be read.
    pub(crate) fn symbol(self, state: Option<State>, rank: Rank) -> &'static str {
        let [unicode, ascii] = match state {
            None => ["?", "?"],
            Some(State::Open) => ["■", "#"],
            Some(State::HalfOpen) => ["◧", "%"],
            Some(State::ForcedOpen) => ["▣", "X"],
            Some(State::ForcedClosed) => ["□", "="],
            Some(State::Disabled) => ["○", "o"],
            Some(State::MetricsOnly) => ["◌", "m"],
            Some(_) if rank == Rank::Rejects => ["!", "!"],
            Some(_) if rank == Rank::Suspect => ["△", "^"],
            Some(_) => ["·", "."],
        };
        if self.unicode { unicode } else { ascii }
    }

    pub(crate) fn rule(self) -> &'static str {
        if self.unicode { "─" } else { "-" }
    }

    pub(crate) fn marker(self) -> &'static str {
        if self.unicode { "▶" } else { ">" }
    }
}
