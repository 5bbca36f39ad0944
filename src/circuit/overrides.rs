//! Overrides: states that an operator sets.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Circuit;
use super::member::Told;
use crate::backend::{BackendError, OverrideRecord};
use crate::machine::OverrideState;

/// # Overrides
///
/// An override holds until [`reset`](Self::reset), until another override, or until the end of its
/// [time](Override::lasting), whatever results calls have. Each override starts a new generation,
/// so results of calls that were already running change nothing.
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
        PendingOverride(self.engine.force(OverrideRecord::from(r#override)))
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

    /// Closes the circuit, ends an override, and drops all evidence.
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn reset(&self) -> PendingOverride {
        PendingOverride(self.engine.reset())
    }

    /// Ends the interval of an open circuit now, so that the next call is a probe. Use it when you
    /// know that the upstream works again.
    ///
    /// Returns false, and does nothing, if the circuit is not open. To end a forced-open state, use
    /// [`reset`](Self::reset).
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
    /// The circuit is then closed, without evidence. In a cluster it returns to the state that the
    /// backend has recorded for it.
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

/// Resolves once the backend has stored the override. You need not await it: the override already
/// applies in this process. Without a backend it resolves at once.
///
/// # Errors
///
/// - The backend does not answer: the error is [unavailable](BackendError::is_unavailable). The
///   override still applies in this process. The process keeps sending it until the backend stores
///   it, or has a newer override, which takes precedence.
/// - Another override was set meanwhile, here or by another replica, and takes precedence.
/// - The store was shut down before the backend had stored it.
///
/// # Cancellation
///
/// Dropping it changes nothing: the override is still sent.
pub struct PendingOverride(Option<Told>);

impl Future for PendingOverride {
    type Output = Result<(), BackendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(stored) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let answer = ready!(Pin::new(stored).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| {
            Err(BackendError::refused(
                "another override was set meanwhile, or the store was shut down",
            ))
        }))
    }
}

impl fmt::Debug for PendingOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOverride").finish_non_exhaustive()
    }
}
