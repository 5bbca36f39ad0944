//! Calls without tower.

use std::future::poll_fn;
use std::pin::pin;

use super::error::Error;
use super::handle::{Circuit, Held};
use super::permit::{Attempt, CallGuard, Permit};
use super::refusal::Refusal;
use super::rejected::Rejected;
use crate::outcome::{FailureKind, Outcome};
use crate::sync::Unclaimed;

/// # Calls
impl Circuit {
    /// Makes a call, if the circuit admits it. An `Err` of the call is a failure.
    ///
    /// If the circuit rejects the call, `call` does not run. If an error can be the caller's own
    /// fault, such as a row that does not exist, use [`execute_with`](Self::execute_with):
    /// otherwise callers with invalid requests open the circuit for all callers.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] if the circuit rejects the call; [`Error::Inner`] with the error of the
    /// call.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before it completes cancels the call. A cancelled call counts as the
    /// policy [says](crate::policy::PolicyBuilder::cancelled), and frees its probe slot.
    ///
    /// # Panics
    ///
    /// Panics if the call panics. The circuit counts a failure first.
    pub async fn execute<F, Fut, T, E>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.execute_with(errors_are_failures, call).await
    }

    /// Makes a call, if the circuit admits it, and lets `classify` say what its result means.
    ///
    /// A [`Classify`](crate::Classify) takes a `Result<&T, &E>`. To use one here, convert the
    /// result: `|result: &Result<_, _>| classifier.classify(result.as_ref())`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tower_breaker::{Outcome, Store};
    ///
    /// # #[derive(Debug, PartialEq)] enum DbError { NotFound, Io }
    /// # async fn find_user() -> Result<String, DbError> { Err(DbError::NotFound) }
    /// let database = Store::in_memory().circuit("database");
    /// let classify = |result: &Result<_, DbError>| match result {
    ///     Ok(_) | Err(DbError::NotFound) => Outcome::Success,
    ///     Err(DbError::Io) => Outcome::failure(),
    /// };
    /// let user = database.execute_with(classify, find_user).await;
    /// # assert_eq!(user.unwrap_err().into_inner(), Some(DbError::NotFound));
    /// # assert_eq!(database.snapshot().tally.failures, 0);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as with [`execute`](Self::execute). Cancellation and panics are the same too.
    pub async fn execute_with<C, F, Fut, T, E>(&self, classify: C, call: F) -> Result<T, Error<E>>
    where
        C: FnOnce(&Result<T, E>) -> Outcome,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let guard = self.admit().await?;
        attempt(guard, classify, call).await.1.map_err(Error::Inner)
    }

    /// Makes a call, if the circuit admits it, and runs `fallback` instead of a rejected call.
    ///
    /// A call that was made and failed keeps its own error: only a rejection is replaced. Every
    /// `Err` of the call is a failure, as with [`execute`](Self::execute). To replace failures too,
    /// or to classify errors, use [`execute_with_fallback`](Self::execute_with_fallback): a
    /// fallback that returns the result of [`Unserved::Failed`] replaces rejections only.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::io::Error> {
    /// use tower_breaker::Store;
    ///
    /// # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("fresh") }
    /// let prices = Store::in_memory().circuit("prices");
    /// prices.force_open("as an example");
    /// let price = prices.execute_or(fetch, |_rejected| async { Ok("from yesterday") }).await?;
    /// assert_eq!(price, "from yesterday");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the call, or of the fallback. Cancellation and panics are as with
    /// [`execute`](Self::execute).
    pub async fn execute_or<F, Fut, G, Alt, T, E>(&self, call: F, fallback: G) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        G: FnOnce(Rejected) -> Alt,
        Alt: Future<Output = Result<T, E>>,
    {
        match self.admit().await {
            Ok(guard) => attempt(guard, errors_are_failures, call).await.1,
            Err(rejected) => fallback(rejected).await,
        }
    }

    /// Makes a call, if the circuit admits it, and runs `fallback` if the call is rejected or
    /// fails.
    ///
    /// `classify` says which results are failures. The fallback gets such a result and may return
    /// it. Every other result is returned as it is, also an `Err`: a row that does not exist is an
    /// answer.
    ///
    /// The fallback runs once the circuit has counted the call. The circuit does not count the
    /// fallback.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tower_breaker::circuit::Unserved;
    /// use tower_breaker::{Outcome, Store};
    ///
    /// # #[derive(Debug, PartialEq)] enum DbError { NotFound, Io }
    /// # async fn from_database(id: u32) -> Result<String, DbError> {
    /// #     if id == 7 { Err(DbError::Io) } else { Err(DbError::NotFound) }
    /// # }
    /// # fn from_cache(id: u32) -> Option<String> { (id == 7).then(|| "Ada".to_owned()) }
    /// let database = Store::in_memory().circuit("database");
    /// let classify = |result: &Result<_, DbError>| match result {
    ///     Ok(_) | Err(DbError::NotFound) => Outcome::Success,
    ///     Err(DbError::Io) => Outcome::failure(),
    /// };
    /// let user = async |id| {
    ///     let stale = async |unserved| match (from_cache(id), unserved) {
    ///         (Some(user), _) => Ok(user),
    ///         // Nothing in the cache: the call's own error, or one that stands for the rejection.
    ///         (None, Unserved::Failed(result)) => result,
    ///         (None, Unserved::Rejected(_)) => Err(DbError::Io),
    ///     };
    ///     database.execute_with_fallback(classify, || from_database(id), stale).await
    /// };
    ///
    /// assert_eq!(user(7).await, Ok("Ada".to_owned())); // the call failed
    /// assert_eq!(user(8).await, Err(DbError::NotFound)); // an answer of the database
    /// database.force_open("an example");
    /// assert_eq!(user(7).await, Ok("Ada".to_owned())); // the call was rejected
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of a call that is no failure, or of the fallback. Cancellation and panics are as
    /// with [`execute`](Self::execute).
    pub async fn execute_with_fallback<C, F, Fut, G, Alt, T, E>(
        &self,
        classify: C,
        call: F,
        fallback: G,
    ) -> Result<T, E>
    where
        C: FnOnce(&Result<T, E>) -> Outcome,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        G: FnOnce(Unserved<T, E>) -> Alt,
        Alt: Future<Output = Result<T, E>>,
    {
        let unserved = match self.admit().await {
            Ok(guard) => match attempt(guard, classify, call).await {
                (Outcome::Failure { .. }, result) => Unserved::Failed(result),
                (Outcome::Success | Outcome::Ignored, result) => return result,
            },
            Err(rejected) => Unserved::Rejected(rejected),
        };
        fallback(unserved).await
    }

    /// Returns a permit to make one call. [Settle](Permit::settle) it with the outcome of the call.
    ///
    /// Without a backend this never waits. With one it waits in two cases, each time no longer than
    /// the store's [deadline](crate::StoreBuilder::deadline): while a circuit that is new in this
    /// process loads its state, and while the backend is asked for a probe slot.
    ///
    /// # Errors
    ///
    /// The rejection, if the circuit rejects the call.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped while it waits for a probe slot, the slot is returned to the
    /// backend.
    pub async fn acquire(&self) -> Result<Permit, Rejected> {
        self.admit().await.map(Permit::new)
    }

    /// Admits a call, and waits for the cluster where it must.
    pub(crate) async fn admit(&self) -> Result<CallGuard, Rejected> {
        match self.check().and_then(|()| self.enter()) {
            Ok(guard) => Ok(guard),
            Err(refusal) => self.wait(refusal).await,
        }
    }

    /// Waits for what a refused call needs of the cluster, and admits the call then.
    pub(crate) async fn wait(&self, refusal: Refusal) -> Result<CallGuard, Rejected> {
        let refusal = match refusal {
            Refusal::Unknown(link) => {
                link.known().await;
                match self.enter() {
                    Ok(guard) => return Ok(guard),
                    Err(refusal) => refusal,
                }
            }
            refusal => refusal,
        };
        let entered = match refusal {
            Refusal::NeedsLease(link) => {
                match link.ask(self.clone(), Unclaimed::GiveBack).await.and_then(Held::take) {
                    Some(grant) => self.resume(grant),
                    None => self.enter(),
                }
            }
            refusal => Err(refusal),
        };
        entered.map_err(|refusal| self.rejected(self.rejection(&refusal)))
    }

    /// Returns a permit to make one call, without waiting: for callers that are not async.
    ///
    /// With a backend it decides from what this process knows. If the call would be a probe, the
    /// method rejects the call, requests a probe slot from the backend in the background, and keeps
    /// that slot for the next call. So the circuit recovers if another call comes within one
    /// [lease](crate::policy::PolicyBuilder::probe_lease). If calls are rarer, use
    /// [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// The rejection, if the circuit rejects the call.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        self.try_enter().map(Permit::new)
    }

    /// Admits a call by what this process knows. Where a probe slot must be leased first, it
    /// rejects the call, and starts to ask for the next one.
    #[inline]
    pub(crate) fn try_enter(&self) -> Result<CallGuard, Rejected> {
        self.enter().map_err(|refusal| {
            if let Refusal::NeedsLease(link) = &refusal {
                drop(link.ask(self.clone(), Unclaimed::Keep));
            }
            self.rejected(self.rejection(&refusal))
        })
    }
}

/// Why a fallback runs: see [`Circuit::execute_with_fallback`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved<T, E> {
    /// The call was rejected: it was not made.
    Rejected(Rejected),
    /// The call was made, and its result is a failure. It can be an `Ok` that the classifier calls
    /// a failure.
    Failed(Result<T, E>),
}

fn errors_are_failures<T, E>(result: &Result<T, E>) -> Outcome {
    if result.is_ok() { Outcome::Success } else { Outcome::failure() }
}

/// Makes the call and settles it with what `classify` says. Returns that too.
async fn attempt<C, F, Fut, T, E>(guard: CallGuard, classify: C, call: F) -> (Outcome, Result<T, E>)
where
    C: FnOnce(&Result<T, E>) -> Outcome,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let (guard, call) = guard.guard(call);
    let mut attempt = pin!(Attempt::new(call, guard));
    let mut classify = Some(classify);
    let mut once =
        |result: &_| classify.take().map_or(Outcome::Ignored, |classify| classify(result));
    let (mut guard, outcome, result) = poll_fn(|cx| attempt.as_mut().poll_end(cx, &mut once)).await;
    if result.is_err() {
        guard.failed_as(FailureKind::Error);
    }
    guard.settle(outcome);
    (outcome, result)
}
