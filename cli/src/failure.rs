//! Why something was not done.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why something was not done. No text has a secret.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the environment are wrong.
    Usage(String),
    /// It could not be done.
    Failed(String),
    /// Nothing reads what is written.
    PipeClosed,
    /// A signal ended it: this one.
    Ended(i32),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::PipeClosed => 0,
            // As shells have it.
            Self::Ended(signal) => u8::try_from(128 + signal).unwrap_or(1),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::PipeClosed => f.write_str("nothing reads the output"),
            Self::Ended(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<tower_breaker::backend::BackendError> for Failure {
    fn from(error: tower_breaker::backend::BackendError) -> Self {
        Self::Failed(error.to_string())
    }
}
