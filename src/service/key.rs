//! Which circuit a request belongs to: the first of the three choices that make a circuit breaker.
//!
//! [`keyed_by`](crate::CircuitBreakerLayer::keyed_by) takes a [`Key`]. Keys may come from untrusted
//! clients. So the store [bounds](crate::StoreBuilder::key_limit) the circuits of keys, forgets
//! those that are [idle](crate::StoreBuilder::key_idle), and escapes their names.

use std::borrow::Cow;
use std::fmt;

use ::http::{HeaderName, Request, header};

use crate::name::{CircuitName, KeyedName};

/// Takes the key from a request. [`Authority`], [`Extension`] and [`Header`] implement it; closures
/// are passed to [`keyed_by_fn`](crate::CircuitBreakerLayer::keyed_by_fn).
///
/// It runs at every call: keep it fast, and borrow from the request if you can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no key from `{Request}`",
    note = "`Authority`, `Header` and `Extension` are for `http::Request`",
    note = "reqwest: `.keyed_by_fn(|r: &reqwest::Request| r.url().host_str().map(Into::into))`",
    note = "otherwise: `.keyed_by_fn(|request: &MyRequest| Some(request.tenant.as_str().into()))`"
)]
pub trait Key<Request> {
    /// Returns the key; `None` if the request has no usable key. An empty key counts as none.
    fn key<'a>(&self, request: &'a Request) -> Option<Cow<'a, str>>;
}

/// Takes the host and port that a request goes to: for clients of more than one upstream.
///
/// They come from the URI; if that has no host, as at a server, from the `Host` header. The key is
/// in lower case. It has no port if that is the default of the scheme, and never the user or
/// password of the URI.
///
/// So `http://example.com` and `https://example.com` are one key and share a circuit. To keep them
/// apart, take the key from scheme and host with a
/// [closure](crate::CircuitBreakerLayer::keyed_by_fn).
///
/// ```
/// use http::Request;
/// use tower_breaker::service::key::{Authority, Key};
///
/// let request = Request::get("https://me:secret@API.example.com:443/users").body(()).unwrap();
/// assert_eq!(Authority.key(&request).unwrap(), "api.example.com");
/// let request = Request::get("http://10.0.0.7:8080/").body(()).unwrap();
/// assert_eq!(Authority.key(&request).unwrap(), "10.0.0.7:8080");
/// let request = Request::get("/users").header("host", "example.com").body(()).unwrap();
/// assert_eq!(Authority.key(&request).unwrap(), "example.com");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Authority;

impl<B> Key<Request<B>> for Authority {
    fn key<'a>(&self, request: &'a Request<B>) -> Option<Cow<'a, str>> {
        let uri = request.uri();
        let authority = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => request.headers().get(header::HOST)?.to_str().ok()?,
        };
        let (_, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        let port = match uri.scheme_str() {
            Some("http") => ":80",
            Some("https") => ":443",
            _ => "",
        };
        let authority = authority.strip_suffix(port).unwrap_or(authority);
        Some(if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            authority.to_ascii_lowercase().into()
        } else {
            authority.into()
        })
    }
}

/// Takes the value of a header as the key: the name of a tenant, for example. A value that is not
/// visible ASCII is no key.
///
/// ```
/// use http::{HeaderName, Request};
/// use tower_breaker::service::key::{Header, Key};
///
/// let tenant = Header(HeaderName::from_static("x-tenant"));
/// let request = Request::get("/").header("x-tenant", "acme").body(()).unwrap();
/// assert_eq!(tenant.key(&request).unwrap(), "acme");
/// assert!(tenant.key(&Request::new(())).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Header(pub HeaderName);

impl<B> Key<Request<B>> for Header {
    fn key<'a>(&self, request: &'a Request<B>) -> Option<Cow<'a, str>> {
        request.headers().get(&self.0)?.to_str().ok().map(Cow::from)
    }
}

/// Takes the key from a request extension, which a layer further out has inserted.
///
/// With axum's `MatchedPath` the key is the route as it was written, `/users/{id}`, and not the
/// path, of which each user has one.
///
/// ```
/// use axum::{Router, extract::MatchedPath, routing::get};
/// use tower_breaker::service::key::Extension;
/// use tower_breaker::{CircuitBreakerLayer, Store};
///
/// let breaker = CircuitBreakerLayer::new(Store::in_memory())
///     .named("routes")
///     .respond()
///     .keyed_by(Extension::by(MatchedPath::as_str));
/// let app: Router = Router::new().route("/users/{id}", get(async || "a user")).layer(breaker);
/// # let _ = app;
/// ```
pub struct Extension<T> {
    text: fn(&T) -> &str,
}

impl<T> Extension<T> {
    /// Returns an `Extension` that takes the extension of type `T` and converts it with `text`.
    #[must_use]
    pub const fn by(text: fn(&T) -> &str) -> Self {
        Self { text }
    }
}

impl<B, T: Send + Sync + 'static> Key<Request<B>> for Extension<T> {
    fn key<'a>(&self, request: &'a Request<B>) -> Option<Cow<'a, str>> {
        request.extensions().get().map(|extension| (self.text)(extension).into())
    }
}

impl<T> Clone for Extension<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Extension<T> {}

impl<T> fmt::Debug for Extension<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extension").field(&std::any::type_name::<T>()).finish()
    }
}

/// Takes the key with a closure: see
/// [`keyed_by_fn`](crate::CircuitBreakerLayer::keyed_by_fn).
#[derive(Clone, Copy)]
pub struct KeyFn<F>(pub(super) F);

impl<F, R> Key<R> for KeyFn<F>
where
    F: Fn(&R) -> Option<Cow<'_, str>>,
{
    fn key<'a>(&self, request: &'a R) -> Option<Cow<'a, str>> {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyFn").field(&std::any::type_name::<F>()).finish()
    }
}

/// What happens to a request without a usable key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keyless {
    /// The call is made, and no circuit counts it.
    #[default]
    Pass,
    /// The call is rejected, as by a forced-open circuit with the layer's name. The rejection has
    /// no retry delay.
    Reject,
}

/// Every request belongs to the circuit that the layer names: the choice of a plain layer.
#[derive(Clone, Copy, Debug)]
pub struct OneCircuit;

/// Each key of the requests has a circuit: the choice of
/// [`keyed_by`](crate::CircuitBreakerLayer::keyed_by).
#[derive(Clone, Copy, Debug)]
pub struct ByKey<K> {
    pub(super) key: K,
    pub(super) keyless: Keyless,
}

/// Says which circuit a request belongs to: [`OneCircuit`] and [`ByKey`].
pub trait WhichCircuit: sealed::Sealed {
    /// The longest name of a layer, in bytes. With keys it is shorter, because the key follows it.
    const LONGEST_NAME: usize;
}

impl WhichCircuit for OneCircuit {
    const LONGEST_NAME: usize = CircuitName::MAX_BYTES;
}

impl<K> WhichCircuit for ByKey<K> {
    const LONGEST_NAME: usize = KeyedName::MOST_PREFIX;
}

impl sealed::Sealed for OneCircuit {}
impl<K> sealed::Sealed for ByKey<K> {}

mod sealed {
    /// Only this crate says which circuits there can be.
    pub trait Sealed {}
}
