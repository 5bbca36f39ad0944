//! The layer: puts a circuit breaker around a service.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use tower_layer::Layer;

use super::key::{ByKey, OneCircuit, WhichCircuit};
use super::keyed::KeyedCircuitBreaker;
use super::on_rejected::Reject;
use super::service::CircuitBreaker;
use super::until::UntilHead;
use crate::classify::{ClassifyFn, DescribeErrors, HttpStatus};
use crate::name::CircuitName;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::store::{KeyedCircuits, Sharing, Store};

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
/// The layer has no state. Layers with the same name in the same store share a circuit, and so do
/// all services they make and all clones of those. So a framework may apply, clone and drop the
/// layer any number of times.
///
/// The methods can be called in any order. Each type parameter is one choice: `C` is the
/// [classifier](crate::Classify), `M` says [how a rejection shows](crate::service::on_rejected),
/// `U` [when a call ends](crate::service::until), and `K` which circuit a request belongs to:
/// [`OneCircuit`] or [`ByKey`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct CircuitBreakerLayer<C = HttpStatus, M = Reject, U = UntilHead, K = OneCircuit> {
    pub(super) circuit: Named,
    pub(super) classifier: C,
    pub(super) on_rejected: M,
    pub(super) until: PhantomData<U>,
    pub(super) which: K,
}

#[derive(Clone, Debug)]
pub(super) struct Named {
    store: Store,
    name: CircuitName,
    /// A place in the code is no name that replicas of different versions would share.
    sharing: Sharing,
    policy: Option<Policy>,
}

impl CircuitBreakerLayer {
    /// Returns a layer over the circuits of `store`, for services of `http::Response`: errors, 5xx,
    /// 429 and 408 are failures, as [`HttpStatus`] says. For other responses choose a
    /// [classifier](Self::classify).
    ///
    /// Unless you [name](Self::named) it, its circuit is named after the place in the code that
    /// calls this method. Such a circuit belongs to this process alone, even if the store has a
    /// backend.
    #[track_caller]
    pub fn new(store: Store) -> Self {
        let name = shortened(&Location::caller().to_string(), CircuitName::MAX_BYTES);
        Self {
            circuit: Named { store, name, sharing: Sharing::Process, policy: None },
            classifier: HttpStatus,
            on_rejected: Reject::new(),
            until: PhantomData,
            which: OneCircuit,
        }
    }
}

/// # The circuit
impl<C, M, U, K: WhichCircuit> CircuitBreakerLayer<C, M, U, K> {
    /// Names the circuit. Layers with the same name in the same store share it.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes; with [`keyed_by`](Self::keyed_by),
    /// longer than 64 bytes. For a name that comes from outside, call [`CircuitName::new`] first.
    #[track_caller]
    pub fn named<N>(mut self, name: N) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.circuit.name = CircuitName::expect(name);
        self.circuit.sharing = Sharing::Cluster;
        self.circuit.fit(K::LONGEST_NAME);
        self
    }

    /// Gives the circuit a policy of its own. Default: the store's.
    ///
    /// If two policies are given for one name, the first one applies, and the store logs a warning
    /// if the second one differs. It does not compare the policies of layers with
    /// [keys](Self::keyed_by), as it would have to at each call: give all keyed layers with one
    /// name the same policy. [`Store::set_policy`] describes which policy is in force.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.circuit.policy = Some(policy);
        self
    }
}

/// # What counts as a failure
impl<C, M, U, K> CircuitBreakerLayer<C, M, U, K> {
    /// Chooses the classifier, which says what counts as a failure. Default: [`HttpStatus`], for
    /// `http::Response`.
    ///
    /// With the default, a service of other responses does not compile:
    ///
    /// ```compile_fail,E0277
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let service = service_fn(|_: ()| async { Ok::<_, std::io::Error>("not HTTP") });
    /// let service = CircuitBreakerLayer::new(Store::in_memory()).layer(service);
    /// fn needs_service<S: tower::Service<()>>(_: S) {}
    /// needs_service(service); // with `.classify(ErrorsAsFailures)` above, it compiles
    /// ```
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<D, M, U, K> {
        let Self { circuit, on_rejected, until, which, .. } = self;
        CircuitBreakerLayer { circuit, classifier, on_rejected, until, which }
    }

