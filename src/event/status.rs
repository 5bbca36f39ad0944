//! How the backend is.

use std::fmt;

/// How the backend of a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendStatus {
    /// There is none: circuits belong to this process.
    None,
    /// The ledger answers, or nothing shows yet that it does not.
    Connected,
    /// The ledger does not answer. This replica decides alone until it does.
    Degraded {
        /// What went wrong last.
        reason: String,
    },
}

impl BackendStatus {
    /// Whether this replica decides alone, although it should not.
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
