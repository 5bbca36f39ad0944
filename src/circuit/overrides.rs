//! States set by hand.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Circuit;
use super::member::Told;
use crate::backend::{BackendError, Setting};
use crate::machine::Override;

/// # Overrides
///
/// An override holds until [`reset`](Self::reset), another override, or the end of its
/// [time](Note::lasting), whatever calls do meanwhile. Each starts a new generation: results of calls
/// that were under way change nothing. What is said about it, a reason and more, is for people: see
/// [`Note`] and [`Snapshot`](crate::Snapshot).
///
/// It holds in this process as soon as the method returns. With a backend it holds for the whole
/// cluster, and outlives this process: await the [`Confirmation`] to know that everybody is told.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_breaker::backend::BackendError> {
/// use std::time::Duration;
/// use tower_breaker::{Note, State, Store};
///
/// let payments = Store::in_memory().circuit("payments");
/// let note = Note::new("their maintenance window").actor("alice").lasting(Duration::from_secs(3600));
/// payments.force_open(note).await?;
/// assert_eq!(payments.state(), State::ForcedOpen);
///
/// payments.reset().await?;
/// # Ok(()) }
/// ```
impl Circuit {
    /// Rejects every call.
    pub fn force_open(&self, note: impl Into<Note>) -> Confirmation {
        self.force(Override::ForcedOpen, note.into())
    }

    /// Lets every call pass. Results are counted; they do not open the circuit.
    pub fn force_closed(&self, note: impl Into<Note>) -> Confirmation {
        self.force(Override::ForcedClosed, note.into())
    }

    /// Lets every call pass and counts nothing, as if there were no circuit.
    pub fn disable(&self, note: impl Into<Note>) -> Confirmation {
        self.force(Override::Disabled, note.into())
    }

    /// Lets every call pass, counts the results, and only tells when they would have opened the
    /// circuit ([`Event::WouldTrip`](crate::Event::WouldTrip)): to try a policy on real traffic.
    pub fn metrics_only(&self, note: impl Into<Note>) -> Confirmation {
        self.force(Override::MetricsOnly, note.into())
    }

    /// Closes the circuit, ends an override, and forgets all evidence.
    #[expect(clippy::must_use_candidate, reason = "it acts; what it returns need not be awaited")]
    pub fn reset(&self) -> Confirmation {
        Confirmation(self.engine.reset())
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

    fn force(&self, state: Override, note: Note) -> Confirmation {
        Confirmation(self.engine.force(Setting::from((note, state))))
    }
}

/// What is said about an override: why, who, and for how long. A text alone is the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub(super) reason: String,
    pub(super) actor: Option<String>,
    pub(super) lasting: Option<Duration>,
}

/// Notes are for people, and travel with every view of the circuit.
const LONGEST_TEXT: usize = 512;

impl Note {
    /// Why. A text of more than 512 bytes is cut there.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: cut(reason.into()), actor: None, lasting: None }
    }

    /// Who sets it. A text of more than 512 bytes is cut there.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(cut(actor.into()));
        self
    }

    /// The override ends by itself after so long. Default: it does not.
    ///
    /// Then the circuit is closed, without evidence; in a cluster it is what it had been before, or
    /// what has become of that.
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

impl From<String> for Note {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl From<&str> for Note {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<(Note, Override)> for Setting {
    fn from((note, state): (Note, Override)) -> Self {
        let Note { reason, actor, lasting } = note;
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
pub struct Confirmation(Option<Told>);

impl Future for Confirmation {
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

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmation").finish_non_exhaustive()
    }
}
