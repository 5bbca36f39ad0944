//! Why a trace cannot be replayed.

use std::io;

/// The error of a trace that cannot be replayed.
///
/// Its message has the number of the line, what is wrong there, and what is expected. Values are
/// quoted, with control characters escaped.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReplayError(#[from] Kind);

#[derive(Debug, thiserror::Error)]
pub(super) enum Kind {
    #[error("line {line}: {problem}")]
    Line { line: u64, problem: String },
    #[error("cannot read the trace after line {line}: {source}")]
    Read { line: u64, source: io::Error },
    #[error("{0}")]
    Setting(String),
}

impl ReplayError {
    /// Returns the number of the line that is wrong, from 1. `None` if it is not a line that is
    /// wrong.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        match &self.0 {
            Kind::Line { line, .. } => Some(*line),
            Kind::Read { .. } | Kind::Setting(_) => None,
        }
    }

    /// Returns whether the reader failed, rather than that the trace or the settings are wrong.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.0, Kind::Read { .. })
    }
}
