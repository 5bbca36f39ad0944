//! Overrides: states that an operator sets.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::Circuit;
use crate::backend::BackendError;
use crate::clock;
use crate::machine::{OverrideRecord, OverrideState};
use crate::sync::Acknowledgement;
use crate::timestamp::Timestamp;

/// # Overrides
///
/// An override holds until [`clear_override`](Self::clear_override) or [`reset`](Self::reset),
/// until another override, or until the end of its [time](Override::lasting), whatever results
/// calls have. Each override starts a new generation, so results of calls that were already running
/// change nothing.
///
/// It applies in this process as soon as the method returns. With a backend it applies to the whole
/// cluster and outlives this process; await the [`PendingOverride`] to know that the backend has
/// stored it.
///
/// [`Snapshot`](crate::circuit::Snapshot) shows the reason, the operator and the remaining time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_breaker::backend::BackendError> {
/// use std::time::Duration;
/// use tower_breaker::overrides::Override;
/// use tower_breaker::{State, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// let maintenance = Override::force_open("their maintenance window")
///     .actor("alice")
///     .lasting(Duration::from_secs(3600));
/// payments.set_override(maintenance).await?;
/// assert_eq!(payments.state(), State::ForcedOpen);
///
/// payments.reset().await?;
/// # Ok(()) }
/// ```
impl Circuit {
    /// Sets an override, which applies whatever the evidence of the circuit says.
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn set_override(&self, r#override: Override) -> PendingOverride {
        self.pending(self.engine.set_override(OverrideRecord::from(r#override)))
    }

    /// Rejects every call. Short for [`set_override`](Self::set_override) with
    /// [`Override::force_open`].
    pub fn force_open(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::force_open(reason))
    }

    /// Admits every call and counts the results, but never opens the circuit. Short for
    /// [`set_override`](Self::set_override) with [`Override::force_closed`].
    pub fn force_closed(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::force_closed(reason))
    }

    /// Admits every call and counts nothing, as if there were no circuit. Short for
    /// [`set_override`](Self::set_override) with [`Override::disable`].
    pub fn disable(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::disable(reason))
    }

    /// Admits every call, counts the results, and only reports when they would have opened the
    /// circuit. Short for [`set_override`](Self::set_override) with [`Override::metrics_only`].
    pub fn metrics_only(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::metrics_only(reason))
    }

    /// Ends the override, if there is one. The state beneath it is in force again.
    ///
    /// A circuit that was open stays open for the rest of its interval. If the interval ended
    /// meanwhile, the next call is a probe, because nothing has shown that the upstream works. A
    /// circuit that was closed starts without evidence. The same happens when the
    /// [time](Override::lasting) of an override ends. To close the circuit whatever is beneath, use
    /// [`reset`](Self::reset).
    ///
    /// ```
    /// use tower_breaker::{Outcome, Policy, State, Store};
    ///
    /// let policy = Policy::builder().consecutive_failures(1).build()?;
    /// let payments = Store::in_memory().circuit_with("payments", policy);
    /// payments.try_acquire()?.settle(Outcome::failure());
    ///
    /// payments.disable("we need to see it fail");
    /// assert!(payments.try_acquire().is_ok());
    /// payments.clear_override();
    /// assert_eq!(payments.state(), State::Open);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn clear_override(&self) -> PendingOverride {
        self.pending(self.engine.clear_override())
    }

    /// Closes the circuit, ends an override, and drops all evidence, whatever the state is, also
    /// beneath an override. To end only the override, use [`clear_override`](Self::clear_override).
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn reset(&self) -> PendingOverride {
        self.pending(self.engine.reset())
    }

    fn pending(&self, stored: Option<Acknowledgement>) -> PendingOverride {
        let Some(stored) = stored else { return PendingOverride(None) };
        let deadline = self.engine.link().map_or(Duration::ZERO, |link| link.deadline());
        let deadline = clock::now().after(deadline);
        PendingOverride(Some(Box::pin(acknowledged(stored, deadline))))
    }

    /// Ends the interval of an open circuit now, so that the next call is a probe. Use it when you
    /// know that the upstream works again.
    ///
    /// Returns false, and does nothing, if the circuit is not open. To end a forced-open state, use
    /// [`clear_override`](Self::clear_override).
    ///
    /// In a cluster the interval ends for all replicas. The next call is a probe after one round
    /// trip to the backend; if the backend does not answer, this replica probes by itself.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_breaker::{Outcome, Policy, Store};
    ///
    /// let policy = Policy::builder().consecutive_failures(1).open_for(Duration::from_secs(60)).build()?;
    /// let payments = Store::in_memory().circuit_with("payments", policy);
    /// payments.try_acquire()?.settle(Outcome::failure());
    /// assert!(payments.try_acquire().is_err());
    ///
    /// assert!(payments.probe_now());
    /// assert!(payments.try_acquire()?.is_probe());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "it acts; the answer may not matter")]
    pub fn probe_now(&self) -> bool {
        self.engine.probe_now()
    }
}

