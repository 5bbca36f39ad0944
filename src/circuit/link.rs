//! A circuit's connection to the cluster.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Circuit, Held};
use crate::backend::Backend;
use crate::sync::Unclaimed;

/// A future that is kept in a service.
pub(crate) type Wait<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// What syncs a circuit with the backend.
pub(crate) trait Link: Send + Sync {
    /// The circuit has something to send. Called without a lock.
    fn wake(&self);

    /// Waits until the state of the cluster is known, or will not be known in time.
    fn known(&self) -> Wait<()>;

    /// Asks the backend for a probe's lease.
    fn ask(&self, circuit: Circuit, unclaimed: Unclaimed) -> Wait<Option<Held>>;

    /// The longest time that a caller waits for the backend.
    fn deadline(&self) -> Duration;

    /// What shares the circuit.
    fn backend(&self) -> Arc<dyn Backend>;
}
