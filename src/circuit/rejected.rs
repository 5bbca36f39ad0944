//! The rejection that a caller gets.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::cause::Cause;
use super::refusal::Rejection;
use crate::clock;
use crate::machine::{Reason, State, Tally};
use crate::name::CircuitName;

/// A call was rejected: its circuit is not closed. This call was not made.
///
/// Under a retry that says nothing about the attempts before it: those may have reached the upstream.
///
/// [`Rejected`] finds a rejection inside other errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    name: CircuitName,
    rejection: Rejection,
    cause: Cause,
}

impl Rejected {
    pub(super) fn new(name: CircuitName, rejection: Rejection, cause: Cause) -> Self {
        Self { name, rejection, cause }
    }

    /// A rejection for the want of a circuit.
    pub(crate) fn without_circuit(name: CircuitName) -> Self {
        let state = State::ForcedOpen;
        let cause = Cause::new(Reason::Override, Tally::default(), clock::now());
        Self { name, rejection: Rejection { state, generation: 0, retry_after: None }, cause }
    }

    /// The name of the circuit.
    #[must_use]
    pub fn name(&self) -> &CircuitName {
        &self.name
    }

    /// The state in which the call was rejected: [`State::Open`], [`State::HalfOpen`] (every probe
    /// was out) or [`State::ForcedOpen`].
    #[must_use]
    pub fn state(&self) -> State {
        self.rejection.state
    }

    /// The generation of that state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.rejection.generation
    }

    /// Returns why the circuit opened: the condition that its evidence met, or that a probe has failed
    /// since, or [`Reason::Override`] if an operator did it.
    ///
    /// ```
    /// use tower_breaker::event::Reason;
    /// use tower_breaker::{Outcome, Store};
    ///
    /// let mailer = Store::in_memory().circuit("mailer");
    /// for _ in 0..5 {
    ///     mailer.try_acquire()?.settle(Outcome::failure());
    /// }
    /// let rejected = mailer.try_acquire().unwrap_err();
    /// assert_eq!(rejected.reason(), Reason::ConsecutiveFailures);
    /// assert_eq!(rejected.evidence().consecutive_failures, 5);
    /// # Ok::<(), tower_breaker::Rejected>(())
    /// ```
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }

    /// Returns what had been counted when the circuit opened: the evidence of the trip. Failed probes
    /// that open it again do not change it. A number above `u32::MAX` is returned as that.
    #[must_use]
    pub fn evidence(&self) -> Tally {
        self.cause.evidence()
    }

    /// Returns how long ago the circuit opened, measured when this is called. Failed probes that open
    /// it again do not start the time anew.
    #[must_use]
    pub fn since(&self) -> Duration {
        clock::now().since(self.cause.since())
    }

    /// How long until a retry can help, where that is known: an open circuit knows, a forced-open
    /// one waits for a hand, and a half-open one lets the next probe pass as soon as one ends.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection.retry_after
    }
}

/// # Finding it in other errors
impl Rejected {
    /// Finds the rejection in an error that other layers have wrapped, if there is one.
    ///
    /// For example tower's `Buffer` and `Timeout`, and `reqwest`, box what they pass on. It looks at the
    /// error and at each [`source`](StdError::source) below it. Some types hide the error that they hold from
    /// both: `io::Error::other`, and a variant that thiserror makes `transparent`.
    ///
    /// ```
    /// use tower_breaker::Rejected;
    ///
    /// fn is_overload(error: &(dyn std::error::Error + 'static)) -> bool {
    ///     Rejected::find_in(error).is_some()
    /// }
    /// # assert!(!is_overload(&std::fmt::Error));
    /// ```
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            next = error.source();
        }
        None
    }
}

/// # In HTTP
impl Rejected {
    /// What to say as `Retry-After`: the wait in seconds, rounded up, and at least 1. A half-open
    /// circuit says 1, as a place may be free at any time; a forced-open one says nothing.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let wait = match self.state() {
            State::ForcedOpen => None,
            _ => Some(self.retry_after().unwrap_or_default()),
        };
        let round_up = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        wait.map(|wait| round_up(wait).max(1))
    }
}

impl fmt::Display for Rejected {
    /// For example `circuit "payments" is open: 5 consecutive failures; retry in 29.6 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit \"{}\" is {}", self.name, self.state())?;
        if self.state() == State::ForcedOpen {
            return Ok(());
        }
        write!(f, ": {}", self.reason().with(&self.evidence()))?;
        match (self.state(), self.retry_after()) {
            (_, Some(wait)) => write!(f, "; retry in {:.1} s", wait.as_secs_f64()),
            (State::HalfOpen, None) => f.write_str("; every probe slot is taken"),
            _ => Ok(()),
        }
    }
}

impl StdError for Rejected {}

/// # In tests
#[cfg(feature = "test-util")]
impl Rejected {
    /// Makes a rejection, for tests of code that handles rejections. Needs the feature `test-util`.
    ///
    /// A mock returns it where the real call would go through a circuit breaker. Its generation is 0.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::io;
    /// use std::time::Duration;
    /// use tower_breaker::{Error, Rejected, State};
    ///
    /// /// The code under test: what a customer reads.
    /// async fn checkout(charge: impl AsyncFnOnce() -> Result<u32, Error<io::Error>>) -> String {
    ///     match charge().await {
    ///         Ok(receipt) => format!("paid, receipt {receipt}"),
    ///         Err(Error::Rejected(open)) => match open.retry_after_seconds() {
    ///             Some(seconds) => format!("try again in {seconds} s"),
    ///             None => "try again later".to_owned(),
    ///         },
    ///         Err(Error::Inner(error)) => format!("not paid: {error}"),
    ///     }
    /// }
    ///
    /// let wait = Some(Duration::from_secs(30));
    /// let open = Rejected::for_test("payments", State::Open, wait);
    /// let mock = async || Err(Error::Rejected(open));
    /// assert_eq!(checkout(mock).await, "try again in 30 s");
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes, or if no call is rejected in `state`: it must be
    /// [`State::Open`], [`State::HalfOpen`] or [`State::ForcedOpen`].
    #[track_caller]
    #[must_use]
    pub fn for_test<N>(name: N, state: State, retry_after: Option<Duration>) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        assert!(
            matches!(state, State::Open | State::HalfOpen | State::ForcedOpen),
            "a circuit that is {state} rejects no call"
        );
        Self {
            name: CircuitName::expect(name),
            rejection: Rejection { state, generation: 0, retry_after },
            cause: Cause::new(Reason::Override, Tally::default(), clock::now()),
        }
    }
}
