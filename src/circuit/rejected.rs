//! The rejection that a caller gets.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::cause::Cause;
use super::refusal::Rejection;
use crate::clock;
use crate::machine::{Reason, State, Tally};
use crate::name::CircuitName;

/// The rejection of a call by a circuit: the call was not made.
///
/// It says which circuit, in which state, why the circuit opened, and when a retry can help.
/// [`Rejected::find_in`] finds it inside other errors.
///
/// Under a retry, it is about the last attempt only. Earlier attempts may have reached the
/// upstream.
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

    /// Returns the rejection of a call that has no circuit.
    pub(crate) fn without_circuit(name: CircuitName) -> Self {
        let state = State::ForcedOpen;
        let cause = Cause::new(Reason::Override, Tally::default(), clock::now());
        Self { name, rejection: Rejection { state, generation: 0, retry_after: None }, cause }
    }

    /// Returns the name of the circuit.
    #[must_use]
    pub fn name(&self) -> &CircuitName {
        &self.name
    }

    /// Returns the state in which the call was rejected: [`State::Open`], [`State::HalfOpen`] (all
    /// probe slots were taken) or [`State::ForcedOpen`].
    #[must_use]
    pub fn state(&self) -> State {
        self.rejection.state
    }

    /// Returns the generation of that state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.rejection.generation
    }

    /// Returns why the circuit opened: the condition that its evidence met, the result of a probe
    /// that has failed since, or [`Reason::Override`] if an operator opened it.
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

    /// Returns what the circuit had counted when it opened: the evidence of the trip. Failed probes
    /// that open it again do not change it. Numbers larger than `u32::MAX` are returned as
    /// `u32::MAX`. If another replica opened the circuit, this is what this replica had counted by
    /// then, which may be nothing.
    #[must_use]
    pub fn evidence(&self) -> Tally {
        self.cause.evidence()
    }

    /// Returns how long ago the circuit opened, as of now. Failed probes that open it again do not
    /// restart this time.
    #[must_use]
    pub fn since(&self) -> Duration {
        clock::now().since(self.cause.since())
    }

    /// Returns how long until a retry can help, if that is known.
    ///
    /// It is known while the circuit is open. It is `None` for a forced-open circuit, which waits
    /// for an operator, and for a half-open one, which admits the next probe as soon as another one
    /// ends.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection.retry_after
    }
}

/// # Finding it in other errors
impl Rejected {
    /// Returns the rejection inside an error that other layers have wrapped, or `None` if there is
    /// none.
    ///
    /// For example, tower's `Buffer` and `Timeout`, and `reqwest`, box the errors that they pass
    /// on. This method examines the error and each [`source`](StdError::source) below it. It cannot
    /// find a rejection in a type that does not return its inner error as its source, such as
    /// `io::Error::other` and an error that thiserror makes `transparent`.
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
    /// Returns the value of a `Retry-After` header: the wait in seconds, rounded up, and at least
    /// 1.
    ///
    /// It is 1 for a half-open circuit, where a probe slot may become free at any time, and `None`
    /// for a forced-open one.
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
    /// Returns a rejection, to test code that handles rejections. Needs the feature `test-util`.
    ///
    /// A mock returns it in place of a call through a circuit breaker. Its generation is 0.
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
    ///         Err(Error::Rejected(rejected)) => match rejected.retry_after_seconds() {
    ///             Some(seconds) => format!("try again in {seconds} s"),
    ///             None => "try again later".to_owned(),
    ///         },
    ///         Err(Error::Inner(error)) => format!("not paid: {error}"),
    ///     }
    /// }
    ///
    /// let wait = Some(Duration::from_secs(30));
    /// let rejected = Rejected::for_test("payments", State::Open, wait);
    /// let mock = async || Err(Error::Rejected(rejected));
    /// assert_eq!(checkout(mock).await, "try again in 30 s");
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes, or if no call is rejected in `state`:
    /// it must be [`State::Open`], [`State::HalfOpen`] or [`State::ForcedOpen`].
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
