//! Results on their way to a recording.
//!
//! While no recording runs, nothing here is reached: the word does not say that results are traced.
//! While one runs, no success is quiet, so that every result passes here.

use super::engine::Engine;
use super::grant::Grant;
use super::primitives::Ordering;
use super::tracer::Traced;
#[cfg(feature = "replay")]
use super::tracer::Tracer;
use crate::clock;
use crate::outcome::Outcome;
use crate::timestamp::Timestamp;

impl Engine {
    /// Has results traced from now on, or no more.
    #[cfg(feature = "replay")]
    pub(super) fn set_tracer(&self, tracer: Option<Tracer>) {
        self.cut(|locked| {
            locked.renewed |= tracer.is_some() || locked.tracer.is_some();
            locked.tracer = tracer;
        });
    }

    /// Traces a result, if it is one of this circuit.
    #[cold]
    pub(super) fn trace(&self, grant: Grant, outcome: Option<Outcome>) {
        if grant.epoch() < self.birth.load(Ordering::Relaxed) {
            return;
        }
        let at = clock::now();
        let locked = self.lock();
        let Some(tracer) = locked.tracer.clone() else { return };
        let took = match grant.lease() {
            Some(lease) => (!locked.is_stale(grant)).then(|| locked.machine.ran(lease, at)),
            None => Some(grant.began()).filter(|s| *s < Timestamp::NEVER).map(|s| at.since(s)),
        };
        drop(locked);
        tracer(Traced { at, took, outcome });
    }
}
