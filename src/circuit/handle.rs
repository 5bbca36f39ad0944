//! The handle of a circuit.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::engine::Engine;
use super::grant::Grant;
use super::link::{Link, Wait};
use super::locked::{Locked, Observer};
use super::permit::CallGuard;
use super::pool;
use super::refusal::{Refusal, Rejection};
use super::rejected::Rejected;
use super::sampler::{Countdown, Sampled};
use super::snapshot::Snapshot;
use super::stripes::Width;
#[cfg(feature = "replay")]
use super::tracer::Tracer;
use crate::backend::{Lease, View};
use crate::clock;
use crate::machine::{Begin, Event, State};
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::stats::{Durations, Totals};
use crate::sync::{Agenda, Command, Input, Pace, Reported, Unclaimed};
use crate::timestamp::Timestamp;

/// A circuit: what a circuit breaker knows about one upstream, under one name.
///
/// Use it to protect calls that are not made through tower, to look at the state, and to override
/// it. [`Store::circuit`](crate::Store::circuit) returns it. All handles with one name in one
/// store, those of layers included, are the same circuit.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tower_breaker::{Error, State, Store};
///
/// # async fn charge() -> Result<u32, std::io::Error> { Ok(7) }
/// let payments = Store::in_memory().circuit("payments");
///
/// match payments.execute(charge).await {
///     Ok(receipt) => println!("charged: {receipt}"),
///     Err(Error::Rejected(rejected)) => println!("not even tried: {rejected}"),
///     Err(Error::Inner(error)) => println!("failed: {error}"),
/// }
/// assert_eq!(payments.state(), State::Closed);
/// # }
/// ```
///
/// Handles are cheap to clone and to drop, whatever other threads do.
pub struct Circuit {
    pub(super) engine: &'static Engine,
    name: CircuitName,
}

/// # State
impl Circuit {
    /// Returns the name of the circuit.
    #[must_use]
    pub fn name(&self) -> &CircuitName {
        &self.name
    }

    /// Returns the current state. An open circuit stays open after its interval ends, until the
    /// next call asks for a permit: see [`is_available`](Self::is_available).
    #[must_use]
    pub fn state(&self) -> State {
        self.engine.state()
    }

    /// Returns whether a call would probably be admitted now. A pure read: it changes no state and
    /// takes no probe slot, so a load balancer or a readiness check can call it at any rate.
    ///
    /// The next call can still be rejected: other calls may take the probe slots first, or it may
    /// be the one that finds that a probe has outlived its lease, which opens the circuit again.
    #[must_use]
    pub fn is_available(&self) -> bool {
        !matches!(self.check(), Err(Refusal::Rejected(_)))
    }

    /// Returns the circuit as plain data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.name.clone(), self.engine.read())
    }

    /// Returns the policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.engine.policy()
    }

    /// Calls `observer` with each event of the circuit from now on, in order.
    ///
    /// The observer runs on the thread of the call that caused the event, or of the task that
    /// received it from the backend, without any lock. Keep it quick, and do slow work elsewhere. A
    /// panic of the observer is caught, and the call goes on. While the observer does not return,
    /// the last 1000 events wait for it, and older ones are dropped.
    ///
    /// The observer lives as long as the circuit. So add it once. It must not capture a handle of
    /// its own circuit: such a handle keeps the circuit for ever. After the circuit is gone, the
    /// captured values may be dropped only when later circuits are made.
    pub fn on_change(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        self.engine.observe(Arc::new(observer));
    }
}

/// For the parts above.
impl Circuit {
    pub(crate) fn new(
        name: CircuitName,
        policy: Policy,
        observers: Vec<Observer>,
        width: Width,
    ) -> Self {
        Self { engine: pool::take(policy, observers, width), name }
    }

    /// Drops the store's own handle. Once per circuit, when the store forgets it.
    pub(crate) fn release_engine(self) {
        let engine = self.engine;
        drop(self);
        pool::release(engine);
    }

    /// Returns the totals. It only reads, and runs no user code, so that it may be called under a
    /// lock.
    pub(crate) fn totals(&self) -> Totals {
        self.engine.totals(&self.engine.lock(), clock::now())
    }

    /// Measures how long one call in so many takes, from now on.
    pub(crate) fn sample_latency(&self, one_in: NonZeroU32) {
        self.engine.sample_latency(one_in);
    }

    /// Returns how long all sampled calls took, if calls are sampled.
    pub(crate) fn durations(&self) -> Option<Durations> {
        self.engine.durations()
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        self.engine.set_policy(policy);
    }

    #[cfg(feature = "replay")]
    pub(crate) fn set_tracer(&self, tracer: Option<Tracer>) {
        self.engine.set_tracer(tracer);
    }

