//! A circuit of the store, as its replicator and its callers see it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::summary::CircuitSummary;
use crate::backend::{Backend, BackendError, Lease, View};
use crate::circuit::{Circuit, Held, Link, Wait};
use crate::clock;
use crate::machine::State;
use crate::name::CircuitName;
use crate::sync::{
    Agenda, Command, Handle, Input, LeaseRequest, Node, NodeId, Pace, Reported, Then, Totals,
    Unclaimed,
};
use crate::timestamp::Timestamp;

/// A request that was not granted a lease, and not told when to come back, is made again by the
/// next call after this.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How often a request is sent: again where it was not answered, or where the backend had moved on.
const TRIES: u32 = 3;

/// What a circuit holds of its replicator.
pub(super) struct Member {
    handle: Arc<Handle>,
    id: NodeId,
    known: watch::Sender<bool>,
    made: Timestamp,
}

/// What the replicator holds of a circuit.
struct Shared {
    circuit: Circuit,
    member: Arc<Member>,
}

impl Member {
    /// Makes a circuit the cluster's. Runs no user code, so that the map may be locked; it is to
    /// [start](Self::start) after that.
    pub(super) fn join(handle: &Arc<Handle>, circuit: &Circuit) -> Option<Arc<Self>> {
        let id = handle.next_id()?;
        let member = Arc::new(Self {
            handle: handle.clone(),
            id,
            known: watch::Sender::new(false),
            made: clock::now(),
        });
        circuit.join(member.clone());
        if let Some((view, at)) = handle.find(circuit.name()) {
            let input = Input::Answer { view: &view, asked: at, at, totals: Totals::Absent };
            // It has no observers yet, and the first view is no event.
            let _ = circuit.apply(input, Pace::default());
        }
        Some(member)
    }

    pub(super) fn start(self: Arc<Self>, circuit: Circuit) {
        let (handle, id) = (self.handle.clone(), self.id);
        handle.join(id, Arc::new(Shared { circuit, member: self }));
    }

    /// The store has forgotten the circuit.
    pub(super) fn release(&self) {
        self.handle.release(self.id);
    }
}

impl Node for Shared {
    fn name(&self) -> &CircuitName {
        self.circuit.name()
    }

    fn apply(&self, input: Input<'_>, pace: Pace) -> (Agenda, bool) {
        self.circuit.apply(input, pace)
    }

    fn agenda(&self, pace: Pace) -> Agenda {
        self.circuit.agenda(pace)
    }

    fn command(&self) -> Option<Command> {
        self.circuit.command()
    }

    fn report(&self) -> (Reported, bool) {
        self.circuit.report()
    }

    fn describe(&self) -> (bool, String, bool) {
        let (snapshot, notify) = self.circuit.snapshot_quietly();
        let closed = snapshot.state == State::Closed;
        (closed, CircuitSummary::new(&snapshot).line(), notify)
    }

    fn notify(&self) {
        self.circuit.notify();
    }

    fn known(&self) {
        self.member.known.send_if_modified(|known| !std::mem::replace(known, true));
    }

    fn leave(&self) {
        self.circuit.leave();
    }

    fn is_last(&self) -> bool {
        self.circuit.is_last()
    }
}

impl Link for Member {
    fn wake(&self) {
        self.handle.wake(self.id);
    }

    fn known(&self) -> Wait<()> {
        let mut known = self.known.subscribe();
        let left = self.made.after(self.handle.deadline()).since(clock::now());
        Box::pin(async move {
            // Without a replicator there is nothing to wait for.
            let _ = timeout(left, known.wait_for(|known| *known)).await;
        })
    }

    fn ask(&self, circuit: Circuit, unclaimed: Unclaimed) -> Wait<Option<Held>> {
        let (caller, answer) = oneshot::channel();
        let deadline = self.handle.deadline();
        // A call that has waited for the first view does not wait as long again.
        let waited = clock::now().since(self.made);
        let left = deadline.checked_sub(waited).filter(|left| !left.is_zero()).unwrap_or(deadline);
        if let Some(generation) = circuit.begin_asking() {
            let nonce = fastrand::u64(1..);
            let request = Asking {
                circuit,
                generation,
                nonce,
                unclaimed,
                tries: TRIES,
                caller: Some(caller),
            };
            self.handle.request_lease(self.id, Box::new(request));
        }
        Box::pin(async move { timeout(left, answer).await.ok()?.ok().flatten() })
    }

    fn deadline(&self) -> Duration {
        self.handle.deadline()
    }

    fn backend(&self) -> Arc<dyn Backend> {
        self.handle.backend().clone()
    }
}

/// A request for a probe's lease. There is one at a time for each circuit.
struct Asking {
    circuit: Circuit,
    generation: u64,
    nonce: u64,
    unclaimed: Unclaimed,
    tries: u32,
    /// Dropped with the request, so that the caller does not wait for nothing.
    caller: Option<oneshot::Sender<Option<Held>>>,
}

impl LeaseRequest for Asking {
    fn circuit(&self) -> &CircuitName {
        self.circuit.name()
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn nonce(&self) -> u64 {
        self.nonce
    }

    fn is_wanted(&self) -> bool {
        let waits = self.caller.as_ref().is_some_and(|caller| !caller.is_closed());
        waits || self.unclaimed == Unclaimed::Keep
    }

    fn answered(
        mut self: Box<Self>,
        answer: Result<(Option<Lease>, View), BackendError>,
        asked: Timestamp,
    ) -> Then {
        self.tries -= 1;
        let (lease, view) = match answer {
            Ok(answer) => answer,
            // It may have been granted, and only the answer be lost: the same nonce has the same
            // lease.
            Err(error) if error.is_unavailable() && self.tries > 0 => return Then::AskAgain(self),
            Err(error) => return Then::Detach(error),
        };
        if let Some(lease) = lease {
            let held = self.circuit.granted(lease, &view, self.unclaimed, asked);
            if let (Some(caller), Some(held)) = (self.caller.take(), held) {
                // If the caller has gone, the lease is dropped here, and so given back.
                let _ = caller.send(Some(held));
            }
            return Then::Done;
        }
        let (known, says_when) = self.circuit.refused(&view, asked);
        if known != self.generation && self.tries > 0 {
            // The backend had moved on; perhaps to where there is a slot.
            self.generation = known;
            return Then::AskAgain(self);
        }
        self.caller = None;
        if !says_when {
            // As far as others can see it still asks: they would not fare better at once.
            tokio::spawn(async move {
                sleep(ASK_AGAIN).await;
                drop(self);
            });
        }
        Then::Done
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.circuit.end_asking();
    }
}
