//! How a store is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::configured::Configured;
use super::settings::Settings;
use super::store::Store;
use crate::backend::Backend;
use crate::event::BackendStatus;
use crate::machine::Event;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::sync::replica_name;

/// Builds a [`Store`].
///
/// ```
/// use tower_breaker::{Policy, Store};
///
/// let store = Store::builder()
///     .default_policy(Policy::http_api())
///     .policy("sessions", Policy::cache())
///     .build();
/// assert_eq!(store.circuit("sessions").policy(), Policy::cache());
/// assert_eq!(store.circuit("anything else").policy(), Policy::http_api());
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StoreBuilder {
    settings: Settings,
}

impl StoreBuilder {
    /// Sets the policy of circuits that have none of their own. Default: [`Policy::default`].
    pub fn default_policy(mut self, policy: Policy) -> Self {
        self.settings.default_policy = policy;
        self
    }

    /// Sets the policy of the circuit `name`. If it is called again for the same name, the last
    /// policy holds. [`Store::set_policy`] describes which of several policies is in force.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes.
    #[track_caller]
    pub fn policy<N>(mut self, name: N, policy: Policy) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.settings.policies.insert(CircuitName::expect(name), policy);
        self
    }

    /// Marks the circuit `name` as critical: while it rejects calls, the replica is
    /// [not ready](crate::health::Health::is_ready). Default: no circuit is. Mark a circuit only if
    /// this process can do nothing without its upstream, and other replicas may reach it.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty or longer than 128 bytes.
    #[track_caller]
    pub fn critical<N>(mut self, name: N) -> Self
    where
        N: TryInto<CircuitName>,
        N::Error: fmt::Display,
    {
        self.settings.critical.insert(CircuitName::expect(name));
        self
    }

    /// Sets what a configuration changes in the policies of the code.
    pub(crate) fn configured(mut self, configured: Configured) -> Self {
        self.settings.configured = configured;
        self
    }

    /// Sets how many calls of a named circuit are measured for its
    /// [latency](crate::circuit::Snapshot::latency): about one in so many. Default: 64. Zero measures
    /// none, one measures all. Which calls are measured is random.
    ///
    /// Each sample reads the exact clock twice, which takes some 40 ns. A circuit has 1 KiB of
    /// counters for each thread that has measured a call.
    pub fn latency_sample(mut self, one_in: u32) -> Self {
        self.settings.latency.named = one_in;
        self
    }

    /// Does the same for circuits of [keys](crate::CircuitBreakerLayer::keyed_by). Default: 0, none,
    /// because there may be many such circuits.
    pub fn key_latency_sample(mut self, one_in: u32) -> Self {
        self.settings.latency.of_keys = one_in;
        self
    }

    /// Adds an observer that is called with every [`Event`] of every circuit of the store, circuits
    /// that are made later included.
    ///
    /// [`Circuit::on_change`](crate::Circuit::on_change) does the same for one circuit, and
    /// describes when and where observers run.
    ///
    /// ```
    /// use tower_breaker::Store;
    ///
    /// let store = Store::builder()
    ///     .on_change(|circuit, event| println!("{circuit}: {event:?}"))
    ///     .build();
    /// # let _ = store;
    /// ```
    pub fn on_change(
        mut self,
        observer: impl Fn(&CircuitName, &Event) + Send + Sync + 'static,
    ) -> Self {
        self.settings.observers.push(Arc::new(observer));
        self
    }

    /// Sets whether circuits have any effect. Default: true.
    ///
    /// If false, every circuit of the store is [disabled](crate::Circuit::disable) in this process
    /// when it is made: all calls pass, nothing is counted, and the backend is not used. Use it to
    /// find out whether a circuit breaker causes a problem.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.settings.disabled = !enabled;
        self
    }

    /// Sets how many circuits of [keys](crate::CircuitBreakerLayer::keyed_by) the store keeps at
    /// once, those of all layers and of [`Store::keyed`] together. Default: 10,000. With zero it
    /// keeps none, and every such call passes through uncounted.
    ///
    /// When the limit is reached, a new key evicts a circuit. The first choice is a circuit that
    /// has counted no failure and no slow call: of those examined, the least recently used. The
    /// second choice is the least recently used of the others, even if it is open. A circuit that
    /// is in use, or under an override, is never evicted. If every circuit examined is in use or
    /// under an override, the calls of the new key pass through uncounted, and the store logs a
    /// warning, at most one a minute.
    ///
    /// # Guarantees
    ///
    /// Keys may come from outside. A client that chooses them
    ///
    /// - cannot keep a new key from getting a circuit, unless its running calls hold the circuits;
    /// - cannot, except with a small probability, evict a circuit that has counted failures, slow
    ///   calls or cancelled calls and is used more often than the client's own keys: with a limit
    ///   of some hundreds or more, a circuit stays if it is used at least once per `limit / 2` new
    ///   keys;
    /// - can, with calls that fail, evict circuits that have counted none of these. The next call
    ///   makes such a circuit anew; it loses its count of successes;
    /// - can, with calls that succeed, evict only circuits that have counted no failure, and one
    ///   other for each of its calls that run at once.
    ///
    /// So set the limit to at least twice the number of keys that are really in use.
    pub fn key_limit(mut self, limit: usize) -> Self {
        self.settings.keys.limit = limit;
        self
    }

    /// Sets how long the store keeps the circuit of a [key](crate::CircuitBreakerLayer::keyed_by)
    /// after its last use. Default: 10 min. A shorter time than 1 s counts as 1 s;
    /// [`Duration::MAX`] keeps circuits until the [limit](Self::key_limit) is reached.
    ///
    /// Looking a circuit up by its name is a use too. The store forgets only a circuit that would
    /// reject nothing: one that is closed, open with its interval over, or half-open with a free
    /// probe slot. It does not forget a circuit that is in use (a handle or a permit of it exists)
    /// or under an override. Calls with keys examine idle circuits a few at a time; there is no
    /// timer.
    pub fn key_idle(mut self, idle: Duration) -> Self {
        self.settings.keys.idle = idle.max(Duration::from_secs(1));
        self
    }

    /// Shares the circuits with all stores that use the same backend. Default: no backend; circuits
    /// belong to this process.
    ///
    /// A closed circuit still decides in this process, at the same cost as without a backend. In
    /// the background, the store reports calls that failed or were slow, and, once a circuit has
    /// become suspect, all its calls. It applies what the backend answers and publishes. A healthy
    /// circuit sends nothing.
    ///
    /// A call waits for the backend only if it would be a probe or the circuit is new, and never
    /// longer than the [deadline](Self::deadline). If the backend does not answer for two seconds,
    /// circuits decide without it until it does. To use a database of your own, implement
    /// [`Backend`].
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.settings.backend = Some(Arc::new(backend));
        self
    }

    /// Sets the name of this replica in the backend. Default, also for an empty name: the name of
    /// the host, or a random one if that is not known (outside of Linux). Control characters are
    /// removed, and the name is truncated to 128 bytes.
    ///
    /// Give each replica a name of its own, which it keeps when it restarts. For policies with a
    /// [quorum](crate::policy::PolicyBuilder::quorum), the name bears the vote of the replica and
    /// its share of the evidence: a replica that restarts again and again is still one voter, and
    /// two replicas with one name count as one. For all other policies the name is only shown: in
    /// [`Store::replicas`], and in the log as one that has reported failures.
    pub fn replica(mut self, name: impl Into<String>) -> Self {
        self.settings.cluster.replica = replica_name(&name.into());
        self
    }

    /// Sets the longest time that a call may wait for the backend. Default: 50 ms. The range is 1
    /// ms to 10 s; a value outside it is clamped.
    ///
    /// Two calls wait: a call that would be a probe, for its lease, and the first call of a new
    /// circuit, for its state. At the deadline, the first is rejected, or is a probe of this
    /// process if the circuit is detached. The second is admitted. A
    /// [`PendingOverride`](crate::overrides::PendingOverride) resolves within the deadline too.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        let longest = Duration::from_secs(10);
        self.settings.cluster.deadline = deadline.clamp(Duration::from_millis(1), longest);
        self
    }

    /// Sets how often a circuit reports that is near a threshold: at half of it or more. Default:
    /// 100 ms. The range is 10 ms to 10 s; a value outside it is clamped.
    ///
    /// A circuit with failures that is far from any threshold reports every 300 ms, and 30 ms more
    /// for each live replica, but at most every 10 s. A healthy circuit reports nothing. When a
    /// streak reaches three failures, or a failure count half of its threshold, that is reported
    /// at once; after that the interval holds. Twice the interval, at least the
    /// [deadline](Self::deadline) and at most 2 s (10 ms more for each replica over 16), is how long
    /// replicas have to report everything before totals are judged without them.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        let longest = Duration::from_secs(10);
        self.settings.cluster.report_interval = interval.clamp(Duration::from_millis(10), longest);
        self
    }

    /// Sets how many commands the store sends to the backend in a second, for all circuits
    /// together. Default: 50. The range is 1 to 100,000; a value outside it is clamped, and 1 acts
    /// as 2.
    ///
    /// A command costs 1, and each report in it 1/10 more. Nothing is exempt: neither heartbeats
    /// nor overrides nor probes. If the budget does not suffice, the more urgent commands go first:
    /// heartbeats, results of probes and overrides, leases, transitions, failures, successes, and
    /// polls at the end. A command that is due for two seconds gets a turn whatever else waits.
    ///
    /// Up to half a second's worth, and at least 10, can be saved up for a burst, and as much can
    /// be owed. If the backend answers slowly or not at all, the store sends less.
    ///
    /// With less than about 10, a replica learns of changes seconds later: heartbeats and polls
    /// take up to 6 a second.
    pub fn budget(mut self, commands_per_second: u32) -> Self {
        self.settings.cluster.budget = commands_per_second.clamp(1, 100_000);
        self
    }

    /// Adds an observer that is called whenever the [status](BackendStatus) of the backend changes:
    /// it stops answering or answers again, or something is impaired or no longer is. A change of
    /// a cause or of a number alone calls no observer.
    ///
    /// Observers run one after another, in a task of their own. One that does not return delays
    /// other observers, but neither calls nor the exchange with the backend.
    pub fn on_backend(mut self, observer: impl Fn(&BackendStatus) + Send + Sync + 'static) -> Self {
        self.settings.backend_observers.push(Arc::new(observer));
        self
    }

    /// Builds the store.
    ///
    /// With a backend, the store spawns two tasks in the current tokio runtime. Keep that runtime
    /// running for as long as circuits are used: a multi-threaded runtime does so by itself, a
    /// current-thread runtime only inside `block_on`. If the runtime is dropped, circuits decide
    /// without the backend. If it exists but is not driven, a call that waits for the backend waits
    /// until it is.
    ///
    /// # Panics
    ///
    /// Panics if there is a backend and the method is called outside a tokio runtime.
    #[must_use]
    #[track_caller]
    pub fn build(self) -> Store {
        Store::new(self.settings)
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("default_policy", &self.settings.default_policy)
            .field("policies", &self.settings.policies)
            .field("configured", &self.settings.configured)
            .field("backend", &self.settings.backend)
            .field("cluster", &self.settings.cluster)
            .field("keys", &self.settings.keys)
            .field("latency", &self.settings.latency)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Returns a store whose circuits belong to this process, with the default policy.
    #[must_use]
    pub fn in_memory() -> Self {
        StoreBuilder::default().build()
    }

    /// Returns a builder, to set policies, a backend, observers and bounds.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }
}
