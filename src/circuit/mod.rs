//! One circuit, in this process.
//!
//! [`Circuit`] is the handle. Behind it, [`engine`] decides from a few atomics and asks the
//! [machine](crate::machine), the rules, only where they matter.

mod engine;
mod error;
mod execute;
mod grant;
mod lanes;
mod locked;
mod permit;
mod pool;
mod snapshot;
mod sync;
mod word;

#[cfg(all(test, breaker_loom))]
mod races;

use std::fmt;
use std::sync::Arc;

use crate::machine::{Begin, Event, Override, Policy, State};
use crate::name::Name;
use engine::{Engine, Rejection};
pub use error::{Error, OpenCircuit, find_open};
pub(crate) use grant::Grant;
pub(crate) use locked::Observer;
pub(crate) use permit::Attempt;
pub use permit::Permit;
pub use snapshot::Snapshot;

/// A circuit: what a circuit breaker knows about one upstream, under one name.
///
/// Use it to protect calls that are not made through tower, to look at the state, and to override
/// it by hand. It comes from [`Store::circuit`](crate::Store::circuit); all handles of one name in
/// one store, the layers' included, are the same circuit.
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
///     Err(Error::Open(open)) => println!("not even tried: {open}"),
///     Err(Error::Inner(error)) => println!("failed: {error}"),
/// }
/// assert_eq!(payments.state(), State::Closed);
/// # }
/// ```
///
/// Handles are cheap to clone and to drop, whatever other threads do: see `ARCHITECTURE.md`.
pub struct Circuit {
    engine: &'static Engine,
    name: Name,
}

/// # State
impl Circuit {
    /// The circuit's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The state as the last call left it. An open circuit whose interval is over is open until
    /// somebody asks to call: see [`is_available`](Self::is_available).
    #[must_use]
    pub fn state(&self) -> State {
        self.engine.state()
    }

    /// Whether it is of use to call now. A pure read: asking moves nothing and takes no probe's
    /// place, so that a load balancer or a readiness check may ask as often as it likes.
    ///
    /// A call can be rejected all the same: others may take the places meanwhile, or it may be the
    /// one that finds a probe's lease over, and opens the circuit again.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.engine.check().is_ok()
    }

    /// The circuit as plain data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.name.clone(), self.engine.read())
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.engine.policy()
    }

    /// Calls `observer` with all that happens to the circuit from now on, in the order in which it
    /// happens.
    ///
    /// It runs on the thread of the call that made it happen, without any lock, and for as long as
    /// the circuit lives: add it once, let it be quick, and send what is slow elsewhere. If it
    /// panics, the panic is caught, and the call goes on; while it does not return, the last 1000
    /// events wait for it, and older ones are lost.
    pub fn on_change(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        self.engine.observe(Arc::new(observer));
    }
}

/// # Overrides
///
/// An override holds until [`reset`](Self::reset) or another override, whatever calls do
/// meanwhile. Each starts a new generation: results of calls that were under way change nothing.
/// `reason` is for people: it shows as [`Snapshot::override_reason`].
impl Circuit {
    /// Rejects every call.
    pub fn force_open(&self, reason: impl Into<String>) {
        self.engine.force(Override::ForcedOpen, reason.into());
    }

    /// Lets every call pass. Results are counted; they do not open the circuit.
    pub fn force_closed(&self, reason: impl Into<String>) {
        self.engine.force(Override::ForcedClosed, reason.into());
    }

    /// Lets every call pass and counts nothing, as if there were no circuit.
    pub fn disable(&self, reason: impl Into<String>) {
        self.engine.force(Override::Disabled, reason.into());
    }

    /// Lets every call pass, counts the results, and only tells when they would have opened the
    /// circuit ([`Event::WouldTrip`]): to try a policy on real traffic.
    pub fn metrics_only(&self, reason: impl Into<String>) {
        self.engine.force(Override::MetricsOnly, reason.into());
    }

    /// Closes the circuit, ends an override, and forgets all evidence.
    pub fn reset(&self) {
        self.engine.reset();
    }
}

/// What the layers above need.
impl Circuit {
    pub(crate) fn new(name: Name, policy: Policy, observers: Vec<Observer>) -> Self {
        Self { engine: pool::take(policy, observers), name }
    }

    /// Says that the store has let go of this circuit. To be said once.
    pub(crate) fn abandon(&self) {
        pool::abandon(self.engine);
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        self.engine.set_policy(policy);
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<(), OpenCircuit> {
        self.engine.check().map_err(|rejection| self.rejected(rejection))
    }

    /// Leave to make a call later, where everybody has it.
    #[inline]
    pub(crate) fn pass(&self) -> Option<Grant> {
        self.engine.pass(Begin::Later)
    }

    /// Asks for leave to make a call later: a probe's place is held, its call is not begun.
    pub(crate) fn reserve(&self) -> Result<Grant, OpenCircuit> {
        self.engine.acquire(Begin::Later).map_err(|rejection| self.rejected(rejection))
    }

    #[inline]
    pub(crate) fn holds(&self, grant: Grant) -> bool {
        self.engine.holds(grant)
    }

    /// Begins a call that was reserved, where everybody has leave.
    #[inline]
    pub(crate) fn pass_on(&self, grant: Grant) -> Option<Permit> {
        self.engine.pass_on(grant).map(|grant| self.permit(grant))
    }

    /// Begins a call that was reserved. If the reservation does not hold any more, the circuit is
    /// asked again.
    pub(crate) fn begin(&self, grant: Grant) -> Result<Permit, OpenCircuit> {
        let granted = self.engine.begin(grant);
        granted.map(|grant| self.permit(grant)).map_err(|rejection| self.rejected(rejection))
    }

    /// Gives back a reservation.
    #[inline]
    pub(crate) fn release(&self, grant: Grant) {
        self.engine.release(grant);
    }

    #[inline]
    fn permit(&self, grant: Grant) -> Permit {
        Permit::new(self.engine, grant)
    }

    fn rejected(&self, rejection: Rejection) -> OpenCircuit {
        OpenCircuit::new(self.name.clone(), rejection)
    }
}

impl Clone for Circuit {
    #[inline]
    fn clone(&self) -> Self {
        self.engine.lanes().handle_cloned();
        Self { engine: self.engine, name: self.name.clone() }
    }
}

impl Drop for Circuit {
    #[inline]
    fn drop(&mut self) {
        self.engine.lanes().handle_dropped();
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