/// A state that an operator sets, with a reason, and optionally with the operator's name and a
/// duration.
///
/// Set it with [`Circuit::set_override`].
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::Store;
/// use tower_breaker::overrides::Override;
///
/// let payments = Store::in_memory().circuit("payments");
/// let maintenance = Override::force_open("their maintenance window")
///     .actor("alice")
///     .lasting(Duration::from_secs(3600));
/// payments.set_override(maintenance);
/// assert_eq!(payments.snapshot().override_actor.as_deref(), Some("alice"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    state: OverrideState,
    reason: String,
    actor: Option<String>,
    lasting: Option<Duration>,
}

/// The most bytes of a text. The texts travel with every view of the circuit.
const LONGEST_TEXT: usize = 512;

impl Override {
    /// Returns an override that sets this state. The reason is for people; it is truncated to 512
    /// bytes.
    pub fn new(state: OverrideState, reason: impl Into<String>) -> Self {
        Self { state, reason: cut(reason.into()), actor: None, lasting: None }
    }

    /// Returns an override that rejects every call.
    pub fn force_open(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::ForcedOpen, reason)
    }

    /// Returns an override that admits every call and counts the results, but never opens the
    /// circuit.
    pub fn force_closed(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::ForcedClosed, reason)
    }

    /// Returns an override that admits every call and counts nothing, as if there were no circuit.
    pub fn disable(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::Disabled, reason)
    }

    /// Returns an override that admits every call, counts the results, and only reports when they
    /// would have opened the circuit ([`Event::WouldTrip`](crate::event::Event::WouldTrip)). Use it
    /// to try a policy on real traffic.
    pub fn metrics_only(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::MetricsOnly, reason)
    }

    /// Sets the operator's name. It is truncated to 512 bytes. Default: none.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(cut(actor.into()));
        self
    }

    /// Ends the override after `time`. Default: it lasts until an operator ends it.
    ///
    /// The state beneath it is then in force again, as after
    /// [`clear_override`](Circuit::clear_override).
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = Some(time);
        self
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=LONGEST_TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or_default());
    text
}

impl From<Override> for OverrideRecord {
    fn from(r#override: Override) -> Self {
        let Override { state, reason, actor, lasting } = r#override;
        Self { state, reason, actor, remaining: lasting }
    }
}

/// Resolves once the backend has stored the change of the override, and no later than the store's
/// [deadline](crate::StoreBuilder::deadline). You need not await it: the override already applies
/// in this process. Without a backend it resolves at once.
///
/// # Errors
///
/// - The backend has not stored it within the deadline: the error is
///   [unavailable](BackendError::is_unavailable). The override applies in this process, other
///   replicas do not know it yet, and this process keeps sending it until the backend stores it,
///   its time is over, or the backend has a newer override, which takes precedence.
/// - Another override was set meanwhile, here or by another replica, and takes precedence.
/// - The time of the override ended before the backend stored it.
/// - The store was shut down: the override applies in this process only.
///
/// # Cancellation
///
/// Dropping it changes nothing: the override is still sent.
pub struct PendingOverride(Option<Pin<Box<dyn Future<Output = Stored> + Send + Sync>>>);

type Stored = Result<(), BackendError>;

impl Future for PendingOverride {
    type Output = Stored;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(stored) => stored.as_mut().poll(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

async fn acknowledged(stored: Acknowledgement, deadline: Timestamp) -> Stored {
    match timeout(deadline.since(clock::now()), stored).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(BackendError::refused("the circuit has left the cluster")),
        Err(_) => Err(BackendError::unavailable(
            "the backend has not stored the override yet: it applies in this process, and is sent \
             to the others when the backend answers",
        )),
    }
}

impl fmt::Debug for PendingOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOverride").finish_non_exhaustive()
    }
}
