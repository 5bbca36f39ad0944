//! What a failure was, as text.

use std::error::Error as StdError;
use std::fmt::{self, Write};

use super::classifier::Classify;
use crate::outcome::{FailureKind, Outcome};

/// A chain of causes may be endless.
const MOST_CAUSES: usize = 16;

/// The most bytes of a text.
const MOST: usize = 256;

/// A classifier that also describes errors, made by
/// [`CircuitBreakerLayer::describe_errors`](crate::CircuitBreakerLayer::describe_errors).
#[derive(Clone, Copy)]
pub struct DescribeErrors<C, F> {
    classifier: C,
    describe: F,
}

impl<C, F> DescribeErrors<C, F> {
    /// Returns a classifier that judges as `classifier` does, and describes an error with
    /// `describe`. For [`execute_classified`](crate::Circuit::execute_classified); a layer has a
    /// [method](crate::CircuitBreakerLayer::describe_errors) for it.
    pub const fn new(classifier: C, describe: F) -> Self {
        Self { classifier, describe }
    }
}

impl<Response, E, C, F> Classify<Response, E> for DescribeErrors<C, F>
where
    C: Classify<Response, E>,
    F: Fn(&E) -> String,
{
    #[inline]
    fn classify(&self, result: Result<&Response, &E>) -> Outcome {
        self.classifier.classify(result)
    }

    #[inline]
    fn failure_kind(&self, result: Result<&Response, &E>) -> FailureKind {
        self.classifier.failure_kind(result)
    }

    fn describe(&self, result: Result<&Response, &E>) -> Option<String> {
        match result {
            Ok(_) => self.classifier.describe(result),
            Err(error) => Some((self.describe)(error)),
        }
    }
}

impl<C: fmt::Debug, F> fmt::Debug for DescribeErrors<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeErrors")
            .field("classifier", &self.classifier)
            .finish_non_exhaustive()
    }
}

/// Returns an error with its causes, with colons between them: `connection failed: timed out`. For
/// [`describe_errors`](crate::CircuitBreakerLayer::describe_errors).
///
/// A cause whose text the one before it ends with is left out: many errors already contain their
/// cause. The text is cut after 256 bytes, and the chain after 16 causes.
///
/// ```
/// use std::io;
/// use tower_breaker::classify::with_causes;
///
/// let error = io::Error::new(io::ErrorKind::Other, "no route to host");
/// assert_eq!(with_causes(&error), "no route to host");
/// ```
#[must_use]
pub fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = Cut(String::new());
    let causes = std::iter::successors(Some(error), |&error| error.source());
    for (n, cause) in causes.take(MOST_CAUSES).enumerate() {
        let mut one = Cut(String::new());
        // An error: it is full.
        let cut = write!(one, "{cause}").is_err();
        let is_known = n > 0 && text.0.ends_with(&one.0);
        if !is_known && write!(text, "{}{}", if n > 0 { ": " } else { "" }, one.0).is_err() || cut {
            break;
        }
    }
    text.0
}

/// A text of at most so many bytes. What follows is not even made.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST - self.0.len();
        let end = (0..=room.min(text.len())).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Link {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|link| link as _)
        }
    }

    /// An error that is its own cause.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("é")?;
            }
        }
    }

    impl StdError for Endless {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&Endless)
        }
    }

    #[test]
    fn an_error_is_written_with_its_causes_but_none_twice() {
        let root = Link("refused", None);
        let error = Link("connect: refused", Some(Box::new(root)));
        let error = Link("request failed", Some(Box::new(error)));
        assert_eq!(with_causes(&error), "request failed: connect: refused");
    }

    #[test]
    fn an_endless_error_is_cut_between_two_characters() {
        assert_eq!(with_causes(&Endless), "é".repeat(MOST / 2));
    }
}
