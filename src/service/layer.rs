//! The layer: how a circuit breaker is put around a service.

use std::fmt;
use std::panic::Location;

use ::http::Response;
use tower_layer::Layer;

use super::fallback::Fallback;
use super::respond::{DefaultBody, Respond};
use super::service::CircuitBreaker;
use super::wait::WaitWhileOpen;
use crate::circuit::Rejected;
use crate::classify::{ClassifyFn, HttpStatus};
use crate::name::CircuitName;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::store::{Sharing, Store};

/// Puts a [`CircuitBreaker`] around a service.
///
/// ```
/// use tower_breaker::{CircuitBreakerLayer, Policy, Store};
///
/// let store = Store::in_memory();
/// let layer = CircuitBreakerLayer::new(store.clone())
///     .named("payments")
///     .policy(Policy::http_api());
/// # let _ = layer;
/// ```
///
/// The layer holds no state: layers of one name in one store share a circuit, and so do all
/// services they make and all clones of those. It may be applied, cloned and dropped as a framework
/// likes.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct CircuitBreakerLayer<C = HttpStatus, M = Reject> {
    pub(super) store: Store,
    pub(super) name: CircuitName,
    /// A place in the code is no name that replicas of different versions would share.
    pub(super) sharing: Sharing,
    pub(super) policy: Option<Policy>,
    pub(super) classifier: C,
    pub(super) mode: M,
}

/// An open circuit is an error: the mode of a layer unless
/// [`respond`](CircuitBreakerLayer::respond) chose another.
#[derive(Clone, Copy, Debug)]
pub struct Reject {
    /// From the response future, not from `poll_ready`.
    pub(super) in_call: bool,
}

impl CircuitBreakerLayer {
    /// A layer over the circuits of `store`, for services of `http::Response`: errors, 5xx,
    /// 429 and 408 are failures, as [`HttpStatus`] has it. For other responses choose a
    /// [classifier](Self::classify).
    ///
    /// Unless it is [named](Self::named), its circuit is named after the place in the code that
    /// calls this, and belongs to this process alone, whatever backend the store has.
    #[track_caller]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            name: place(Location::caller()),
            sharing: Sharing::Process,
            policy: None,
            classifier: HttpStatus,
            mode: Reject { in_call: false },
        }
    }
}

impl<C> CircuitBreakerLayer<C, Reject> {
    /// An open circuit shows as an error of the response future; `poll_ready` says that the service
    /// is ready to reject.
    ///
    /// For stacks in which an error from `poll_ready` would end the service for good, or fail more than
    /// the one call: under `Buffer`, `Retry`, `Steer`. Not for tonic's clients, which make `Unknown` of
    /// an error that they do not know: let these [respond](Self::respond).
    ///
    /// A service that was readied while the circuit was open rejects its next call, however late that
    /// comes, with the state and the wait of then: the inner service was not readied, and cannot be
    /// called. It shows where readiness is got ahead of calls, as in `Steer`: there the first call to a
    /// route that has recovered is still rejected.
    pub fn reject_in_call(mut self) -> Self {
        self.mode.in_call = true;
        self
    }

    /// An open circuit shows as a response with an empty body: 503 with `Retry-After`, and to a
    /// gRPC request a reply with the status `UNAVAILABLE` and `grpc-retry-pushback-ms`. The error
    /// type of the service stays what it was.
    ///
    /// `Retry-After` is [`Rejected::retry_after_seconds`]. The response bears the
    /// [`Rejected`] as an extension, by which other circuit breakers know not to count it.
    ///
    /// For servers that have to answer, and for tonic's clients, which make the code `Unavailable` of it.
    /// Where something between, a retry say, needs to see the rejection as an error, put a
    /// [`RespondToRejectedLayer`](super::RespondToRejectedLayer) further out instead.
    ///
    /// In axum prefer `route_layer` to `layer`: `layer` is around what axum itself answers too (404,
    /// 405), which then counts as the upstream's success.
    pub fn respond(self) -> CircuitBreakerLayer<C, Respond<DefaultBody>> {
        self.with_mode(Respond(DefaultBody))
    }

    /// Like [`respond`](Self::respond), for bodies without a `Default`, and for responses that
    /// should say more: `body` gets the response as it would be, without a body, and may change
    /// what it likes.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .respond_with(|open, response| response.map(|()| format!("try later: {open}")));
    /// # let _ = layer;
    /// ```
    pub fn respond_with<F, B>(self, body: F) -> CircuitBreakerLayer<C, Respond<F>>
    where
        F: Fn(&Rejected, Response<()>) -> Response<B>,
    {
        self.with_mode(Respond(body))
    }

    /// While the circuit is open, `poll_ready` is pending. It is woken when the open interval ends, when a
    /// probe's place comes back or its lease is over, and by every change by hand or of the cluster.
    ///
    /// For `tower::balance`, which drops an endpoint whose readiness is an error, and sends elsewhere
    /// what one that is pending does not take: an open endpoint is passed over, and gets traffic again
    /// when it is well.
    ///
    /// Where nobody else takes the calls they queue up here, for the whole open interval, and behind a
    /// forced-open circuit until a hand ends it: under a `Buffer` or with a single endpoint use
    /// [`reject_in_call`](Self::reject_in_call). A call that is made although the circuit opened after
    /// it was ready is rejected by its future.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory()).named("replica 7").wait_while_open();
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// `poll_ready` does, while the circuit is open, outside of a tokio runtime with time enabled.
    pub fn wait_while_open(self) -> CircuitBreakerLayer<C, WaitWhileOpen> {
        self.with_mode(WaitWhileOpen)
    }

