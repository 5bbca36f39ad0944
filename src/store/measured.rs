//! What is measured of the backend, for metrics.

use std::time::Duration;

use super::store::Store;
use crate::clock;
use crate::sync::Durations;

/// What a store knows of its backend in numbers.
#[derive(Debug)]
pub(crate) struct BackendNumbers {
    /// How many replicas are live, and how long ago that was asked. `None` until it is known.
    pub(crate) replicas: Option<(u64, Duration)>,
    pub(crate) operations: Vec<OperationNumbers>,
}

/// How long the operations of one kind took that were answered in one way.
#[derive(Debug)]
pub(crate) struct OperationNumbers {
    pub(crate) operation: &'static str,
    pub(crate) result: &'static str,
    pub(crate) sum: Duration,
    /// The largest duration of each bucket, and how many took at most so long, but longer than those
    /// of the bucket before. The last has no bound.
    pub(crate) buckets: Vec<(Option<Duration>, u64)>,
}

impl Store {
    /// Returns what is measured of the backend, if there is one.
    pub(crate) fn backend_numbers(&self) -> Option<BackendNumbers> {
        let measured = self.registry.replicator.as_ref()?.measured();
        let now = clock::now();
        let operations = measured.durations().into_iter().map(|(operation, result, durations)| {
            let bounds = Durations::bounds().into_iter().map(Some).chain([None]);
            let buckets = bounds.zip(durations.buckets).collect();
            OperationNumbers { operation, result, sum: durations.sum, buckets }
        });
        Some(BackendNumbers {
            replicas: measured.roster().map(|(live, asked)| (live, now.since(asked))),
            operations: operations.collect(),
        })
    }
}
