//! The layer's methods that choose: how a rejection shows, when a call ends, which circuit.

use std::borrow::Cow;
use std::marker::PhantomData;

use ::http::Response;

use super::key::{ByKey, KeyFn, Keyless, WhichCircuit};
use super::layer::CircuitBreakerLayer;
use super::on_rejected::{DefaultBody, Fallback, InCall, Reject, Respond, Waiting, WithKeys};
use super::until::{UntilBody, UntilHead};
use crate::circuit::Rejected;

/// # How a rejection shows
///
/// Without one of these methods, a rejection is an error from `poll_ready`. The
/// [module](super#which-mode-under-which-layer) lists which method to use under which of tower's
/// layers.
impl<C, U, K> CircuitBreakerLayer<C, Reject, U, K> {
    /// Shows a rejection as an error of the response future. While the circuit is open,
    /// `poll_ready` is ready, and the call is rejected.
    ///
    /// Use it under `Buffer`, `Retry` and `Steer`, where an error from `poll_ready` would end the
    /// service for good, or fail more than one call. Do not use it for tonic's clients, which turn
    /// an error that they do not know into the code `Unknown`: let these [respond](Self::respond).
    ///
    /// A service that became ready while the circuit was open rejects its next call, even if the
    /// circuit has recovered meanwhile: the inner service is not ready. This matters where services
    /// are readied long before they are called, as in `Steer`: the first call to a route that has
    /// recovered is still rejected.
    pub fn reject_in_call(self) -> CircuitBreakerLayer<C, Reject<InCall>, U, K> {
        self.on_rejected(Reject::new())
    }

    /// Shows a rejection as a response with an empty body: 503 with `Retry-After`; to a gRPC
    /// request a reply with the status `UNAVAILABLE` and `grpc-retry-pushback-ms`. The error type
    /// of the service is that of the inner service.
    ///
    /// Use it for servers, which must answer, and for tonic's clients, which turn the reply into
    /// the code `Unavailable`; [`grpc::rejected_by`](super::grpc::rejected_by) distinguishes it
    /// from a reply of the server. If a layer outside, a retry for example, needs to see the
    /// rejection as an error, put a [`RespondToRejectedLayer`](super::RespondToRejectedLayer)
    /// further out instead.
    ///
    /// `Retry-After` is [`Rejected::retry_after_seconds`]. The response has the [`Rejected`] as an
    /// extension, so that other circuit breakers do not count it.
    ///
    /// In axum prefer `route_layer` to `layer`: `layer` also wraps what axum itself answers (404,
    /// 405), which would count as a success of the upstream.
    pub fn respond(self) -> CircuitBreakerLayer<C, Respond<DefaultBody>, U, K> {
        self.on_rejected(Respond(DefaultBody))
    }

    /// Shows a rejection as a response, like [`respond`](Self::respond), with a body of your own.
    /// For bodies without a `Default`, and for responses that say more.
    ///
    /// `body` gets the response of `respond`, without a body, and may change it.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .respond_with(|rejected, response| response.map(|()| format!("try later: {rejected}")));
    /// # let _ = layer;
    /// ```
    pub fn respond_with<F, B>(self, body: F) -> CircuitBreakerLayer<C, Respond<F>, U, K>
    where
        F: Fn(&Rejected, Response<()>) -> Response<B>,
    {
        self.on_rejected(Respond(body))
    }

    /// Lets `service` answer rejected calls: from a cache, or with a default. It must have the
    /// response and error types of the inner service. Its errors are returned to the caller.
    ///
    /// A call that was made and failed keeps its failure: only a rejection is replaced. The circuit
    /// does not count what the fallback does. The response has the [`Rejected`] as an extension,
    /// which distinguishes it from a reply of the upstream; other circuit breakers do not count it.
    ///
    /// Each rejected call readies and calls a clone of `service`. So the circuit breaker can be
    /// ready while the fallback is not; the call then waits for the fallback.
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
    pub fn fallback<F>(self, service: F) -> CircuitBreakerLayer<C, Fallback<F>, U, K> {
        self.on_rejected(Fallback(service))
    }

