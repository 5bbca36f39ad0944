//! A circuit whose ledger does not answer, or not with what it needs: alone, and back.

use std::time::Duration;

use super::{Keeper, Next, POLL_CLOSED, POLL_OPEN};
use crate::backend::{BackendError, Probed, RecordState, View};
use crate::clock;
use crate::event::log;
use crate::store::replica::FAILURES;
use crate::timestamp::Timestamp;

/// Back from an outage, replicas do not all load at once.
const REJOIN_SPREAD: Duration = Duration::from_millis(100);

impl Keeper {
    /// Lets the circuit decide alone if the ledger cannot be reached, or this circuit not in it.
    pub(super) fn look_at_ledger(&mut self) {
        if self.status.borrow_and_update().is_degraded() {
            // Whatever else there was is a part of that.
            self.peer.end_trouble();
            return self.stand_alone();
        }
        if self.alone {
            return;
        }
        if self.peer.failures() >= FAILURES {
            // Others may be answered: a ledger can have many servers, of which one is gone.
            self.stand_alone();
            self.retry = self.again_in_turn();
        } else if let Some(error) = self.peer.trouble() {
            self.refused_by(&error);
        }
    }

    pub(super) async fn join_when_due(&mut self) -> Next {
        if self.peer.is_to_load() {
            // A connection is back: perhaps that to this circuit's server.
            self.retry = self.retry.min(soon());
        }
        if self.retry <= clock::now() { self.join().await } else { Next::At(self.retry) }
    }

    fn stand_alone(&mut self) {
        self.alone = true;
        self.circuit.detach();
        self.peer.known.send_replace(true);
        self.retry = soon();
    }

    /// Learns where the cluster is, at the start and after an outage.
    async fn join(&mut self) -> Next {
        let (peer, name) = (self.peer.clone(), self.circuit.name().clone());
        let mut loaded = self.ask(peer.replica.backend.load(&name)).await;
        if let (Ok(view), Some(_)) = (&loaded, self.peer.trouble()) {
            loaded = self.try_lease(view).await;
        }
        match loaded {
            Ok(view) => {
                self.alone = false;
                self.peer.end_trouble();
                self.circuit.rejoin(&view);
                self.heard_from();
                self.peer.known.send_replace(true);
                Next::Now
            }
            Err(error) => self.gone(&error),
        }
    }

    /// Sees if a lease is to be had again, where one is to be had at all; and gives it back.
    async fn try_lease(&self, view: &View) -> Result<View, BackendError> {
        let (backend, name) = (&self.peer.replica.backend, self.circuit.name());
        if view.state == RecordState::Closed {
            return Ok(view.clone());
        }
        let nonce = fastrand::u64(1..);
        let (lease, view) = self.ask(backend.acquire_probe(name, view.generation, nonce)).await?;
        match lease {
            Some(lease) => self.ask(backend.settle_probe(name, lease, &Probed::Released)).await,
            None => Ok(view),
        }
    }

    /// There was no answer, or none of use.
    pub(super) fn gone(&mut self, error: &BackendError) -> Next {
        let interval = self.peer.replica.settings.report_interval;
        if error.is_unavailable() {
            if self.alone {
                // At the start: nobody is to wait for a second try.
                self.stand_alone();
            }
            let lost = self.peer.trouble().is_some() || self.peer.failures() >= FAILURES;
            self.retry = if lost { self.again_in_turn() } else { clock::now().after(interval) };
        } else {
            self.refused_by(error);
        }
        Next::At(clock::now().after(interval))
    }

    /// The ledger answers, but not with what this circuit needs.
    fn refused_by(&mut self, error: &BackendError) {
        if !self.refused {
            log::refused(self.circuit.name(), error);
            self.refused = true;
        }
        self.stand_alone();
        self.retry = if error.is_unavailable() { self.again_in_turn() } else { again(POLL_CLOSED) };
    }

    /// Soon, but it may be one of a thousand circuits whose server does not answer.
    fn again_in_turn(&self) -> Timestamp {
        again(POLL_OPEN).max(self.peer.replica.budget.turn(clock::now()))
    }
}

/// In about so long; not all in step.
fn again(wait: Duration) -> Timestamp {
    clock::now().after(wait.mul_f64(0.5 + fastrand::f64()))
}

fn soon() -> Timestamp {
    clock::now().after(REJOIN_SPREAD.mul_f64(fastrand::f64()))
}
