//! What a caller gets instead of a reply.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::engine::Rejection;
use crate::machine::State;
use crate::name::Name;

/// Any error, as tower passes it on.
type BoxError = Box<dyn StdError + Send + Sync>;

/// A call was rejected: its circuit is not closed. The upstream has not seen it.
///
/// It is found inside other errors by [`find_open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCircuit {
    name: Name,
    rejection: Rejection,
}

impl OpenCircuit {
    pub(crate) fn new(name: Name, rejection: Rejection) -> Self {
        Self { name, rejection }
    }

    /// A rejection for the want of a circuit.
    pub(crate) fn without_circuit(name: Name) -> Self {
        let state = State::ForcedOpen;
        Self { name, rejection: Rejection { state, generation: 0, retry_after: None } }
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

    /// How long until a retry can help, where that is known: an open circuit knows, a forced-open
    /// one waits for a hand, and a half-open one lets the next probe pass as soon as one ends.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection.retry_after
    }
}

/// The kernel's, at most.
const TICK: Duration = Duration::from_millis(10);

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
        // The clock of a rejection may be a tick behind: of a second that has just begun, two would be
        // told.
        let wait = wait.map(|wait| wait.saturating_sub(TICK));
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
        }
    }
}

impl StdError for OpenCircuit {}

/// The error of a call through a circuit breaker: the circuit's, or the call's own.
///
/// It converts into [`BoxError`](https://docs.rs/tower/latest/tower/type.BoxError.html), and into
/// `Box<dyn Error>`, with `?`; the inner error is then what it was, not wrapped once more. That
/// holds for an inner error that is itself a box, and is why this type cannot be a
/// [`std::error::Error`]: Rust would have two ways to box it. So for `anyhow` and `eyre` say it
/// once:
///
/// ```
/// # use tower_breaker::{Error, Store};
/// # async fn charge() -> Result<u32, std::io::Error> { Ok(7) }
/// # async fn run() -> anyhow::Result<u32> {
/// # let payments = Store::in_memory().circuit("payments");
/// let reply = payments.execute(charge).await.map_err(|error| anyhow::anyhow!(error.into_boxed()))?;
/// # Ok(reply) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The call was rejected; the upstream has not seen it.
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
}

impl<E: Into<BoxError>> Error<E> {
    /// The error as a box: the [`OpenCircuit`], or the call's own error.
    #[must_use]
    pub fn into_boxed(self) -> BoxError {
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
        error.into_boxed()
    }
}

impl<E: Into<BoxError>> From<Error<E>> for Box<dyn StdError> {
    fn from(error: Error<E>) -> Self {
        error.into_boxed()
    }
}

/// Finds the rejection in an error that other layers have wrapped, if there is one.
///
/// For example tower's `Buffer` and `Timeout`, and `reqwest`, box what they pass on.
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
