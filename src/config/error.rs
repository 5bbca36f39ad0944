//! Errors of settings, which name every problem at once.

use std::fmt;

use crate::backend::BackendError;

/// The error of settings that cannot be used. It names every problem at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    variable: String,
    value: Option<String>,
    expected: String,
}

/// The most characters that are shown of a wrong value.
const SHOWN: usize = 64;

/// Whether a text looks like a URL, which may contain a password, in the wrong place.
pub(super) fn may_be_secret(text: &str) -> bool {
    text.contains("://") || text.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Returns the problems, one per wrong setting.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    pub(super) fn new(variable: &str, value: Option<&str>, expected: impl fmt::Display) -> Self {
        let shown = |value: &str| value.chars().take(SHOWN).collect();
        let variable = variable.to_owned();
        match value {
            Some(value) if may_be_secret(value) => {
                Self { variable, value: None, expected: format!("expected {expected}") }
            }
            value => Self { variable, value: value.map(shown), expected: expected.to_string() },
        }
    }

    /// Returns the name of the environment variable, or the way to the setting in a file:
    /// `circuit.payments.failure_rate`.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// Returns its value, truncated to 64 characters, or `None` if it may contain a secret.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Returns what was expected, or what is wrong.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => {
                write!(f, "`{}` is {value:?}, expected {}", self.variable, self.expected)
            }
            None => write!(f, "`{}`: {}", self.variable, self.expected),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used: ")?;
        for (n, problem) in self.problems.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            write!(f, "{comma}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The error of a store that could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backend cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
