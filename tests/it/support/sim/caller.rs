//! A caller of the upstream, and the checks that it makes with every call.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep, timeout};
use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::event::Origin;
use tower_breaker::policy::Cancelled;
use tower_breaker::{Circuit, Outcome, State, Store};

use super::replica::Seen;
use super::{DEADLINE, SLACK, World};
use crate::support::schedule::Schedule;
use crate::support::{ms, now};

/// Calls the upstream again and again.
pub(super) struct Caller {
    pub(super) world: Arc<World>,
    pub(super) index: usize,
    pub(super) circuit: Circuit,
    pub(super) store: Store,
    pub(super) seen: Arc<Seen>,
    pub(super) rng: fastrand::Rng,
}

/// A probe in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    pub(super) replica: usize,
    pub(super) start: u64,
    pub(super) generation: u64,
    pub(super) since: Instant,
    /// Its replica decides without the backend.
    pub(super) detached: bool,
}

/// Until it is dropped, the probe is in flight.
pub(super) struct InFlight {
    pub(super) world: Arc<World>,
    pub(super) probing: Probing,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut probing = self.world.probing.lock().unwrap();
        let Probing { replica, since, .. } = self.probing;
        let at = probing.iter().position(|p| p.replica == replica && p.since == since);
        probing.swap_remove(at.unwrap());
    }
}

impl Caller {
    pub(super) async fn run(mut self) {
        while !self.world.callers_stopped.load(Ordering::Relaxed) {
            let pause = self.rng.u64(..self.world.schedule.pause);
            sleep(ms(pause)).await;
            if let Some(permit) = self.acquire().await {
                self.call(permit).await;
            }
            self.check();
        }
    }

    fn happens(&mut self, chance: u32) -> bool {
        self.rng.u32(..1000) < chance
    }

    async fn acquire(&mut self) -> Option<Permit> {
        let (at_once, cancelled) = (self.world.schedule.at_once, self.world.schedule.cancelled);
        if self.happens(at_once) {
            return self.circuit.try_acquire().ok();
        }
        if self.happens(cancelled) {
            let patience = ms(self.rng.u64(..30));
            return timeout(patience, self.circuit.acquire()).await.ok()?.ok();
        }
        let since = now();
        let answer = self.circuit.acquire().await;
        let took = since.elapsed();
        if took > DEADLINE + SLACK {
            self.world.network.violation(format!("{} has waited {took:?}", self.seen.name));
        }
        answer.ok()
    }

    async fn call(&mut self, permit: Permit) {
        let snapshot = self.circuit.snapshot();
        let detached = self.is_detached(&snapshot);
        let Schedule { long, cancelled, lease, background, .. } = self.world.schedule;
        let probing = match snapshot.state {
            State::Closed => {
                self.seen.calls.fetch_add(1, Ordering::Relaxed);
                self.world.network.checker().admitted(self.seen.start);
                None
            }
            // Whether the backend or the replica granted this permit cannot be seen from outside.
            State::HalfOpen if !detached && self.seen.is_rejoining() => None,
            State::HalfOpen if detached || snapshot.origin == Origin::Cluster => {
                let (replica, start, since) = (self.index, self.seen.start, now());
                let generation = snapshot.generation;
                Some(Probing { replica, start, generation, since, detached })
            }
            State::Open | State::ForcedOpen => {
                self.world.network.violation(format!("{} calls: {snapshot:?}", self.seen.name));
                None
            }
            _ => None,
        };
        self.world.network.trace(|| format!("{} calls: {probing:?}", self.seen.name));
        let in_flight = probing.map(|probing| self.world.probe(probing));
        let calm = self.world.faults_ended.load(Ordering::Relaxed);
        let lasts = if !calm && self.happens(long) {
            self.rng.u64(..2 * u64::try_from(lease.as_millis()).unwrap())
        } else {
            self.rng.u64(..60)
        };
        sleep(ms(lasts)).await;
        drop(in_flight);
        let counts = self.counts_as(&snapshot);
        if self.happens(cancelled) {
            if counts && self.circuit.policy().cancelled() == Cancelled::Failure {
                self.world.network.checker().order.ended(self.seen.start, true);
            }
            return drop(permit);
        }
        let calm = self.world.faults_ended.load(Ordering::Relaxed);
        let succeeds = self.world.upstream_is_up()
            && !self.seen.broken.load(Ordering::Relaxed)
            && (calm || !self.happens(background));
        if !succeeds && snapshot.state == State::Closed {
            self.seen.failures.fetch_add(1, Ordering::Relaxed);
        }
        if succeeds && snapshot.state != State::Closed {
            self.seen.passed.fetch_add(1, Ordering::Relaxed);
        }
        if counts {
            self.world.network.checker().order.ended(self.seen.start, !succeeds);
        }
        permit.settle(if succeeds { Outcome::Success } else { Outcome::failure() });
    }

    /// Whether the result of a call is evidence: the circuit was closed when it began, and is still.
    fn counts_as(&self, began: &Snapshot) -> bool {
        let ends = self.circuit.snapshot();
        began.state == State::Closed
            && ends.state == State::Closed
            && began.generation == ends.generation
    }

    /// Checks what must hold of a replica at any time.
    fn check(&self) {
        let (seen, network) = (&self.seen, &self.world.network);
        let snapshot = self.circuit.snapshot();
        let before = seen.generation.swap(snapshot.generation, Ordering::Relaxed);
        if before > snapshot.generation {
            network.violation(format!("{} went back from {before}: {snapshot:?}", seen.name));
        }
        self.check_leases(&snapshot);
        let reported = network.checker().passed.get(&seen.start).copied().unwrap_or_default();
        let passed = seen.passed.load(Ordering::Relaxed);
        if reported > passed {
            let name = &seen.name;
            network.violation(format!("{name} reported {reported} successful probes of {passed}"));
        }
    }

    /// Whether the circuit decides without the backend, by itself or as all circuits of the
    /// replica.
    fn is_detached(&self, snapshot: &Snapshot) -> bool {
        if snapshot.detached {
            self.seen.connect();
        }
        snapshot.detached || self.store.backend().is_degraded()
    }

    /// A replica must not count on a lease for longer than the backend does.
    fn check_leases(&self, snapshot: &Snapshot) {
        let detached = self.is_detached(snapshot) || self.seen.is_rejoining();
        let shared = snapshot.state == State::HalfOpen && snapshot.origin == Origin::Cluster;
        if detached || !shared || self.world.schedule.forgets > 0 {
            return;
        }
        let checker = self.world.network.checker();
        let Some((round, _)) = checker.round(snapshot.generation) else { return };
        // It may be waiting for an answer, or to try again, when a lease expires.
        let ago = DEADLINE + self.world.schedule.report_interval + SLACK;
        let (held, out) = (snapshot.probes_out, checker.leases_of(self.seen.start, round, ago));
        drop(checker);
        if held > out {
            let what = format!("{} counts on {held} leases of {out}", self.seen.name);
            self.world.network.violation(what);
        }
    }
}
