//! Whether circuits are shared.

use std::fmt;

use crate::backend::Impairment;

/// Whether the circuits of a store are shared through its backend.
/// [`Store::backend`](crate::Store::backend) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "status", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BackendStatus {
    /// The store has no backend: its circuits belong to this process.
    None,
    /// The backend has not answered yet. Until it does, circuits of this replica decide without it.
    /// After about two seconds the status is [`Degraded`](Self::Degraded), with the reason.
    Connecting,
    /// The backend answers, and nothing is impaired.
    Connected,
    /// The backend answers, but sharing works only in part.
    Impaired {
        /// What is impaired, each with its cause. At least one.
        what: Vec<Impairment>,
    },
    /// The backend has not answered for two seconds. The circuits of this replica decide without
    /// it until it does.
    Degraded {
        /// The last error.
        reason: String,
    },
    /// The store is shut down and uses its backend no more. Its circuits decide without it.
    Closed,
}

impl BackendStatus {
    /// Returns whether the store has a backend that does not answer.
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded { .. })
    }

    /// Returns whether the backend answers, even if something is [impaired](Self::Impaired).
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected | Self::Impaired { .. })
    }

    /// Returns whether both are the same kind of status. Causes and numbers change while it lasts.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let among = |one: &[Impairment], all: &[Impairment]| one.iter().all(|i| i.is_among(all));
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && among(self.impairments(), other.impairments())
            && among(other.impairments(), self.impairments())
    }

    /// Returns what is impaired. Empty unless the status is [`Impaired`](Self::Impaired).
    #[must_use]
    pub fn impairments(&self) -> &[Impairment] {
        match self {
            Self::Impaired { what } => what,
            _ => &[],
        }
    }
}

impl fmt::Display for BackendStatus {
    /// For example `degraded: connection refused`. The causes are as they were reported, and may
    /// have several lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no backend"),
            Self::Connecting => f.write_str("connecting"),
            Self::Connected => f.write_str("connected"),
            Self::Impaired { what } => {
                f.write_str("impaired")?;
                for (n, impairment) in what.iter().enumerate() {
                    write!(f, "{}{impairment}", if n == 0 { ": " } else { "; " })?;
                }
                Ok(())
            }
            Self::Degraded { reason } => write!(f, "degraded: {reason}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