    /// Chooses a closure as the classifier.
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
    pub fn classify_fn<F, Response, Error>(
        self,
        f: F,
    ) -> CircuitBreakerLayer<ClassifyFn<F>, M, U, K>
    where
        F: Fn(Result<&Response, &Error>) -> Outcome,
    {
        self.classify(ClassifyFn(f))
    }

    /// Puts the text of errors into the transitions that they cause:
    /// [`Transition::last_error`](crate::event::Transition::last_error). Call it after
    /// [`classify`](Self::classify).
    ///
    /// **The text of an error may contain secrets**, for example a URL with a password. It goes to
    /// observers, to logs, to the pages of operators, and to the backend. So it is off by default:
    /// then an error is described by its [kind](crate::classify::FailureKind), as `timeout` or
    /// `error`, or by that of an I/O error, as `connection refused`. Use this where you know the
    /// errors, or remove what is secret in `describe`.
    ///
    /// [`with_causes`](crate::classify::with_causes) writes an error with its causes. `describe`
    /// runs about once a second per failing circuit, and where a failure could open it; what is
    /// longer than 256 bytes is cut.
    ///
    /// ```
    /// use tower::BoxError;
    /// use tower_breaker::classify::with_causes;
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .describe_errors(|error: &BoxError| with_causes(&**error));
    /// # let _ = layer;
    /// ```
    pub fn describe_errors<E, F>(
        self,
        describe: F,
    ) -> CircuitBreakerLayer<DescribeErrors<C, F>, M, U, K>
    where
        F: Fn(&E) -> String,
    {
        let Self { circuit, classifier, on_rejected, until, which } = self;
        let classifier = DescribeErrors::new(classifier, describe);
        CircuitBreakerLayer { circuit, classifier, on_rejected, until, which }
    }
}

impl<S, C: Clone, M: Clone, U> Layer<S> for CircuitBreakerLayer<C, M, U> {
    type Service = CircuitBreaker<S, C, M, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Named { store, name, sharing, policy } = self.circuit.clone();
        let circuit = store.resolve(name, policy, sharing);
        CircuitBreaker::new(inner, circuit, self.classifier.clone(), self.on_rejected.clone())
    }
}

impl<S, C: Clone, M: Clone, U, K: Clone> Layer<S> for CircuitBreakerLayer<C, M, U, ByKey<K>> {
    type Service = KeyedCircuitBreaker<S, K, C, M, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Named { store, name, sharing, policy } = self.circuit.clone();
        let circuits = KeyedCircuits::new(store, name, policy, sharing);
        let (classifier, on_rejected) = (self.classifier.clone(), self.on_rejected.clone());
        KeyedCircuitBreaker::new(inner, circuits, self.which.clone(), classifier, on_rejected)
    }
}

impl Named {
    /// Shortens a name that is a place in the code. A name that was given must be short enough.
    #[track_caller]
    pub(super) fn fit(&mut self, longest: usize) {
        if self.sharing == Sharing::Process {
            self.name = shortened(self.name.as_str(), longest);
        }
        let bytes = match longest {
            CircuitName::MAX_BYTES => self.name.as_str().len(),
            _ => KeyedCircuits::prefix(&self.name, self.sharing).len(),
        };
        assert!(
            bytes <= longest,
            "the name of a layer with keys has at most {longest} bytes, this one has {bytes}"
        );
    }
}

/// The end of a text, which says more of a place in the code than its start.
fn shortened(text: &str, longest: usize) -> CircuitName {
    let surplus = text.len().saturating_sub(longest);
    let start = (surplus..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    CircuitName::expect(text[start..].to_owned())
}
