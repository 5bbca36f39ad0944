//! The settings as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::error::{Problem, may_be_secret};
use super::names::{self, Scope};
use crate::name::CircuitName;
use crate::policy::PolicySettings;

/// The settings of a [`Store`](crate::Store) and of its circuits, as read from the environment or
/// from a file.
///
/// [The module](crate::config) lists the variables and their defaults. What is not set has the
/// default of the [`StoreBuilder`](crate::StoreBuilder) method of the same name.
///
/// ```
/// use tower_breaker::config::Config;
///
/// let config = Config::from_vars([("CIRCUIT_BREAKER_DEADLINE", "20ms")])?;
/// assert_eq!(config.deadline, Some(std::time::Duration::from_millis(20)));
///
/// let error = Config::from_vars([
///     ("CIRCUIT_BREAKER_DEADLINE", "20"),
///     ("CIRCUIT_BREAKER_FAILURE_RATE", "50"),
/// ])
/// .unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// # Ok::<(), tower_breaker::config::ConfigError>(())
/// ```
///
/// `Debug` shows neither the URL nor the password of Redis. With the feature `serde`, a `Config` is
/// read from data and written as data. It is written without what is not set, without the password,
/// and without a URL that could contain one.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Whether circuits have any effect. If false, every call passes and nothing is counted. See
    /// [`StoreBuilder::enabled`](crate::StoreBuilder::enabled).
    pub enabled: Option<bool>,
    /// The URL of the Redis that replicas share. Without it, circuits belong to this process. See
    /// `backend::RedisConfig` for its forms.
    pub redis_url: Option<String>,
    /// The password, if the URL should not contain it.
    pub redis_password: Option<String>,
    /// A PEM file with the certificate authorities to trust, for `rediss://`.
    pub redis_ca_file: Option<String>,
    /// The first part of every key and channel in Redis. Default: `cb`. Replicas with the same
    /// prefix share their circuits.
    pub prefix: Option<String>,
    /// What to do if Redis does not answer at the start.
    pub start: Start,
    /// The name of this replica in the backend, which it should keep when it restarts. See
    /// [`StoreBuilder::replica`](crate::StoreBuilder::replica).
    pub replica: Option<String>,
    /// The longest time that a call may wait for the backend: 1 ms to 10 s. See
    /// [`StoreBuilder::deadline`](crate::StoreBuilder::deadline).
    pub deadline: Option<Duration>,
    /// How often a circuit reports that is near a threshold: 10 ms to 10 s. See
    /// [`StoreBuilder::report_interval`](crate::StoreBuilder::report_interval).
    pub report_interval: Option<Duration>,
    /// How many commands the store sends to the backend in a second: 1 to 100,000. See
    /// [`StoreBuilder::budget`](crate::StoreBuilder::budget).
    pub budget: Option<u32>,
    /// How many circuits of keys the store keeps: 0 to 10,000,000. See
    /// [`StoreBuilder::key_limit`](crate::StoreBuilder::key_limit).
    pub key_limit: Option<usize>,
    /// How long the store keeps the circuit of a key after its last use: 1 s or more, or
    /// [`Duration::MAX`]. See [`StoreBuilder::key_idle`](crate::StoreBuilder::key_idle).
    pub key_idle: Option<Duration>,
    /// One in how many calls of a named circuit is measured; 0 measures none. See
    /// [`StoreBuilder::latency_sample`](crate::StoreBuilder::latency_sample).
    pub latency_sample: Option<u32>,
    /// The same for circuits of keys. See
    /// [`StoreBuilder::key_latency_sample`](crate::StoreBuilder::key_latency_sample).
    pub key_latency_sample: Option<u32>,
    /// The circuits without which this replica is not ready, besides those that the code marks. See
    /// [`StoreBuilder::critical`](crate::StoreBuilder::critical). The names are those in the code.
    pub critical: Option<BTreeSet<CircuitName>>,
    /// The settings of the store's default policy.
    pub policy: PolicySettings,
    /// The settings of single circuits, by name. [The module](crate::config#circuits-by-name) says
    /// which circuits a name means.
    pub circuit: BTreeMap<String, PolicySettings>,
    pub(super) origin: Origin,
}

/// What to do if the backend does not answer at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Wait half a second for the backend, then start without it, and join it when it answers. This
    /// is the default, because a service that can run without its backend can also start without
    /// it. [`Store::backend`](crate::Store::backend) and the log say why it is degraded, for
    /// example because of a wrong password.
    #[default]
    Degraded,
    /// Fail with the reason, after at most two seconds.
    Fail,
}

impl Start {
    #[cfg(feature = "serde")]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Fail => "fail",
        }
    }
}

/// Where settings come from, so that a problem names what to change.
#[derive(Clone, Default)]
pub(super) struct Origin {
    /// Some come from a file.
    pub(super) file: bool,
    /// Those that come from variables.
    pub(super) variables: BTreeSet<String>,
    /// Problems of the file, which are reported together with those of the environment.
    pub(super) problems: Vec<Problem>,
}

/// Two configurations with the same settings are equal, wherever those come from.
impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.problems == other.problems
    }
}

impl Eq for Origin {}

impl Config {
    /// Returns the name of a setting where it was set.
    pub(super) fn name(&self, scope: Scope<'_>, setting: &str) -> String {
        let variable = names::variable(scope, setting);
        if self.origin.file && !self.origin.variables.contains(&variable) {
            names::path(scope, setting)
        } else {
            variable
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |is_set: bool| if is_set { "set" } else { "not set" };
        let shown = |text: &Option<String>| {
            text.as_ref()
                .map(|text| if may_be_secret(text) { "…".to_owned() } else { text.clone() })
        };
        f.debug_struct("Config")
            .field("enabled", &self.enabled)
            .field("redis_url", &secret(self.redis_url.is_some()))
            .field("redis_password", &secret(self.redis_password.is_some()))
            .field("redis_ca_file", &shown(&self.redis_ca_file))
            .field("prefix", &shown(&self.prefix))
            .field("start", &self.start)
            .field("replica", &shown(&self.replica))
            .field("deadline", &self.deadline)
            .field("report_interval", &self.report_interval)
            .field("budget", &self.budget)
            .field("key_limit", &self.key_limit)
            .field("key_idle", &self.key_idle)
            .field("latency_sample", &self.latency_sample)
            .field("key_latency_sample", &self.key_latency_sample)
            .field("critical", &self.critical)
            .field("policy", &self.policy)
            .field("circuit", &self.circuit)
            .finish_non_exhaustive()
    }
}