    fn on_rejected<M>(self, on_rejected: M) -> CircuitBreakerLayer<C, M, U, K> {
        let Self { circuit, classifier, until, which, .. } = self;
        CircuitBreakerLayer { circuit, classifier, on_rejected, until, which }
    }
}

impl<C, U> CircuitBreakerLayer<C, Reject, U> {
    /// Keeps `poll_ready` pending while the circuit is open. It wakes when the open interval ends,
    /// when a probe slot becomes free, when an override is set or ends, and when the cluster
    /// changes the circuit.
    ///
    /// Use it under `tower::balance`. A balancer drops an endpoint whose `poll_ready` fails, but
    /// only skips one that is pending. So it skips an endpoint whose circuit is open, and uses it
    /// again when it has recovered.
    ///
    /// If nothing else takes the calls, they queue here for the whole open interval, or until an
    /// operator resets a forced-open circuit. So under a `Buffer`, or with a single endpoint, use
    /// [`reject_in_call`](Self::reject_in_call). If the circuit opens between readiness and the
    /// call, the response future fails.
    ///
    /// It cannot be combined with [`keyed_by`](Self::keyed_by): without a request there is no
    /// circuit to wait for.
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
    /// `poll_ready` panics if the circuit is open and there is no tokio runtime with time enabled.
    pub fn wait_while_open(self) -> CircuitBreakerLayer<C, Reject<Waiting>, U> {
        self.on_rejected(Reject::new())
    }
}

/// # When a call ends
impl<C, M, K> CircuitBreakerLayer<C, M, UntilHead, K> {
    /// Judges a call when its response body ends, not when its head arrives.
    ///
    /// Use it for gRPC, whose status comes in the trailers, after the messages: without this method
    /// such a failure counts as a success. Use it also for long downloads, which can break long
    /// after a head of 200.
    ///
    /// | the head is good, and the body | counts as |
    /// | --- | --- |
    /// | ends | success |
    /// | ends with a gRPC status in its trailers | as that status in headers: see [`HttpStatus`](crate::HttpStatus) |
    /// | is gRPC, and ends without a status | failure |
    /// | breaks | failure |
    /// | is dropped before its end | cancelled, as the policy [says](crate::policy::PolicyBuilder::cancelled); its probe slot is free again |
    ///
    /// If the classifier does not call the head a success, the call ends with the head. If the head
    /// has a gRPC status that is a failure, the call fails at once, whatever the classifier says.
    ///
    /// An upstream that hangs in the middle of a body counts as a failure when the caller gives up:
    /// if the policy has a `slow_call_duration`, as most presets do, a body that is dropped after
    /// longer than that is a failure. This is wrong for streams that readers close while the
    /// upstream works, such as a watch: give their layer a policy with
    /// [`Cancelled::Ignored`](crate::policy::Cancelled::Ignored), and put something *inside* the
    /// circuit breaker that turns a hang into an error, such as a read timeout. If readers never
    /// read a body to its end, no call is ever a success: do not use `observe_body` there.
    ///
    /// The response body becomes an [`ObservedBody`](super::ObservedBody), and the call lasts as
    /// long as it. So a probe needs a [lease](crate::policy::PolicyBuilder::probe_lease) that is
    /// long enough for a whole body, and a stream that is open for long is a slow call, if the
    /// policy counts those. A body that is kept and not read keeps its probe slot until the lease
    /// ends.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// // Around a tonic client's channel, or as a layer of a tonic server.
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .named("orders")
    ///     .respond()
    ///     .observe_body();
    /// # let _ = layer;
    /// ```
    pub fn observe_body(self) -> CircuitBreakerLayer<C, M, UntilBody, K> {
        let Self { circuit, classifier, on_rejected, which, .. } = self;
        CircuitBreakerLayer { circuit, classifier, on_rejected, until: PhantomData, which }
    }
}

