//! What a caller gets instead of a reply.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::admission::Rejection;
use super::cause::Cause;
use crate::clock;
use crate::machine::{Reason, State, Tally};
use crate::name::Name;

/// Any error, as tower passes it on.
type BoxError = Box<dyn StdError + Send + Sync>;

/// A call was rejected: its circuit is not closed. This call was not made.
///
/// Under a retry that says nothing about the attempts before it: those may have reached the upstream.
///
/// [`find_open`] finds a rejection inside other errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCircuit {
    name: Name,
    rejection: Rejection,
    cause: Cause,
}

impl OpenCircuit {
    pub(super) fn new(name: Name, rejection: Rejection, cause: Cause) -> Self {
        Self { name, rejection, cause }
    }

    /// A rejection for the want of a circuit.
    pub(crate) fn without_circuit(name: Name) -> Self {
        let state = State::ForcedOpen;
        let cause = Cause::new(Reason::ByHand, Tally::default(), clock::now());
        Self { name, rejection: Rejection { state, generation: 0, retry_after: None }, cause }
    }

    /// The name of the circuit.
    #[must_use]
    pub fn name(&self) -> &Name {
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
    /// since, or [`Reason::ByHand`] if an operator did it.
    ///
    /// ```
    /// use tower_breaker::{Outcome, Reason, Store};
    ///
    /// let mailer = Store::in_memory().circuit("mailer");
    /// for _ in 0..5 {
    ///     mailer.try_acquire()?.settle(Outcome::failure());
    /// }
    /// let rejected = mailer.try_acquire().unwrap_err();
    /// assert_eq!(rejected.reason(), Reason::ConsecutiveFailures);
    /// assert_eq!(rejected.evidence().consecutive_failures, 5);
    /// # Ok::<(), tower_breaker::OpenCircuit>(())
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

/// # In HTTP
impl OpenCircuit {
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

impl fmt::Display for OpenCircuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit `{}` is {}", self.name, self.state())?;
        match (self.state(), self.retry_after()) {
            (_, Some(wait)) => write!(f, ", retry after {wait:.1?}"),
            (State::HalfOpen, None) => f.write_str(", every probe is out"),
            _ => Ok(()),
        }?;
        if self.state() == State::ForcedOpen {
            return Ok(());
        }
        write!(f, " ({})", self.reason().with(&self.evidence()))
    }
}

impl StdError for OpenCircuit {}

/// # In tests
#[cfg(feature = "test-util")]
impl OpenCircuit {
    /// Makes a rejection, for tests of code that handles rejections. Needs the feature `test-util`.
    ///
    /// A mock returns it where the real call would go through a circuit breaker. Its generation is 0.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::io;
    /// use std::time::Duration;
    /// use tower_breaker::{Error, OpenCircuit, State};
    ///
    /// /// The code under test: what a customer reads.
    /// async fn checkout(charge: impl AsyncFnOnce() -> Result<u32, Error<io::Error>>) -> String {
    ///     match charge().await {
    ///         Ok(receipt) => format!("paid, receipt {receipt}"),
    ///         Err(Error::Open(open)) => match open.retry_after_seconds() {
    ///             Some(seconds) => format!("try again in {seconds} s"),
    ///             None => "try again later".to_owned(),
    ///         },
    ///         Err(Error::Inner(error)) => format!("not paid: {error}"),
    ///     }
    /// }
    ///
    /// let wait = Some(Duration::from_secs(30));
    /// let open = OpenCircuit::for_test("payments", State::Open, wait);
    /// let mock = async || Err(Error::Open(open));
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
        N: TryInto<Name>,
        N::Error: fmt::Display,
    {
        assert!(
            matches!(state, State::Open | State::HalfOpen | State::ForcedOpen),
            "a circuit that is {state} rejects no call"
        );
        Self {
            name: Name::expect(name),
            rejection: Rejection { state, generation: 0, retry_after },
            cause: Cause::new(Reason::ByHand, Tally::default(), clock::now()),
        }
    }
}

/// The error of a call through a circuit breaker: the circuit's, or the call's own.
///
/// # Into other errors
///
/// `?` converts it into a `Box<dyn Error + Send + Sync>`, tower's
/// [`BoxError`](https://docs.rs/tower/latest/tower/type.BoxError.html). The box holds the
/// [`OpenCircuit`], or the inner error itself: [`find_open`] finds the one, `downcast_ref` the other.
/// An inner `BoxError` is not boxed again.
///
/// Into other error types [`flatten`](Self::flatten) converts it, in one line. With [anyhow]:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::io;
/// use anyhow::Context as _;
/// use tower_breaker::{Error, Store, find_open};
///
/// # let payments = Store::in_memory().circuit("payments");
/// # let charge = async || Err::<u32, _>(io::Error::from(io::ErrorKind::TimedOut));
/// let pay = async || -> anyhow::Result<u32> {
///     let receipt = payments.execute(charge).await.map_err(Error::flatten::<anyhow::Error>)?;
///     Ok(receipt)
/// };
///
/// let error = pay().await.context("checkout").unwrap_err();
/// assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
///
/// payments.force_open("an example");
/// let error = pay().await.context("checkout").unwrap_err();
/// assert!(find_open(&*error).is_some());
/// # }
/// ```
///
/// With [thiserror], and wherever the inner error is a `BoxError`, which anyhow hides in a type of its
/// own:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tower::timeout::error::Elapsed;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_breaker::{CircuitBreakerLayer, Error, ErrorsAsFailures, OpenCircuit, Store, find_open};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PayError {
///     #[error("payments are not available")] // not `transparent`: that hides the rejection
///     Open(#[from] OpenCircuit),
///     #[error("the payment failed")]
///     Failed(#[from] BoxError), // or `io::Error`, or whatever the service's error is
/// }
///
/// # let store = Store::in_memory();
/// # let layer = CircuitBreakerLayer::new(store.clone()).named("payments").classify(ErrorsAsFailures);
/// # let hangs = tower::service_fn(|()| std::future::pending::<Result<u32, BoxError>>());
/// # let one_milli = std::time::Duration::from_millis(1);
/// let payments = ServiceBuilder::new().layer(layer).timeout(one_milli).service(hangs);
/// let pay = async || -> Result<u32, PayError> {
///     let receipt = payments.clone().oneshot(()).await.map_err(Error::flatten::<PayError>)?;
///     Ok(receipt)
/// };
///
/// let error = pay().await.unwrap_err();
/// assert!(matches!(&error, PayError::Failed(error) if error.is::<Elapsed>()));
///
/// store.circuit("payments").force_open("an example");
/// let error = pay().await.unwrap_err();
/// assert!(find_open(&error).is_some());
/// # }
/// ```
///
/// [anyhow]: https://docs.rs/anyhow
/// [thiserror]: https://docs.rs/thiserror
///
/// # Why it does not implement `std::error::Error`
///
/// It could, and each way to do it loses something. `?` into a `BoxError` would box the whole `Error<E>`,
/// so `downcast_ref` no longer finds the inner error, as tower's `Elapsed`. An implementation for all
/// `E: Debug + Display` cannot hand on the inner error as its `source`. One for `E: std::error::Error`
/// can, but leaves out `Error<BoxError>`, which most tower stacks have: a `BoxError` is no
/// `std::error::Error`. And Rust has no room for such an implementation beside the conversions above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The call was rejected: this call was not made.
    Open(OpenCircuit),
    /// The call was made, and this is its error.
    Inner(E),
}