    /// While the circuit is open, `service` answers: from a cache, or with a default. Its error type is
    /// the inner service's, and that of this one.
    ///
    /// The response bears the [`Rejected`] as an extension: so one knows that it is no reply of the
    /// upstream's, and so do other circuit breakers, which do not count it. What the fallback does is
    /// not told to the circuit. A call that was made and failed comes back with its own failure: only a
    /// rejection is replaced.
    ///
    /// A clone of `service` is readied and called for each rejected call, so that the circuit breaker
    /// is ready although the fallback may not be. [`keyed_by`](Self::keyed_by) may follow: then it answers
    /// for each key whose circuit is open.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::convert::Infallible> {
    /// use std::convert::Infallible;
    /// use http::{Request, Response};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_breaker::{CircuitBreakerLayer, Rejected, Store};
    ///
    /// let prices = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new("12.50")) });
    /// let yesterdays = service_fn(|_: Request<()>| async { Ok(Response::new("12.00")) });
    /// let layer = CircuitBreakerLayer::new(Store::in_memory()).named("prices").fallback(yesterdays);
    /// let prices = layer.layer(prices);
    ///
    /// prices.circuit().force_open("an example");
    /// let response = prices.oneshot(Request::new(())).await?;
    /// assert_eq!(*response.body(), "12.00");
    /// assert!(response.extensions().get::<Rejected>().is_some());
    /// # Ok(()) }
    /// ```
    pub fn fallback<F>(self, service: F) -> CircuitBreakerLayer<C, Fallback<F>> {
        self.with_mode(Fallback(service))
    }

    fn with_mode<M>(self, mode: M) -> CircuitBreakerLayer<C, M> {
        let Self { store, name, sharing, policy, classifier, .. } = self;
        CircuitBreakerLayer { store, name, sharing, policy, classifier, mode }
    }
}

impl<C, M> CircuitBreakerLayer<C, M> {
    /// Names the circuit. Layers of one name in one store share it.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than 128 bytes. For names from outside use [`CircuitName::new`].
    #[track_caller]
    pub fn named<N>(mut self, name: N) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.name = CircuitName::expect(name);
        self.sharing = Sharing::Cluster;
        self
    }

    /// Gives the circuit a policy of its own. Default: the store's.
    ///
    /// Where two policies are given for one name, the first one holds, and a different second one
    /// is told as a warning; but not of the circuits of [keys](Self::keyed_by), where that would be asked
    /// at each call: give every layer with keys of one name the same policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Says what counts as a failure. Default: [`HttpStatus`], for `http::Response`.
    ///
    /// Without it a service of other responses does not compile:
    ///
    /// ```compile_fail,E0277
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let service = service_fn(|_: ()| async { Ok::<_, std::io::Error>("not HTTP") });
    /// let service = CircuitBreakerLayer::new(Store::in_memory()).layer(service);
    /// fn needs_service<S: tower::Service<()>>(_: S) {}
    /// needs_service(service); // with `.classify(ErrorsAsFailures)` above, it does
    /// ```
    ///
    /// Called as a method (`service.oneshot(..)`), the same mistake shows as the plain error E0599,
    /// "the method exists but its trait bounds were not satisfied".
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<D, M> {
        let Self { store, name, sharing, policy, mode, .. } = self;
        CircuitBreakerLayer { store, name, sharing, policy, classifier, mode }
    }

    /// Says with a closure what counts as a failure.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Outcome, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory()).classify_fn(
    ///     |result: Result<&String, &std::io::Error>| match result {
    ///         Ok(_) => Outcome::Success,
    ///         Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::Success,
    ///         Err(_) => Outcome::failure(),
    ///     },
    /// );
    /// # let _ = layer;
    /// ```
    pub fn classify_fn<F, Response, Error>(self, f: F) -> CircuitBreakerLayer<ClassifyFn<F>, M>
    where
        F: Fn(Result<&Response, &Error>) -> Outcome,
    {
        self.classify(ClassifyFn(f))
    }
}

impl<S, C: Clone, M: Clone> Layer<S> for CircuitBreakerLayer<C, M> {
    type Service = CircuitBreaker<S, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        let circuit = self.store.resolve(self.name.clone(), self.policy.clone(), self.sharing);
        CircuitBreaker::new(inner, circuit, self.classifier.clone(), self.mode.clone())
    }
}

/// The name of a place in the code; of a long one the end, which tells more.
fn place(location: &Location<'_>) -> CircuitName {
    CircuitName::expect(last(&location.to_string(), CircuitName::MAX_BYTES).to_owned())
}

/// The last bytes of a text, as far as it can be cut there.
pub(super) fn last(text: &str, most: usize) -> &str {
    let surplus = text.len().saturating_sub(most);
    let start = (surplus..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    &text[start..]
}
