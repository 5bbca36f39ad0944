//! What the replicator measures of its backend, for metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::circuit::Command;
use crate::backend::BackendError;
use crate::timestamp::Timestamp;

/// The largest durations of all buckets but the last, in milliseconds.
const BOUNDS: [u64; 5] = [1, 5, 25, 100, 500];

/// The number of buckets. The last one has no bound.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// An operation on the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Heartbeat,
    Publish,
    Sync,
    Lease,
    Restore,
    Settle,
    Override,
    Transition,
}

/// How the backend answered an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Refused,
    /// None, or an error of the connection.
    Unavailable,
}

const OPERATIONS: [(Operation, &str); 8] = [
    (Operation::Heartbeat, "heartbeat"),
    (Operation::Publish, "publish"),
    (Operation::Sync, "sync"),
    (Operation::Lease, "lease"),
    (Operation::Restore, "restore"),
    (Operation::Settle, "settle"),
    (Operation::Override, "override"),
    (Operation::Transition, "transition"),
];
const ANSWERS: [(Answer, &str); 3] =
    [(Answer::Ok, "ok"), (Answer::Refused, "refused"), (Answer::Unavailable, "unavailable")];

/// Behind a lock that is held for a moment: one task writes, and a scrape reads.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<Inner>);

#[derive(Clone, Debug, Default)]
struct Inner {
    durations: [[Durations; ANSWERS.len()]; OPERATIONS.len()],
    roster: Option<(u64, Timestamp)>,
}

/// How long operations took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durations {
    pub(crate) sum: Duration,
    pub(crate) buckets: [u64; BUCKETS],
}

impl Operation {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Restore(_) => Self::Restore,
            Command::Settle(_) => Self::Settle,
            Command::Override(_) => Self::Override,
            Command::Transition { .. } => Self::Transition,
        }
    }
}

impl Answer {
    pub(super) fn of<T>(answer: &Result<T, BackendError>) -> Self {
        match answer {
            Ok(_) => Self::Ok,
            Err(error) if error.is_unavailable() => Self::Unavailable,
            Err(_) => Self::Refused,
        }
    }
}

impl Durations {
    /// Returns the largest duration of each bucket, but for the last.
    pub(crate) fn bounds() -> [Duration; BUCKETS - 1] {
        BOUNDS.map(Duration::from_millis)
    }

    fn add(&mut self, took: Duration) {
        self.sum = self.sum.saturating_add(took);
        let bucket = Self::bounds().into_iter().position(|bound| took <= bound);
        self.buckets[bucket.unwrap_or(BUCKETS - 1)] += 1;
    }
}

impl Measured {
    pub(super) fn took(&self, operation: Operation, answer: Answer, took: Duration) {
        self.inner().durations[operation as usize][answer as usize].add(took);
    }

    /// So many replicas are live, by the answer to a heartbeat that was sent then.
    pub(super) fn heard(&self, live: u64, asked: Timestamp) {
        self.inner().roster = Some((live, asked));
    }

    /// Returns how many replicas are live, and when that was asked; `None` until it is known.
    pub(crate) fn roster(&self) -> Option<(u64, Timestamp)> {
        self.inner().roster
    }

    /// Returns how long operations took, by operation and answer, those that there were.
    pub(crate) fn durations(&self) -> Vec<(&'static str, &'static str, Durations)> {
        let durations = self.inner().durations;
        let all = OPERATIONS.into_iter().zip(durations).flat_map(|((_, operation), answers)| {
            let named = ANSWERS.into_iter().zip(answers);
            named.map(move |((_, answer), durations)| (operation, answer, durations))
        });
        all.filter(|(.., it)| it.buckets.iter().any(|n| *n > 0)).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn operations_and_answers_are_in_the_order_of_their_names() {
        assert!(OPERATIONS.iter().enumerate().all(|(n, (operation, _))| *operation as usize == n));
        assert!(ANSWERS.iter().enumerate().all(|(n, (answer, _))| *answer as usize == n));
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let measured = Measured::default();
        for millis in [0, 1, 2, 500, 501, 60_000] {
            let took = Duration::from_millis(millis);
            measured.took(Operation::Sync, Answer::Refused, took);
        }
        let [("sync", "refused", durations)] = measured.durations()[..] else { panic!() };
        assert_eq!(durations.buckets, [2, 1, 0, 0, 1, 2]);
        assert_eq!(durations.sum, Duration::from_millis(61_004));
    }
}
