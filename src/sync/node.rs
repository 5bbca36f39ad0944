//! What the replicator asks of circuits, and of those who wait for leases.

use super::circuit::{Command, Input, Pace};
use super::outbound::Agenda;
use super::report::Reported;
use crate::backend::{BackendError, Lease, View};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// A circuit, as the replicator sees it.
pub(crate) trait Node: Send + Sync + 'static {
    fn name(&self) -> &CircuitName;

    /// Takes an input. Returns what is to be sent then, and whether observers are to be notified.
    fn apply(&self, input: Input<'_>, pace: Pace) -> (Agenda, bool);

    fn agenda(&self, pace: Pace) -> Agenda;

    fn command(&self) -> Option<Command>;

    /// Returns what the circuit reports, and whether observers are to be notified.
    fn report(&self) -> (Reported, bool);

    /// Describes the circuit in one line, for those who watch the cluster. Returns whether it is
    /// closed, and whether observers are to be notified.
    fn describe(&self) -> (bool, String, bool);

    /// Runs observers, which are user code.
    fn notify(&self);

    /// Wakes callers that wait for the first view.
    fn known(&self);

    /// The circuit belongs to this process from here on.
    fn leave(&self);

    /// Whether no store and no user has the circuit any more.
    fn is_last(&self) -> bool;
}

/// A request for a probe's lease, which a call may wait for.
pub(crate) trait LeaseRequest: Send + Sync + 'static {
    fn circuit(&self) -> &CircuitName;

    fn generation(&self) -> u64;

    fn nonce(&self) -> u64;

    /// Whether the request is still worth sending.
    fn is_wanted(&self) -> bool;

    /// Takes the answer to what was sent at `asked`.
    fn answered(
        self: Box<Self>,
        answer: Result<(Option<Lease>, View), BackendError>,
        asked: Timestamp,
    ) -> Then;
}

/// What follows from the answer to a [`LeaseRequest`].
pub(crate) enum Then {
    Done,
    /// The backend had moved on: asked again, there may be a lease.
    AskAgain(Box<dyn LeaseRequest>),
    /// Leases are not granted, for this reason: the circuit is to detach.
    Detach(BackendError),
}
