//! Calls without tower whose results a classifier judges.

use std::future::poll_fn;
use std::pin::pin;

use super::classifier::Classify;
use crate::circuit::{Attempt, Circuit, Error};
use crate::outcome::Outcome;

/// # Calls with a classifier
impl Circuit {
    /// Makes a call, if the circuit admits it, and lets a classifier judge its result, as a tower
    /// service does: its [kinds](Classify::failure_kind) are in the totals, and its
    /// [text](Classify::describe) in the transition that a failure causes.
    ///
    /// [`execute_with`](Self::execute_with) takes a closure instead, which says only whether the
    /// call has failed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::io;
    /// use tower_breaker::classify::{DescribeErrors, with_causes};
    /// use tower_breaker::{ErrorsAsFailures, Store};
    ///
    /// # async fn fetch() -> Result<(), io::Error> { Err(io::Error::other("no route to host")) }
    /// let prices = Store::in_memory().circuit("prices");
    /// // Only because the text of these errors holds no secret.
    /// let classifier = DescribeErrors::new(ErrorsAsFailures, |error: &io::Error| with_causes(error));
    /// prices.execute_classified(&classifier, fetch).await.unwrap_err();
    /// assert_eq!(prices.snapshot().last_error.as_deref(), Some("no route to host"));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as with [`execute`](Self::execute). Cancellation and panics are the same too.
    pub async fn execute_classified<C, F, Fut, T, E>(
        &self,
        classifier: &C,
        call: F,
    ) -> Result<T, Error<E>>
    where
        C: Classify<T, E>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let (guard, call) = self.admit().await?.guard(call);
        let mut attempt = pin!(Attempt::new(call, guard));
        let classify = |result: &Result<T, E>| classifier.classify(result.as_ref());
        let ended = poll_fn(|cx| attempt.as_mut().poll_end(cx, classify)).await;
        let (mut guard, outcome, result) = ended;
        if let Outcome::Failure { .. } = outcome {
            guard.failed_as(classifier.failure_kind(result.as_ref()));
            guard.described_as(|| classifier.describe(result.as_ref()));
        }
        guard.settle(outcome);
        result.map_err(Error::Inner)
    }
}
