//! Whether the backend answers.

use std::fmt;

/// Whether the backend of a store answers. [`Store::backend`](crate::Store::backend) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendStatus {
    /// The store has no backend: its circuits belong to this process.
    None,
    /// The backend answers, or no operation has shown yet that it does not.
    Connected,
    /// The backend does not answer. The circuits of this replica decide without it until it does.
    Degraded {
        /// The last error.
        reason: String,
    },
}

impl BackendStatus {
    /// Returns whether the store has a backend that does not answer.
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded { .. })
    }
}

impl fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no backend"),
            Self::Connected => f.write_str("connected"),
            Self::Degraded { reason } => write!(f, "degraded: {reason}"),
        }
    }
}
