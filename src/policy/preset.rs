//! Presets: policies named after what they protect.

use std::time::Duration;

use super::builder::PolicyBuilder;
use super::settings::Policy;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

/// # Where to start
impl Policy {
    /// Returns a builder that starts from the default policy.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::new()
    }

    /// Returns a builder that starts with every condition off, so that the circuit opens only for
    /// what you set, with one exception. All other settings start from the default policy.
    ///
    /// The exception is [`Reason::NoCompletions`](crate::event::Reason::NoCompletions): the circuit
    /// also opens when [`minimum_calls`](PolicyBuilder::minimum_calls) consecutive calls were
    /// cancelled or failed and the last of them was cancelled. `cancelled(Cancelled::Ignored)`
    /// turns this off.
    ///
    /// ```
    /// # use tower_breaker::Policy;
    /// let policy = Policy::only().failure_rate(0.3).build()?;
    /// assert_eq!(policy.consecutive_failures(), None);
    /// # Ok::<(), tower_breaker::PolicyError>(())
    /// ```
    pub fn only() -> PolicyBuilder {
        PolicyBuilder::new().without_consecutive_failures().without_failure_rate()
    }

    /// Returns a builder that starts from this policy.
    ///
    /// Settings that you then make hold. Settings of this policy that contradict them are adjusted,
    /// as [`PolicyBuilder`] lists.
    pub fn to_builder(&self) -> PolicyBuilder {
        PolicyBuilder::from_policy(self.clone())
    }
}

/// # Named after what they protect
impl Policy {
    /// Returns a policy for a database behind a connection pool.
    ///
    /// | setting | value | because |
    /// | --- | --- | --- |
    /// | consecutive failures | 5 | a database that is down fails every call; five failures in a row are no coincidence |
    /// | failure rate | 50 % of at least 20 calls in 30 s | one of two database replicas fails |
    /// | slow calls | 80 % over 2 s | a saturated database answers slowly long before it fails, and each waiting call holds a connection |
    /// | open for | 10 s, doubling to 2 min | a failover or a restart takes 10 to 30 s |
    /// | probes | 1 at a time, 3 to close | a database that comes back has cold caches and a queue of logins |
    /// | probe lease | 10 s | the usual statement timeout |
    #[must_use]
    pub fn database() -> Self {
        Self::builder()
            .consecutive_failures(5)
            .failure_rate(0.5)
            .minimum_calls(20)
            .time_window(S(30))
            .slow_call_duration(S(2))
            .slow_call_rate(0.8)
            .open_for(S(10))
            .backoff(2.0, S(120))
            .probes(1)
            .successes_to_close(3)
            .probe_lease(S(10))
            .preset()
    }

    /// Returns a policy for a cache that the caller can work without.
    ///
    /// | setting | value | because |
    /// | --- | --- | --- |
    /// | consecutive failures | 3 | a miss is cheap, a cache that hangs is not: give up early |
    /// | failure rate | 50 % of at least 50 calls in 10 s | caches see many calls; a short window forgets fast |
    /// | slow calls | 50 % over 100 ms | a cache that is slower than its source has no benefit |
    /// | open for | 2 s, doubling to 30 s | probing again costs little, and each second without the cache is load elsewhere |
    /// | probes | 3 at a time, 3 to close | a cache answers quickly |
    /// | probe lease | 1 s | ten times the slow-call limit |
    #[must_use]
    pub fn cache() -> Self {
        Self::builder()
            .consecutive_failures(3)
            .failure_rate(0.5)
            .minimum_calls(50)
            .time_window(S(10))
            .slow_call_duration(MS(100))
            .slow_call_rate(0.5)
            .open_for(S(2))
            .backoff(2.0, S(30))
            .probes(3)
            .successes_to_close(3)
            .probe_lease(S(1))
            .preset()
    }

    /// Returns a policy for a third-party HTTP or gRPC API.
    ///
    /// | setting | value | because |
    /// | --- | --- | --- |
    /// | consecutive failures | 10 | a balancer in front of one bad instance gives short runs of 502 |
    /// | failure rate | 50 % of at least 20 calls in 60 s | over a minute, a short deployment of the API stays below half |
    /// | slow calls | 80 % over 5 s | an interactive caller does not wait longer |
    /// | open for | 30 s, doubling to 5 min | their incidents last minutes; `Retry-After` lengthens it |
    /// | probes | 3 at a time, 2 to close | one good reply can be one good instance |
    /// | probe lease | 30 s | the usual client timeout |
    #[must_use]
    pub fn http_api() -> Self {
        Self::builder()
            .consecutive_failures(10)
            .failure_rate(0.5)
            .minimum_calls(20)
            .time_window(S(60))
            .slow_call_duration(S(5))
            .slow_call_rate(0.8)
            .open_for(S(30))
            .backoff(2.0, S(300))
            .probes(3)
            .successes_to_close(2)
            .probe_lease(S(30))
            .preset()
    }

    /// Returns a policy for the service that authenticates callers.
    ///
    /// While its circuit is open, no one can log in. So it opens late and probes soon. A wrong
    /// password is a success of the service: classify it as one, or a single attacker opens the
    /// circuit for all.
    ///
    /// | setting | value | because |
    /// | --- | --- | --- |
    /// | consecutive failures | 10 | an open circuit locks out every user, so more evidence is needed |
    /// | failure rate | 75 % of at least 50 calls in 30 s | half of the logins is better than none |
    /// | slow calls | off | a slow login is still a login |
    /// | open for | 5 s, doubling to 30 s | users cannot wait five minutes to log in |
    /// | probes | 5 at a time, 2 to close | the circuit should close soon after the service recovers |
    /// | probe lease | 10 s | password hashes are slow by design |
    #[must_use]
    pub fn authentication() -> Self {
        Self::builder()
            .consecutive_failures(10)
            .failure_rate(0.75)
            .minimum_calls(50)
            .time_window(S(30))
            .open_for(S(5))
            .backoff(2.0, S(30))
            .probes(5)
            .successes_to_close(2)
            .probe_lease(S(10))
            .preset()
    }
}
