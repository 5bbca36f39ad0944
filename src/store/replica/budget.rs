//! How many commands that can wait are sent to the ledger.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::timestamp::Timestamp;

/// Gives out turns, evenly spaced, to whoever asks first. Who has had one asks again later, so
/// circuits take turns.
#[derive(Debug)]
pub(super) struct Budget {
    spacing: Duration,
    next: Mutex<Timestamp>,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        Self { spacing: Duration::from_secs(1) / per_second, next: Mutex::default() }
    }

    /// The next free turn.
    pub(super) fn turn(&self, now: Timestamp) -> Timestamp {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.max(*next);
        *next = turn.after(self.spacing);
        turn
    }
}
