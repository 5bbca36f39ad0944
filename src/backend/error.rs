//! Why a backend gave no answer.

use std::fmt;

/// The error of a backend that did not answer, or refused an operation.
///
/// No call ever fails with it: a circuit decides without its backend. The error appears in
/// [`Store::backend`](crate::Store::backend) and in the log, and is returned by methods that
/// connect a backend or wait for a [`PendingOverride`](crate::overrides::PendingOverride).
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
    /// Returns the error of a backend that cannot be reached, or does not answer in time.
    ///
    /// If every [heartbeat](super::Backend::heartbeat) fails for two seconds, a replica decides
    /// without the backend until one is answered. If other operations fail with this error, the
    /// replica sends them again, and less of everything for a while.
    ///
    /// The message is for people. It must not contain a secret.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, message: message.into() }
    }

    /// Returns the error of a backend that answers but will not do this: the record is not one of
    /// this crate, or of a newer version, or the user has no permission. A replica then decides
    /// without the backend for the circuit, or for the group of a batch, and tries again after some
    /// seconds.
    ///
    /// The message is for people. It must not contain a secret.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into() }
    }

    /// Returns whether the backend cannot be reached at all, rather than that it refused.
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