/// # One circuit for each key
impl<C, M, U> CircuitBreakerLayer<C, M, U> {
    /// Uses one circuit for each key of the requests: for each host that a client calls, each
    /// route, each tenant. With one circuit for all hosts, one that is down would stop the calls of
    /// all.
    ///
    /// ```
    /// use tower_breaker::service::key::Authority;
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let store = Store::in_memory();
    /// let layer = CircuitBreakerLayer::new(store.clone()).named("outbound").keyed_by(Authority);
    ///
    /// // The circuit of one host, to look at it or to override it:
    /// let host = store.circuit("outbound:api.example.com");
    /// # let _ = (layer, host);
    /// ```
    ///
    /// The circuit of a key is called `name:key`. Characters of the key other than letters, digits
    /// and `-._:/@[]{}*+,=!$()` are escaped as in URLs. If the whole is longer than 128 bytes, it
    /// ends in `~` and a hash of the key, which keeps two keys apart unless a client has forged
    /// one. All keys have the layer's policy and classifier; a policy that the store has for the
    /// name of a circuit comes first. If the store has a backend, replicas share each circuit.
    ///
    /// A rejection shows in the response future, even without
    /// [`reject_in_call`](Self::reject_in_call): the key is known only when there is a request. So
    /// `poll_ready` readies the inner service whatever its circuits say. A call that waits for the
    /// cluster clones the inner service.
    ///
    /// The store bounds the number of these circuits, evicts some at the bound, and forgets idle ones:
    /// see [`key_limit`](crate::StoreBuilder::key_limit) and
    /// [`key_idle`](crate::StoreBuilder::key_idle), which say what a client that chooses keys can do.
    ///
    /// # Cost
    ///
    /// A circuit of a key takes about 2 KiB with the default policy, and about 6 KiB if the store
    /// has a backend. A call costs more than through a plain layer: it looks up its circuit, and
    /// all threads share the circuit's counters.
    ///
    /// # Panics
    ///
    /// Panics if the name of the layer is longer than 64 bytes, which would leave too little room
    /// for keys.
    #[track_caller]
    pub fn keyed_by<K>(self, key: K) -> CircuitBreakerLayer<C, M, U, ByKey<K>>
    where
        M: WithKeys,
    {
        let Self { mut circuit, classifier, on_rejected, until, .. } = self;
        let which = ByKey { key, keyless: Keyless::default() };
        circuit.fit(ByKey::<K>::LONGEST_NAME);
        CircuitBreakerLayer { circuit, classifier, on_rejected, until, which }
    }

    /// Uses one circuit for each key, like [`keyed_by`](Self::keyed_by), with a closure that takes
    /// the key from the request.
    ///
    /// Write the closure inside the parentheses, as here. If you bind it to a variable first, the
    /// compiler does not infer that its key borrows from the request.
    ///
    /// A key becomes part of a circuit's name, which is logged and, with a backend, sent to Redis.
    /// So it must hold no secret. The authority of a URL may carry `user:password@`, which
    /// [`Authority`](super::key::Authority) strips.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
    ///
    /// struct Query { shard: u32 }
    ///
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .named("shards")
    ///     .classify(ErrorsAsFailures)
    ///     .keyed_by_fn(|query: &Query| Some(query.shard.to_string().into()));
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// As [`keyed_by`](Self::keyed_by).
    #[track_caller]
    pub fn keyed_by_fn<F, R>(self, key: F) -> CircuitBreakerLayer<C, M, U, ByKey<KeyFn<F>>>
    where
        M: WithKeys,
        F: Fn(&R) -> Option<Cow<'_, str>>,
    {
        self.keyed_by(KeyFn(key))
    }
}

impl<C, M, U, K> CircuitBreakerLayer<C, M, U, ByKey<K>> {
    /// Sets what happens to a request without a usable key. Default: [`Keyless::Pass`]. In both
    /// cases the store logs a warning, at most one a minute.
    pub fn keyless(mut self, keyless: Keyless) -> Self {
        self.which.keyless = keyless;
        self
    }
}
