//! Calls, and how many there were.

/// How a call of a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Failure,
    Ignored,
    Cancelled,
}

impl Ending {
    pub(super) const ALL: [Self; 4] =
        [Self::Success, Self::Failure, Self::Ignored, Self::Cancelled];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Numbers of calls, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Calls {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that say nothing about the upstream.
    pub ignored: u64,
    /// Calls that were dropped before they ended.
    pub cancelled: u64,
}

impl Calls {
    /// Returns how many calls there were.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.successes + self.failures + self.ignored + self.cancelled
    }

    /// Returns how many calls served their callers: those that succeeded.
    #[must_use]
    pub const fn good(&self) -> u64 {
        self.successes
    }

    /// Returns how many calls were made in vain: those that failed, and those that were cancelled
    /// and so had no answer.
    #[must_use]
    pub const fn bad(&self) -> u64 {
        self.failures + self.cancelled
    }

    pub(super) fn add(&mut self, ending: Ending) {
        *match ending {
            Ending::Success => &mut self.successes,
            Ending::Failure => &mut self.failures,
            Ending::Ignored => &mut self.ignored,
            Ending::Cancelled => &mut self.cancelled,
        } += 1;
    }

    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            successes: self.successes + other.successes,
            failures: self.failures + other.failures,
            ignored: self.ignored + other.ignored,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}
