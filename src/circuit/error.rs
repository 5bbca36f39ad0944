//! The error of a call through a circuit breaker.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::rejected::Rejected;

/// Any error, as tower passes it on.
type BoxError = Box<dyn StdError + Send + Sync>;

/// The error of a call through a circuit breaker: the rejection, or the error of the call itself.
///
/// # Converting it
///
/// `?` converts it into a `Box<dyn Error + Send + Sync>`, tower's
/// [`BoxError`](https://docs.rs/tower/latest/tower/type.BoxError.html). The box holds the
/// [`Rejected`] or the inner error itself: [`Rejected::find_in`] finds a rejection, `downcast_ref`
/// finds the inner error. An inner `BoxError` is not boxed again.
///
/// [`flatten`](Self::flatten) converts it into other error types, in one line. With [anyhow]:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::io;
/// use anyhow::Context as _;
/// use tower_breaker::{Error, Store, Rejected};
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
/// assert!(Rejected::find_in(&*error).is_some());
/// # }
/// ```
///
/// With [thiserror], and wherever the inner error is a `BoxError`, which anyhow hides in a type of
/// its own:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tower::timeout::error::Elapsed;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_breaker::{CircuitBreakerLayer, Error, ErrorsAsFailures, Rejected, Store};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PayError {
///     #[error("payments are not available")] // not `transparent`: that hides the rejection
///     Rejected(#[from] Rejected),
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
/// assert!(Rejected::find_in(&error).is_some());
/// # }
/// ```
///
/// [anyhow]: https://docs.rs/anyhow
/// [thiserror]: https://docs.rs/thiserror
///
/// # Why it does not implement `std::error::Error`
///
/// Each way to implement it has a cost. `?` into a `BoxError` would box the whole `Error<E>`, so
/// that `downcast_ref` no longer finds the inner error, such as tower's `Elapsed`. An
/// implementation for all `E: Debug + Display` cannot return the inner error as its `source`. One
/// for `E: std::error::Error` can, but excludes `Error<BoxError>`, which most tower stacks have: a
/// `BoxError` does not implement `std::error::Error`. And Rust does not allow such an
/// implementation beside the conversions above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The circuit rejected the call: this call was not made.
    Rejected(Rejected),
    /// The call was made, and this is its error.
    Inner(E),
}

impl<E> Error<E> {
    /// Returns whether the circuit rejected the call.
    ///
    /// ```
    /// # tokio_test(async {
    /// use tower_breaker::Store;
    ///
    /// let payments = Store::in_memory().circuit("payments");
    /// payments.force_open("maintenance");
    /// let error = payments.execute(|| async { Ok::<_, ()>(7) }).await.unwrap_err();
    /// assert!(error.is_rejected());
    /// # });
    /// # fn tokio_test(f: impl Future<Output = ()>) {
    /// #     tokio::runtime::Runtime::new().unwrap().block_on(f);
    /// # }
    /// ```
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Returns how long until a retry can help, if the call was rejected and that is known. See
    /// [`Rejected::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => rejected.retry_after(),
            Self::Inner(_) => None,
        }
    }

    /// Returns the error of the call itself, or `None` if the call was rejected.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Converts the rejection or the inner error, whichever it is, into an error type that has a
    /// `From` for both: `.map_err(Error::flatten::<anyhow::Error>)?`.
    ///
    /// The result holds the error itself, with nothing around it. See the examples
    /// [above](Self#converting-it). For a `BoxError`, `?` does the same by itself.
    #[must_use]
    pub fn flatten<T>(self) -> T
    where
        T: From<Rejected> + From<E>,
    {
        match self {
            Self::Rejected(rejected) => rejected.into(),
            Self::Inner(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: Into<BoxError>> From<Error<E>> for BoxError {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Rejected(rejected) => rejected.into(),
            Error::Inner(error) => error.into(),
        }
    }
}

impl<E: Into<BoxError>> From<Error<E>> for Box<dyn StdError> {
    fn from(error: Error<E>) -> Self {
        BoxError::from(error)
    }
}
