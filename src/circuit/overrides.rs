//! States set by hand.

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
/// An override holds until [`reset`](Self::reset), another override, or the end of its
/// [time](Override::lasting), whatever calls do meanwhile. Each starts a new generation: results of calls
/// that were under way change nothing. What is said about it, a reason and more, is for people: see
/// [`Override`] and [`Snapshot`](crate::circuit::Snapshot).
///
/// It holds in this process as soon as the method returns. With a backend it holds for the whole
/// cluster, and outlives this process: await the [`PendingOverride`] to know that everybody is told.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_breaker::backend::BackendError> {
/// use std::time::Duration;
/// use tower_breaker::overrides::Override;
/// use tower_breaker::{State, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// let note = Override::new("their maintenance window").actor("alice").lasting(Duration::from_secs(3600));
/// payments.force_open(note).await?;
/// assert_eq!(payments.state(), State::ForcedOpen);
///
/// payments.reset().await?;
/// # Ok(()) }
/// ```
impl Circuit {
    /// Sets the state of the circuit, whatever its evidence says.
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn set_override(&self, r#override: Override) -> PendingOverride {
        PendingOverride(self.engine.force(OverrideRecord::from(r#override)))
    }

    /// Rejects every call: short for [`set_override`](Self::set_override) with
    /// [`Override::force_open`].
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn force_open(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::force_open(reason))
    }

    /// Admits every call and counts the results, which do not open the circuit: short for
    /// [`set_override`](Self::set_override) with [`Override::force_closed`].
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn force_closed(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::force_closed(reason))
    }

    /// Admits every call and counts nothing, as if there were no circuit: short for
    /// [`set_override`](Self::set_override) with [`Override::disable`].
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn disable(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::disable(reason))
    }

    /// Admits every call, counts the results, and only reports when they would have opened the
    /// circuit: short for [`set_override`](Self::set_override) with [`Override::metrics_only`].
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn metrics_only(&self, reason: impl Into<String>) -> PendingOverride {
        self.set_override(Override::metrics_only(reason))
    }

    /// Closes the circuit, ends an override, and forgets all evidence.
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn reset(&self) -> PendingOverride {
        PendingOverride(self.engine.reset())
    }

    /// Ends the interval of an open circuit now, so that the next call is a probe: for an operator who
    /// knows that the upstream is back. Returns false if the circuit is not open; a forced-open one is
    /// ended by [`reset`](Self::reset).
    ///
    /// In a cluster the interval ends for all replicas. It takes a round trip to the backend until the
    /// next call is a probe; where the backend does not answer, the replica probes by itself.
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

/// A state that an operator sets, with the reason, and optionally who sets it and for how long.
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

/// These texts travel with every view of the circuit.
const LONGEST_TEXT: usize = 512;

impl Override {
    /// Returns an override of this state. A reason of more than 512 bytes is cut there.
    pub fn new(state: OverrideState, reason: impl Into<String>) -> Self {
        Self { state, reason: cut(reason.into()), actor: None, lasting: None }
    }

    /// Rejects every call.
    pub fn force_open(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::ForcedOpen, reason)
    }

    /// Admits every call. Results are counted; they do not open the circuit.
    pub fn force_closed(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::ForcedClosed, reason)
    }

    /// Admits every call and counts nothing, as if there were no circuit.
    pub fn disable(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::Disabled, reason)
    }

    /// Admits every call, counts the results, and only reports when they would have opened the
    /// circuit ([`Event::WouldTrip`](crate::event::Event::WouldTrip)). Use it to try a policy on real
    /// traffic.
    pub fn metrics_only(reason: impl Into<String>) -> Self {
        Self::new(OverrideState::MetricsOnly, reason)
    }

    /// Says who sets it. A text of more than 512 bytes is cut there.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(cut(actor.into()));
        self
    }

    /// Ends the override by itself after `time`. Default: an operator must end it.
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

/// Tells when the cluster knows of an override. The override itself need not be waited for: it holds
/// in this process already.
///
/// # Errors
///
/// - The backend could not be told, now: the error is
///   [unavailable](BackendError::is_unavailable). The override still holds in this process, which tells
///   the others as soon as it can, for as long as it lives; unless it then hears that somebody has set
///   another since, which holds.
/// - Another override was set meanwhile, here or by another replica, and holds.
/// - The store was shut down before all were told.
///
/// Without a backend there is nobody to tell, and no error.
pub struct PendingOverride(Option<Told>);

impl Future for PendingOverride {
    type Output = Result<(), BackendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(told) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let answer = ready!(Pin::new(told).poll(cx));
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
