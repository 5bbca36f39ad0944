//! The trait of classifiers, and the two that do not look at the response.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use tokio::time::error::Elapsed;

use crate::circuit::{Error, Rejected};
use crate::outcome::{FailureKind, Outcome};

/// Decides what a result means for the circuit: success, failure, or nothing.
///
/// [`HttpStatus`](crate::HttpStatus), the default, is for `http::Response`. For other responses
/// choose a classifier with [`CircuitBreakerLayer::classify`](crate::CircuitBreakerLayer::classify)
/// or [`classify_fn`](crate::CircuitBreakerLayer::classify_fn). Until you do, the service does not
/// compile: a circuit breaker that counts no failures is worse than none.
///
/// Classifiers run on the path of every call. Keep them fast, and do not block.
///
/// # Rejections of other circuit breakers
///
/// Where circuit breakers are nested, a rejection by the inner one adds nothing for the outer one:
/// the inner circuit has counted its cause. The classifiers of this crate ignore such a rejection
/// where they can see it: in a response, in an [`Error`](crate::Error), and in a `BoxError`,
/// wherever [`Rejected::find_in`](crate::Rejected::find_in) finds it there.
///
/// They cannot see into other error types. There, let the inner circuit breaker
/// [respond](crate::CircuitBreakerLayer::respond), box its errors, or ignore them with
/// [`classify_fn`](crate::CircuitBreakerLayer::classify_fn).
///
/// # Writing a classifier
///
/// ```
/// use tower_breaker::{Classify, Outcome};
///
/// /// A reply of a search engine that may come back without its shards.
/// struct Reply { shards_failed: u32 }
///
/// struct Shards;
///
/// impl<E> Classify<Reply, E> for Shards {
///     fn classify(&self, result: Result<&Reply, &E>) -> Outcome {
///         match result {
///             Ok(reply) if reply.shards_failed == 0 => Outcome::Success,
///             _ => Outcome::failure(),
///         }
///     }
/// }
/// # assert_eq!(Shards.classify(Ok::<_, &()>(&Reply { shards_failed: 0 })), Outcome::Success);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell whether `{Response}` is a success",
    label = "no classifier for this response was chosen",
    note = "if every failure is an `Err`: `.classify(ErrorsAsFailures)`",
    note = "if the response has an HTTP status: `.classify(HttpStatus::of(Reply::status))`, with \
            `.with_headers(Reply::headers)` for `Retry-After`",
    note = "otherwise: `.classify_fn(|result: Result<&Reply, &MyError>| ...)`"
)]
pub trait Classify<Response, Error> {
    /// Returns what `result` means for the circuit.
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome;

    /// Returns what kind of failure `result` is, for the [totals](crate::stats::Totals). It is
    /// called only for a result that [`classify`](Self::classify) has called a failure.
    ///
    /// Default: [`FailureKind::Error`] for an `Err`, [`FailureKind::Other`] for an `Ok`.
    fn failure_kind(&self, result: Result<&Response, &Error>) -> FailureKind {
        if result.is_err() { FailureKind::Error } else { FailureKind::Other }
    }

    /// Returns what failure `result` is, as text for people, or `None` if nothing is known beyond
    /// its [kind](Self::failure_kind). If the failure opens the circuit, the text is in
    /// [`Transition::last_error`](crate::event::Transition::last_error), in logs, and in the
    /// backend, where all replicas read it.
    ///
    /// So it must contain no secret. The text of an error may contain one, for example the password
    /// in a URL: the classifiers of this crate return the status of a response, `timeout`, or the
    /// [kind](std::io::ErrorKind) of an I/O error, and never the text of an error.
    /// [`describe_errors`](crate::CircuitBreakerLayer::describe_errors) adds it.
    ///
    /// It is called only for a result that [`classify`](Self::classify) has called a failure, and
    /// not for each: about once a second, and when the failure could open the circuit. What is
    /// longer than 256 bytes is cut. If it panics, the call goes on without a text.
    ///
    /// Default: `None`.
    fn describe(&self, result: Result<&Response, &Error>) -> Option<String> {
        let _ = result;
        None
    }
}

