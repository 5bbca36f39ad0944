//! Which conditions a metrics-only circuit has reported.

use super::reason::Reason;

/// The conditions that would have opened a metrics-only circuit, were reported, and are still met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported(u16);

impl Reported {
    /// Adds a condition. Returns false if it has been reported already.
    pub(super) fn insert(&mut self, condition: Reason) -> bool {
        let before = self.0;
        self.0 |= bit(condition);
        self.0 != before
    }

    /// Drops the conditions that are no longer met.
    pub(super) fn retain(&mut self, met: impl Fn(Reason) -> bool) {
        let mut conditions = self.0;
        while conditions != 0 {
            let condition = Reason::from_code(u64::from(conditions.trailing_zeros()));
            conditions &= conditions - 1;
            if !met(condition) {
                self.0 &= !bit(condition);
            }
        }
    }
}

fn bit(condition: Reason) -> u16 {
    1 << condition.code()
}
