//! Failures, by their kind.

use std::fmt;

use crate::outcome::FailureKind;

/// Numbers of failures, by [`FailureKind`].
///
/// ```
/// use tower_breaker::classify::FailureKind;
/// use tower_breaker::{Outcome, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// payments.try_acquire()?.settle(Outcome::failure());
///
/// let failed = payments.snapshot().totals.failed;
/// assert_eq!(failed.sum(), 1);
/// assert_eq!(failed.get(FailureKind::Other), 1, "a permit does not know the kind");
/// # Ok::<(), tower_breaker::Rejected>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ByKind([u64; FailureKind::ALL.len()]);

impl ByKind {
    /// Returns the number of failures of this kind.
    #[must_use]
    pub const fn get(&self, kind: FailureKind) -> u64 {
        self.0[kind as usize]
    }

    /// Returns the number of all failures.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns all kinds with their numbers, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64)> + '_ {
        FailureKind::ALL.into_iter().map(|kind| (kind, self.get(kind)))
    }

    pub(crate) fn count(&mut self, kind: FailureKind) {
        self.0[kind as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum += n);
    }
}

/// A map of the kinds that are not zero.
#[cfg(feature = "serde")]
impl serde::Serialize for ByKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().filter(|(_, n)| *n > 0))
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ByKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = std::collections::HashMap::<FailureKind, u64>::deserialize(from)?;
        let mut kinds = Self::default();
        for (kind, n) in read {
            kinds.0[kind as usize] = n;
        }
        Ok(kinds)
    }
}

impl fmt::Debug for ByKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, n)| *n > 0)).finish()
    }
}
