//! What goes around a mode: bodies that are observed, and a circuit for each key.

use std::borrow::Cow;

use super::body::ObserveBody;
use super::fallback::Fallback;
use super::key::KeyFn;
use super::keyed::{KeyedLayer, Keyless};
use super::layer::{CircuitBreakerLayer, Reject, last};
use super::respond::Respond;
use crate::name::{CircuitName, KeyedName};
use crate::store::{KeyedCircuits, Sharing};

/// # Around a mode
impl<C, M> CircuitBreakerLayer<C, M> {
    /// A call ends when the body of its response has ended, and not with the head. After
    /// [`respond`](Self::respond) or [`reject_in_call`](Self::reject_in_call), if either, and before
    /// [`keyed_by`](Self::keyed_by). With the other modes it does not go.
    ///
    /// For gRPC, whose status comes in the trailers, after the messages: without this such a failure is
    /// taken for a success. And for long downloads, which can break when the head has long been 200.
    ///
    /// | the head is good, and the body | counts as |
    /// | --- | --- |
    /// | ends | success |
    /// | ends with a gRPC status in its trailers | as that status in headers: see [`HttpStatus`](crate::HttpStatus) |
    /// | is gRPC, and ends without one | failure |
    /// | breaks | failure |
    /// | is dropped before its end | cancelled, as the policy [says](crate::policy::PolicyBuilder::cancelled); a probe's place is free again |
    ///
    /// A head that the classifier does not take for a success is counted at once, by that alone; and so
    /// is a gRPC status in the head that is a failure, whatever the classifier says.
    ///
    /// So an upstream that hangs in the middle of a body is seen, if callers give up: where the policy
    /// has a `slow_call_duration`, as most presets do, a body that was dropped after longer than that is
    /// a failure. For streams that their readers close while all is well, as a watch, that is wrong: give
    /// their layer a policy with [`Cancelled::Ignored`](crate::policy::Cancelled::Ignored), and let something
    /// *inside* of the circuit breaker make an error of what hangs, a read timeout say. Where no body is
    /// ever read to its end nothing is ever a success: judge heads alone there.
    ///
    /// The response's body becomes an [`ObservedBody`](super::ObservedBody). The call lasts as long: a
    /// probe needs a [lease](crate::policy::PolicyBuilder::probe_lease) that is long enough for a whole body,
    /// and a stream that is meant to be open for long is a slow call, where those are counted. Whoever
    /// keeps a body and does not read it keeps the probe's place, until the lease is over.
    ///
    /// ```
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// // Around a tonic client's channel, or as a layer of a tonic server.
    /// let layer = CircuitBreakerLayer::new(Store::in_memory())
    ///     .named("ledger")
    ///     .respond()
    ///     .observe_body();
    /// # let _ = layer;
    /// ```
    pub fn observe_body(self) -> CircuitBreakerLayer<C, ObserveBody<M>>
    where
        M: ObservableMode,
    {
        let Self { store, name, sharing, policy, classifier, mode } = self;
        CircuitBreakerLayer { store, name, sharing, policy, classifier, mode: ObserveBody(mode) }
    }

