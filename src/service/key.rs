//! Keys: which circuit a request belongs to, where only the request knows.
//!
//! For [`keyed_by`](crate::CircuitBreakerLayer::keyed_by). What requests are made of comes from
//! outside, and so do keys: circuits of keys are [bounded](crate::StoreBuilder::key_limit) and
//! forgotten when [idle](crate::StoreBuilder::key_idle), and their names escaped.

use std::borrow::Cow;
use std::fmt;

use ::http::{HeaderName, Request, header};

/// Takes the key from a request. [`Authority`], [`Extension`] and [`Header`] do, and closures by
/// [`keyed_by_fn`](crate::CircuitBreakerLayer::keyed_by_fn).
///
/// This is on the path of every call: be quick, and borrow if you can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no key from `{Request}`",
    note = "`Authority`, `Header` and `Extension` are for `http::Request`",
    note = "otherwise: `.keyed_by_fn(|request: &MyRequest| Some(request.tenant.as_str().into()))`"
)]
pub trait Key<Request> {
    /// The key; `None` if the request has none that is of use. An empty one counts as none.
    fn key<'a>(&self, request: &'a Request) -> Option<Cow<'a, str>>;
}

/// The host and port that a request goes to: for clients of more than one upstream.
///
/// From the URI; where that has no host, as at a server, from the `Host` header. In lower case, without
/// the port where it is the scheme's own, and never with a user or a password that the URI may have.
///
/// So `http://example.com` and `https://example.com` are one key, and share a circuit: one host, on the
/// ports of its schemes. To keep them apart take the key with a
/// [closure](crate::CircuitBreakerLayer::keyed_by_fn), from scheme and host.
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

/// The value of a header: a tenant, say. One that is not visible ASCII is none.
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

/// Something that a layer further out has put into the request's extensions. With axum's `MatchedPath`
/// it is the route as it was written, `/users/{id}`, and not the path, of which there is one for each
/// user.
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
    /// The extension of type `T`, as text.
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

/// A closure that takes the key: see
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
