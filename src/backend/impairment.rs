//! Ways in which sharing works only in part.

use std::fmt;

/// One way in which sharing works only in part, and its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Impairment {
    /// Changes are not pushed, so replicas learn of them by polling, seconds later.
    NotPushed {
        /// The error.
        cause: String,
    },
    /// Some [groups](super::Group) of circuits cannot be read or written. Their circuits are
    /// detached.
    GroupsUnreachable {
        /// How many groups.
        groups: usize,
        /// The last error.
        cause: String,
    },
    /// The backend refuses operations on some circuits, which are detached.
    CircuitsDetached {
        /// How many circuits.
        circuits: usize,
        /// The last error.
        cause: String,
    },
    /// The backend works, but is not configured safely.
    Unsafe {
        /// What to change.
        cause: String,
    },
}

impl Impairment {
    /// Returns whether there is one of this kind among others. What is unsafe differs by its cause.
    pub(crate) fn is_among(&self, others: &[Self]) -> bool {
        others.iter().any(|other| match (other, self) {
            (Self::Unsafe { cause: a }, Self::Unsafe { cause: b }) => a == b,
            _ => std::mem::discriminant(other) == std::mem::discriminant(self),
        })
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> &str {
        match self {
            Self::NotPushed { cause }
            | Self::GroupsUnreachable { cause, .. }
            | Self::CircuitsDetached { cause, .. }
            | Self::Unsafe { cause } => cause,
        }
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPushed { cause } => write!(f, "changes are not pushed: {cause}"),
            Self::GroupsUnreachable { groups, cause } => {
                write!(f, "{groups} of {} groups cannot be used: {cause}", super::Group::COUNT)
            }
            Self::CircuitsDetached { circuits: 1, cause } => {
                write!(f, "1 circuit is detached: {cause}")
            }
            Self::CircuitsDetached { circuits, cause } => {
                write!(f, "{circuits} circuits are detached: {cause}")
            }
            Self::Unsafe { cause } => f.write_str(cause),
        }
    }
}
