//! Who may write, and who decides it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;

/// The operator of a request: the actor of the overrides that it sets.
///
/// The authoriser of [`AdminService::authorise`](super::AdminService::authorise) returns it. The
/// name never comes from the body of a request, so an operator cannot act under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator(String);

impl Operator {
    /// Returns an operator with this name. Overrides keep the first 512 bytes of it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The refusal of an authoriser. The response is a 403 with its text.
///
/// The default text is `this request may change nothing`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(String);

impl Denied {
    /// Returns a refusal with a text, which the client receives. So it must not contain a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Default for Denied {
    fn default() -> Self {
        Self::new("this request may change nothing")
    }
}

type Verdict = Pin<Box<dyn Future<Output = Result<Operator, Denied>> + Send>>;

/// Decides who may write.
#[derive(Clone)]
pub(super) struct Authoriser(Arc<dyn Fn(&Parts) -> Verdict + Send + Sync>);

impl Authoriser {
    pub(super) fn new<F, V>(decide: F) -> Self
    where
        F: Fn(&Parts) -> V + Send + Sync + 'static,
        V: Future<Output = Result<Operator, Denied>> + Send + 'static,
    {
        Self(Arc::new(move |parts| Box::pin(decide(parts))))
    }

    pub(super) fn ask(&self, parts: &Parts) -> Verdict {
        (self.0)(parts)
    }
}

impl fmt::Debug for Authoriser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authoriser").finish_non_exhaustive()
    }
}
