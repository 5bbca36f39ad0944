//! What is wrong with the settings: everything at once.

use std::fmt;

use crate::backend::BackendError;

/// Settings that cannot be used: every reason why.
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

/// So much of a wrong value is shown.
const SHOWN: usize = 64;

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// What is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    pub(super) fn new(variable: &str, value: Option<&str>, expected: impl fmt::Display) -> Self {
        let shown = |value: &str| value.chars().take(SHOWN).collect();
        let (variable, value) = (variable.to_owned(), value.map(shown));
        Self { variable, value, expected: expected.to_string() }
    }

    /// The variable.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// Its value, unless that may have a secret in it; cut after 64 characters.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// What was expected, or what is wrong.
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

/// A store could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
