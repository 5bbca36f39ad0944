//! Why a backend gave no answer.

use std::fmt;

/// A backend gave no answer.
///
/// No call ever fails with it: a replica without its backend decides alone. It shows in
/// [`Store::backend`](crate::Store::backend), in log events, and to those who connect a backend or
/// set a state by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Refused,
}

impl BackendError {
    /// The ledger cannot be reached, or does not answer in time: for nothing and nobody. A replica
    /// that sees several of these in a row stops asking, and decides alone until a
    /// [`ping`](super::Backend::ping) is answered.
    ///
    /// The message is for people. It must contain no secret.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, message: message.into() }
    }

    /// The ledger answers, and will not do this: the record is not one of ours, or newer than this
    /// version, or the user may not. A replica decides alone for this circuit, and asks again now
    /// and then.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into() }
    }

    /// Whether the ledger cannot be reached at all.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BackendError {}