/// Counts every `Err` as a failure and every `Ok` as a success. The rejection of another circuit
/// breaker is [ignored](Classify#rejections-of-other-circuit-breakers).
///
/// It does not compile over an error type without values, such as `Infallible`: over such a type,
/// no call could count as a failure. axum's routes are such services; their failures are responses.
/// There, keep the default classifier or use
/// [`classify_fn`](crate::CircuitBreakerLayer::classify_fn).
///
/// ```compile_fail,E0080
/// // `cargo check` does not see this error; a build does.
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
///
/// # #[tokio::main]
/// # async fn main() {
/// let never_fails = service_fn(|_: ()| async { Ok::<_, Infallible>(()) });
/// let layer = CircuitBreakerLayer::new(Store::in_memory()).classify(ErrorsAsFailures);
/// layer.layer(never_fails).oneshot(()).await;
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsAsFailures;

impl<Response, E: 'static> Classify<Response, E> for ErrorsAsFailures {
    #[inline]
    fn classify(&self, result: Result<&Response, &E>) -> Outcome {
        const {
            assert!(
                size_of::<Result<(), E>>() != 0,
                "`ErrorsAsFailures` over an error type without values: no call could ever count as \
                 a failure. Leave the default classifier in place for `http::Response`, or say \
                 with `.classify_fn(..)` which responses are failures",
            );
        }
        result.map_or_else(error_outcome, |_| Outcome::Success)
    }

    fn failure_kind(&self, result: Result<&Response, &E>) -> FailureKind {
        result.map_or_else(error_kind, |_| FailureKind::Other)
    }

    fn describe(&self, result: Result<&Response, &E>) -> Option<String> {
        result.err().and_then(error_text)
    }
}

/// Returns what an error means to the classifiers of this crate.
pub(super) fn error_outcome<E: 'static>(error: &E) -> Outcome {
    if is_rejection(error) { Outcome::Ignored } else { Outcome::failure() }
}

type BoxError = Box<dyn StdError + Send + Sync>;

/// Returns whether an error is the rejection of an inner circuit breaker, as far as its type shows
/// it.
pub(crate) fn is_rejection<E: 'static>(error: &E) -> bool {
    let error: &dyn Any = error;
    let boxed: Option<&BoxError> = match error.downcast_ref() {
        Some(Error::Rejected(_)) => return true,
        Some(Error::Inner(boxed)) => Some(boxed),
        None => error.downcast_ref(),
    };
    boxed.is_some_and(|boxed| Rejected::find_in(&**boxed).is_some())
}

/// Returns the kind of a failure that is an error, as far as its type shows it.
pub(super) fn error_kind<E: 'static>(error: &E) -> FailureKind {
    let any: &dyn Any = error;
    let timed_out = match causes(any) {
        Some(mut causes) => causes
            .any(|cause| cause.is::<Elapsed>() || cause.downcast_ref().is_some_and(is_timed_out)),
        None => any.is::<Elapsed>() || any.downcast_ref().is_some_and(is_timed_out),
    };
    if timed_out { FailureKind::Timeout } else { FailureKind::Error }
}

/// Returns what is known of an error beyond its kind, and holds no secret: the kind of an I/O error
/// that is neither a timeout nor unknown.
pub(super) fn error_text<E: 'static>(error: &E) -> Option<String> {
    let any: &dyn Any = error;
    let io = match causes(any) {
        Some(mut causes) => causes.find_map(|cause| cause.downcast_ref::<io::Error>()),
        None => any.downcast_ref::<io::Error>(),
    };
    let kind = io.map(io::Error::kind)?;
    (!matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::Other)).then(|| kind.to_string())
}

/// Returns a boxed error and its causes.
fn causes(error: &dyn Any) -> Option<impl Iterator<Item = &(dyn StdError + 'static)>> {
    let boxed = error.downcast_ref::<BoxError>()?;
    let first: &(dyn StdError + 'static) = &**boxed;
    Some(std::iter::successors(Some(first), |&error| error.source()).take(MOST_CAUSES))
}

/// A chain of causes may be endless.
const MOST_CAUSES: usize = 16;

fn is_timed_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// A closure as a classifier, made by
/// [`CircuitBreakerLayer::classify_fn`](crate::CircuitBreakerLayer::classify_fn).
#[derive(Clone, Copy)]
pub struct ClassifyFn<F>(pub(crate) F);

impl<F, Response, Error> Classify<Response, Error> for ClassifyFn<F>
where
    F: Fn(Result<&Response, &Error>) -> Outcome,
{
    #[inline]
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome {
        (self.0)(result)
    }
}

impl<F> fmt::Debug for ClassifyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClassifyFn").field(&std::any::type_name::<F>()).finish()
    }
}