    /// One circuit for each key of the requests: for each host that a client calls, each route, each
    /// tenant. To be called last.
    ///
    /// One circuit for all hosts would stop the calls of those that are well, when one of them is down.
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
    /// The circuit of a key is called `name:key`. What of the key is no letter, digit or one of
    /// `-._:/@[]{}*+,=!$()` is escaped as in URLs; if the whole is longer than 128 bytes, it ends in
    /// `~` and a hash of the key, which keeps two keys apart unless somebody has forged one. Policy and
    /// classifier are those of this layer, for every key; a policy that the store has for the name of
    /// a circuit goes first. In a store with a backend each is shared with the other replicas.
    ///
    /// An open circuit is an error of the response future, as with
    /// [`reject_in_call`](Self::reject_in_call), or a response if the layer
    /// [responds](Self::respond) or has a [fallback](Self::fallback): the key is known only when there is
    /// a request. So the inner service is readied whatever its circuits say, and there is nothing to
    /// [wait](Self::wait_while_open) for. It is cloned where a call has to wait for the cluster.
    ///
    /// # Bounds
    ///
    /// There are never more than [`key_limit`](crate::StoreBuilder::key_limit) circuits of keys, and those
    /// that are [idle](crate::StoreBuilder::key_idle) are forgotten. Where the limit is reached, a new key
    /// evicts another circuit: first one that has counted no failure and no slow call, then the least
    /// recently asked of the others. A client that picks keys cannot keep a circuit from a new key, and
    /// cannot evict a circuit that has counted failures and is asked for more often than its own keys are; see
    /// there for the whole guarantee. Each takes about 2 KiB with the default policy, and about 6 KiB where the store has a
    /// backend. A call through one costs more than through a plain layer: it is looked up, and its counters
    /// are shared by all threads.
    ///
    /// # Panics
    ///
    /// If the name of the layer is longer than 64 bytes: keys would have no room.
    #[track_caller]
    pub fn keyed_by<K>(self, key: K) -> KeyedLayer<K, C, M>
    where
        M: KeyableMode,
    {
        let Self { store, name, sharing, policy, classifier, mode } = self;
        let most = KeyedName::MOST_PREFIX;
        let layer = match sharing {
            Sharing::Process => CircuitName::expect(last(name.as_str(), most).to_owned()),
            Sharing::Cluster => name,
        };
        assert!(
            layer.as_str().len() <= most,
            "the name of a layer with keys has at most {most} bytes, this one has {}",
            layer.as_str().len()
        );
        let circuits = KeyedCircuits { store, layer, policy, sharing };
        KeyedLayer { circuits, key, classifier, mode, keyless: Keyless::default() }
    }

    /// Like [`keyed_by`](Self::keyed_by), with a closure. Write it in place, as here: of one that has a
    /// name already, Rust does not see that its key borrows from the request.
    ///
    /// A key becomes part of a circuit's name, which is logged and, with a backend, sent to Redis. So let
    /// it hold no secret: the authority of a URL may carry `user:password@`, which
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
    pub fn keyed_by_fn<F, R>(self, key: F) -> KeyedLayer<KeyFn<F>, C, M>
    where
        M: KeyableMode,
        F: Fn(&R) -> Option<Cow<'_, str>>,
    {
        self.keyed_by(KeyFn(key))
    }
}

/// A mode that [`observe_body`](CircuitBreakerLayer::observe_body) goes with: that of a plain layer, of
/// [`reject_in_call`](CircuitBreakerLayer::reject_in_call), and of
/// [`respond`](CircuitBreakerLayer::respond).
#[diagnostic::on_unimplemented(
    message = "`.observe_body()` does not go with the mode `{Self}`",
    label = "no mode that bodies can be observed in",
    note = "it goes with `.reject_in_call()`, `.respond()` and `.respond_with(..)`: \
            `.respond().observe_body()`"
)]
pub trait ObservableMode: Sealed {}

/// A mode that [`keyed_by`](CircuitBreakerLayer::keyed_by) goes with: all but that of
/// [`wait_while_open`](CircuitBreakerLayer::wait_while_open).
#[diagnostic::on_unimplemented(
    message = "`.keyed_by(..)` does not go with the mode `{Self}`",
    label = "no mode that can have a circuit for each key",
    note = "before there is a request there is no key, and so nothing to wait for: leave \
            `.wait_while_open()` out",
    note = "it goes with `.respond()`, `.fallback(..)`, `.observe_body()`, or none of these: \
            `.respond().keyed_by(Authority)`"
)]
pub trait KeyableMode: Sealed {}

use sealed::Sealed;

mod sealed {
    /// What a mode can be combined with is for this crate to say.
    pub trait Sealed {}
}

impl Sealed for Reject {}
impl ObservableMode for Reject {}
impl KeyableMode for Reject {}

impl<F> Sealed for Respond<F> {}
impl<F> ObservableMode for Respond<F> {}
impl<F> KeyableMode for Respond<F> {}

impl<F> Sealed for Fallback<F> {}
impl<F> KeyableMode for Fallback<F> {}

impl<M: ObservableMode> Sealed for ObserveBody<M> {}
impl<M: ObservableMode> KeyableMode for ObserveBody<M> {}
