//! Settings from the environment.
//!
//! A [`Config`] is plain data with a field for each variable. [`Config::from_env`] reads them, and
//! its error names every wrong one at once. [`Store::from_env`] and [`Config::connect`] make a
//! store from them.

mod env;
mod error;

use std::time::Duration;

pub use error::{ConfigError, Problem, StartError};

#[cfg(feature = "redis")]
use crate::backend::{BackendError, RedisConfig, RedisPart};
use crate::store::{Store, StoreBuilder};

/// The settings of a [`Store`], as read from the environment.
///
/// A variable that is not set has the default of the [`StoreBuilder`] method of the same name.
///
/// | variable | field | default |
/// | --- | --- | --- |
/// | `CIRCUIT_BREAKER_ENABLED` | `enabled` | `true` |
/// | `CIRCUIT_BREAKER_REDIS_URL` | `redis_url` | none: circuits belong to this process |
/// | `CIRCUIT_BREAKER_REDIS_PASSWORD` | `redis_password` | that of the URL |
/// | `CIRCUIT_BREAKER_REDIS_CA_FILE` | `redis_ca_file` | the system's certificates |
/// | `CIRCUIT_BREAKER_PREFIX` | `prefix` | `cb` |
/// | `CIRCUIT_BREAKER_START` | `start` | `degraded` |
/// | `CIRCUIT_BREAKER_REPLICA` | `replica` | the name of the host |
/// | `CIRCUIT_BREAKER_DEADLINE` | `deadline` | `50ms` |
/// | `CIRCUIT_BREAKER_REPORT_INTERVAL` | `report_interval` | `100ms` |
/// | `CIRCUIT_BREAKER_BUDGET` | `budget` | `50` (commands per second) |
///
/// An empty value counts as not set. Durations are a number and a unit: `50ms`, `2s`. If the
/// deadline is set, the Redis command that asks for a probe may take two fifths of it, but at least
/// 1 ms and at most 5 s.
///
/// ```
/// use tower_breaker::config::Config;
///
/// let config = Config::from_vars([("CIRCUIT_BREAKER_DEADLINE", "20ms")])?;
/// assert_eq!(config.deadline, Some(std::time::Duration::from_millis(20)));
///
/// let error = Config::from_vars([
///     ("CIRCUIT_BREAKER_DEADLINE", "20"),
///     ("CIRCUIT_BREAKER_ENABLED", "maybe"),
/// ])
/// .unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// # Ok::<(), tower_breaker::config::ConfigError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Whether circuits have any effect. If false, every call passes and nothing is counted. See
    /// [`StoreBuilder::enabled`].
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
    /// [`StoreBuilder::replica`].
    pub replica: Option<String>,
    /// The longest time that a call may wait for the backend: 1 ms to 10 s. See
    /// [`StoreBuilder::deadline`].
    pub deadline: Option<Duration>,
    /// How often a circuit reports that is near a threshold: 10 ms to 10 s. See
    /// [`StoreBuilder::report_interval`].
    pub report_interval: Option<Duration>,
    /// How many commands the store sends to the backend in a second: 1 to 100,000. See
    /// [`StoreBuilder::budget`].
    pub budget: Option<u32>,
}

/// How long the start of a store may wait for a backend that it can start without.
#[cfg(feature = "redis")]
const START: Duration = Duration::from_millis(500);