impl<E> Error<E> {
    /// Whether the call was rejected by its circuit.
    ///
    /// ```
    /// # tokio_test(async {
    /// use tower_breaker::Store;
    ///
    /// let payments = Store::in_memory().circuit("payments");
    /// payments.force_open("maintenance");
    /// let error = payments.execute(|| async { Ok::<_, ()>(7) }).await.unwrap_err();
    /// assert!(error.is_open());
    /// # });
    /// # fn tokio_test(f: impl Future<Output = ()>) {
    /// #     tokio::runtime::Runtime::new().unwrap().block_on(f);
    /// # }
    /// ```
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// How long until a retry can help, if the call was rejected and that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Open(open) => open.retry_after(),
            Self::Inner(_) => None,
        }
    }

    /// The call's own error, if it was made.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Open(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Converts the rejection or the inner error, whichever it is, into an error type that has a `From`
    /// for both: `.map_err(Error::flatten::<anyhow::Error>)?`.
    ///
    /// The result holds the error itself, with nothing around it. See the examples
    /// [above](Self#into-other-errors). Into a `BoxError`, `?` does the same by itself.
    #[must_use]
    pub fn flatten<T>(self) -> T
    where
        T: From<OpenCircuit> + From<E>,
    {
        match self {
            Self::Open(open) => open.into(),
            Self::Inner(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E> From<OpenCircuit> for Error<E> {
    fn from(open: OpenCircuit) -> Self {
        Self::Open(open)
    }
}

impl<E: Into<BoxError>> From<Error<E>> for BoxError {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Open(open) => open.into(),
            Error::Inner(error) => error.into(),
        }
    }
}

impl<E: Into<BoxError>> From<Error<E>> for Box<dyn StdError> {
    fn from(error: Error<E>) -> Self {
        BoxError::from(error)
    }
}

/// Finds the rejection in an error that other layers have wrapped, if there is one.
///
/// For example tower's `Buffer` and `Timeout`, and `reqwest`, box what they pass on. It looks at the
/// error and at each [`source`](StdError::source) below it. Some types hide the error that they hold from
/// both: `io::Error::other`, and a variant that thiserror makes `transparent`.
///
/// ```
/// use tower_breaker::{OpenCircuit, find_open};
///
/// fn is_overload(error: &(dyn std::error::Error + 'static)) -> bool {
///     find_open(error).is_some()
/// }
/// # assert!(!is_overload(&std::fmt::Error));
/// ```
#[must_use]
pub fn find_open<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a OpenCircuit> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(open) = error.downcast_ref() {
            return Some(open);
        }
        next = error.source();
    }
    None
}