    /// Whether a call would probably be admitted now. Changes nothing.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.engine.check()
    }

    /// Grants a call that begins later: a probe slot is taken, the call is not begun.
    #[inline]
    pub(crate) fn reserve(&self) -> Result<Grant, Refusal> {
        self.engine.enter(Begin::Later)
    }

    /// Admits a call that begins now.
    #[inline]
    pub(crate) fn enter(&self) -> Result<CallGuard, Refusal> {
        self.engine.enter(Begin::Now).map(|grant| CallGuard::new(self.engine, grant))
    }

    /// Begins a call that was reserved. Enters anew if the reservation is not valid any more.
    #[inline]
    pub(crate) fn resume(&self, grant: Grant, sample: Sampled) -> Result<CallGuard, Refusal> {
        self.engine.resume(grant, sample).map(|grant| CallGuard::new(self.engine, grant))
    }

    /// Counts a call of a service, and returns whether it is measured.
    #[inline]
    pub(crate) fn samples_next(&self, countdown: &mut Countdown) -> Sampled {
        countdown.next(&self.engine.samplers)
    }

    /// Whether a reservation is still valid.
    #[inline]
    pub(crate) fn holds(&self, grant: Grant) -> bool {
        self.engine.holds(grant)
    }

    /// Gives back a reservation.
    #[inline]
    pub(crate) fn release(&self, grant: Grant) {
        self.engine.release(grant);
    }

    /// Waits until a call may be admitted that is rejected now.
    pub(crate) fn changed(&self) -> Wait<()> {
        let circuit = self.clone();
        Box::pin(async move { circuit.engine.changed().await })
    }

    /// The rejection of a call that does not wait for the cluster, or has waited.
    #[inline]
    pub(crate) fn rejection(&self, refusal: &Refusal) -> Rejection {
        match refusal {
            Refusal::Rejected(rejection) => *rejection,
            Refusal::Unknown(_) | Refusal::NeedsLease(_) => self.engine.rejection_now(),
        }
    }

    /// The rejection as a caller gets it, which counts it.
    #[inline]
    pub(crate) fn rejected(&self, rejection: Rejection) -> Rejected {
        let cause = self.engine.cause(rejection.generation);
        self.engine.count_rejected();
        Rejected::new(self.name.clone(), rejection, cause)
    }
}

/// A grant for the caller that asked for it. Dropped unclaimed, it is given back.
pub(crate) struct Held {
    circuit: Circuit,
    grant: Option<Grant>,
}

impl Held {
    pub(crate) fn take(mut self) -> Option<Grant> {
        self.grant.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(grant) = self.grant {
            self.circuit.release(grant);
        }
    }
}

/// For the task that keeps the circuit in agreement with the backend.
impl Circuit {
    pub(crate) fn join(&self, link: Arc<dyn Link>) {
        self.engine.join(link);
    }

    /// Applies an input of the backend. Returns what is to be sent then, and whether observers
    /// are to be [notified](Self::notify).
    pub(crate) fn apply(&self, input: Input<'_>, pace: Pace) -> (Agenda, bool) {
        self.engine.cut_and_queue(|locked| locked.apply(input, pace, clock::now()))
    }

    /// Returns how many calls the circuit has rejected, without its lock.
    pub(crate) fn rejections(&self) -> u64 {
        self.engine.stripes().rejections(self.engine.life())
    }

    /// Returns the circuit as plain data, and whether observers are to be
    /// [notified](Self::notify).
    pub(crate) fn snapshot_quietly(&self) -> (Snapshot, bool) {
        let (reading, notify) = self.engine.read_quietly();
        (Snapshot::new(self.name.clone(), reading), notify)
    }

    /// Calls observers with the events that are queued.
    pub(crate) fn notify(&self) {
        self.engine.notify();
    }

    /// Returns what is to be sent.
    pub(crate) fn agenda(&self, pace: Pace) -> Agenda {
        self.engine.lock().agenda(pace)
    }

    /// Takes the next command for the backend.
    pub(crate) fn command(&self) -> Option<Command> {
        self.engine.lock().command(clock::now())
    }

    /// Takes a report of what was counted.
    pub(crate) fn report(&self) -> (Reported, bool) {
        self.engine.cut_and_queue(|locked| locked.report(&self.name, clock::now()))
    }

    /// Returns the generation to ask in, unless another task asks now. Follow it with
    /// [`end_asking`](Self::end_asking).
    pub(crate) fn begin_asking(&self) -> Option<u64> {
        self.engine.with(|locked, _| locked.begin_asking())
    }

    pub(crate) fn end_asking(&self) {
        self.engine.with(|locked, _| locked.end_asking());
    }

    /// Applies the view that came with no lease. Returns the generation that is known now, and
    /// whether it is known when to ask again.
    pub(crate) fn refused(&self, view: &View, asked: Timestamp) -> (u64, bool) {
        self.engine.with(|locked, now| locked.refused(view, asked, now))
    }

    /// Applies a lease, which was `asked` for at that time.
    pub(crate) fn granted(
        &self,
        lease: Lease,
        view: &View,
        unclaimed: Unclaimed,
        asked: Timestamp,
    ) -> Option<Held> {
        let grant =
            self.engine.with(|locked, now| locked.granted(lease, view, unclaimed, asked, now))?;
        Some(Held { circuit: self.clone(), grant: Some(grant) })
    }

    /// Leaves the cluster: from here on the circuit belongs to this process.
    pub(crate) fn leave(&self) {
        self.engine.with(Locked::leave);
    }

    /// Whether the caller has the only handle.
    pub(crate) fn is_last(&self) -> bool {
        self.handles() == 1
    }

    /// Whether the caller has the only handle, but for that of the backend's task.
    pub(crate) fn is_unused(&self) -> bool {
        let handles = self.handles();
        handles == 1 || handles == 2 && self.engine.link().is_some()
    }

    /// How many handles there are. Permits of a circuit of a key count too.
    fn handles(&self) -> u32 {
        self.engine.stripes().handles()
    }
}

impl Clone for Circuit {
    #[inline]
    fn clone(&self) -> Self {
        self.engine.stripes().handle_cloned();
        Self { engine: self.engine, name: self.name.clone() }
    }
}

impl Drop for Circuit {
    #[inline]
    fn drop(&mut self) {
        self.engine.stripes().handle_dropped();
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