/// What to do if the backend does not answer at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Wait half a second for the backend, then start without it, and join it when it answers. This
    /// is the default, because a service that can run without its backend can also start without
    /// it. [`Store::backend`] and the log say why it is degraded, for example because of a wrong
    /// password.
    #[default]
    Degraded,
    /// Fail with the reason, after at most two seconds.
    Fail,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// An unknown variable that begins with `CIRCUIT_BREAKER_` is logged as a warning.
    ///
    /// # Errors
    ///
    /// Returns an error that names every wrong variable and what was expected. It shows the value,
    /// unless that may contain a secret. If there is a URL, it also checks the Redis settings and
    /// reads the CA file, even if circuits are not enabled.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(env::variables())
    }

    /// Reads `vars` instead of the environment.
    ///
    /// # Errors
    ///
    /// Like [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        env::parse(vars.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// Returns a builder with these settings, connected to Redis if there is a URL.
    ///
    /// Use it instead of [`Store::from_env`] to add policies and observers.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings are wrong, as [`from_env`](Self::from_env) describes, or if
    /// Redis cannot be used and [`start`](Self::start) is [`Start::Fail`].
    ///
    /// # Panics
    ///
    /// Panics if there is a URL, circuits are enabled, and the future is polled outside a tokio
    /// runtime.
    pub async fn connect(self) -> Result<StoreBuilder, StartError> {
        let mut builder = Store::builder();
        if let Some(enabled) = self.enabled {
            builder = builder.enabled(enabled);
        }
        if let Some(replica) = &self.replica {
            builder = builder.replica(replica);
        }
        if let Some(deadline) = self.deadline {
            builder = builder.deadline(deadline);
        }
        if let Some(interval) = self.report_interval {
            builder = builder.report_interval(interval);
        }
        if let Some(budget) = self.budget {
            builder = builder.budget(budget);
        }
        self.connect_backend(builder).await
    }

    #[cfg(feature = "redis")]
    async fn connect_backend(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
        use crate::backend::RedisBackend;
        let mut problems = Vec::new();
        let redis = self.redis(&mut problems);
        if !problems.is_empty() {
            return Err(ConfigError::new(problems).into());
        }
        let Some(redis) = redis.filter(|_| self.enabled != Some(false)) else {
            return Ok(builder);
        };
        let backend = match self.start {
            Start::Degraded => {
                let backend = RedisBackend::start(&redis)?;
                backend.ready(START).await;
                backend
            }
            Start::Fail => RedisBackend::connect(&redis).await?,
        };
        Ok(builder.backend(backend))
    }

    /// Returns where Redis is, if there is a URL.
    #[cfg(feature = "redis")]
    fn redis(&self, problems: &mut Vec<Problem>) -> Option<RedisConfig> {
        let (mut redis, wrong) = RedisConfig::read(self.redis_url.as_ref()?);
        if let Some(password) = &self.redis_password {
            redis = redis.password(password);
        }
        if let Some(file) = &self.redis_ca_file {
            redis = redis.tls_ca_file(file);
        }
        if let Some(prefix) = &self.prefix {
            redis = redis.key_prefix(prefix);
        }
        if let Some(deadline) = self.deadline {
            // So that a command fits in, and one more if the answer shows that the server's clock
            // has jumped.
            let (least, most) = RedisConfig::COMMAND_TIMEOUTS.into_inner();
            redis = redis.command_timeout((deadline / 5 * 2).clamp(least, most));
        }
        let wrong = wrong.into_iter().map(|problem| (RedisPart::Address, problem));
        for (part, problem) in wrong.chain(redis.problems()) {
            let variable = match part {
                RedisPart::Address => env::REDIS_URL,
                RedisPart::CaFile => env::REDIS_CA_FILE,
                RedisPart::Prefix => env::KEY_PREFIX,
                RedisPart::CommandTimeout => env::DEADLINE,
            };
            problems.push(Problem::new(variable, None, problem));
        }
        #[cfg(feature = "redis-tls")]
        if let Err(error) = redis.check_ca_file() {
            problems.push(Problem::new(env::REDIS_CA_FILE, None, error));
        }
        Some(redis)
    }

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits")]
    async fn connect_backend(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
        let mut problems = Vec::new();
        self.redis(&mut problems);
        if problems.is_empty() { Ok(builder) } else { Err(ConfigError::new(problems).into()) }
    }

    #[cfg(not(feature = "redis"))]
    fn redis(&self, problems: &mut Vec<Problem>) {
        if self.redis_url.is_some() {
            let without = "this program was built without the feature `redis` of tower-breaker";
            problems.push(Problem::new(env::REDIS_URL, None, without));
        }
    }
}

impl Store {
    /// Returns a store whose circuits are shared by all replicas that use this Redis.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_breaker::config::StartError> {
    /// use tower_breaker::{CircuitBreakerLayer, Store};
    ///
    /// let store = Store::redis("redis://127.0.0.1:6379").await?;
    /// let layer = CircuitBreakerLayer::new(store.clone()).named("payments");
    /// # let _ = layer;
    /// # Ok(()) }
    /// ```
    ///
    /// For policies and other settings, pass a [`RedisBackend`](crate::backend::RedisBackend) to
    /// [`StoreBuilder::backend`].
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is wrong. It returns no error if Redis does not answer or
    /// refuses the connection: the store starts degraded, returns the reason from
    /// [`backend`](Self::backend), and joins when Redis answers. To fail instead, use
    /// [`RedisBackend::connect`](crate::backend::RedisBackend::connect).
    ///
    /// # Panics
    ///
    /// Panics if the future is polled outside a tokio runtime.
    #[cfg(feature = "redis")]
    pub async fn redis(url: &str) -> Result<Self, StartError> {
        // Checked first: here the URL is an argument, and no variable of the environment.
        RedisConfig::from_url(url).map_err(|error| BackendError::refused(error.to_string()))?;
        let config = Config { redis_url: Some(url.to_owned()), ..Config::default() };
        Ok(config.connect().await?.build())
    }

    /// Returns a store with the settings of the environment: [`Config`] lists the variables.
    /// Without `CIRCUIT_BREAKER_REDIS_URL`, its circuits belong to this process.
    ///
    /// To add policies, use [`Config::connect`], which returns a builder.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_breaker::config::StartError> {
    /// use tower_breaker::Store;
    ///
    /// let store = Store::from_env().await?;
    /// # let _ = store;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error that names every wrong variable, or says why Redis cannot be used. If
    /// `CIRCUIT_BREAKER_REDIS_URL` is set, a program built without the feature `redis` gets an
    /// error.
    ///
    /// # Panics
    ///
    /// Panics if there is a URL, circuits are enabled, and the future is polled outside a tokio
    /// runtime.
    pub async fn from_env() -> Result<Self, StartError> {
        Ok(Config::from_env()?.connect().await?.build())
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = |is_set: bool| if is_set { "set" } else { "not set" };
        f.debug_struct("Config")
            .field("enabled", &self.enabled)
            .field("redis_url", &secret(self.redis_url.is_some()))
            .field("redis_password", &secret(self.redis_password.is_some()))
            .field("redis_ca_file", &self.redis_ca_file)
            .field("prefix", &self.prefix)
            .field("start", &self.start)
            .field("replica", &self.replica)
            .field("deadline", &self.deadline)
            .field("report_interval", &self.report_interval)
            .field("budget", &self.budget)
            .finish()
    }
}
