//! The outside world's settings.
//!
//! A [`Config`] is plain data with a field for each variable. [`env`] is the one reader of the
//! environment; it knows the variables, and names everything that is wrong with them at once.

mod env;
mod error;

use std::time::Duration;

pub use error::{ConfigError, Problem, StartError};

#[cfg(feature = "redis")]
use crate::backend::{BackendError, RedisConfig, RedisPart};
use crate::store::{Store, StoreBuilder};

/// The settings of a [`Store`], as the environment has them. What is not set has the default of the
/// [`StoreBuilder`] method of the same name.
///
/// | variable | field | default |
/// | --- | --- | --- |
/// | `CIRCUIT_BREAKER_ENABLED` | `enabled` | `true` |
/// | `CIRCUIT_BREAKER_REDIS_URL` | `redis_url` | none: circuits belong to this process |
/// | `CIRCUIT_BREAKER_REDIS_PASSWORD` | `redis_password` | the URL's |
/// | `CIRCUIT_BREAKER_REDIS_CA_FILE` | `redis_ca_file` | the system's |
/// | `CIRCUIT_BREAKER_PREFIX` | `prefix` | `cb` |
/// | `CIRCUIT_BREAKER_START` | `start` | `degraded` |
/// | `CIRCUIT_BREAKER_REPLICA` | `replica` | the process id |
/// | `CIRCUIT_BREAKER_DEADLINE` | `deadline` | `50ms`; two fifths of it, but at least `1ms`, are the timeout of a command |
/// | `CIRCUIT_BREAKER_REPORT_INTERVAL` | `report_interval` | `100ms` |
/// | `CIRCUIT_BREAKER_BUDGET` | `budget` | `50` (commands a second) |
///
/// An empty value is one that is not set. Times are a number and a unit: `50ms`, `2s`.
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
    /// Whether circuits do anything; if not, all calls pass and nothing is counted.
    pub enabled: Option<bool>,
    /// Where the ledger is.
    pub redis_url: Option<String>,
    /// The password, where it should not be in the URL.
    pub redis_password: Option<String>,
    /// A PEM file of the authorities to trust, for `rediss://`.
    pub redis_ca_file: Option<String>,
    /// The first part of every key.
    pub prefix: Option<String>,
    /// What to do if the ledger cannot be reached at the start.
    pub start: Start,
    /// What this process is called in the ledger.
    pub replica: Option<String>,
    /// How long a call may wait for the ledger.
    pub deadline: Option<Duration>,
    /// How often a circuit reports.
    pub report_interval: Option<Duration>,
    /// How many commands a second may be sent that can wait.
    pub budget: Option<u32>,
}

/// How long the start of a store may take that can start alone.
#[cfg(feature = "redis")]
const START: Duration = Duration::from_millis(500);

/// What to do if the ledger cannot be reached at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Wait half a second for it; then start alone, and join when it can be reached. The default: a
    /// service that can do without its ledger while it runs can do so when it starts. Why it is
    /// alone, be it for a wrong password, shows in [`Store::backend`] and in the log.
    #[default]
    Degraded,
    /// Fail, within two seconds, with the reason.
    Fail,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    ///
    /// Names every variable that is wrong, and what was expected; its value too, unless that may have
    /// a secret in it. What belongs to Redis is checked where there is a URL, even if circuits are
    /// switched off; the CA file is read. A variable that begins with `CIRCUIT_BREAKER_` and is
    /// unknown is told as a warning in the log.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(env::variables())
    }

    /// Reads what is given in place of the environment.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        env::parse(vars.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// A builder with these settings, connected to the ledger if there is one.
    ///
    /// # Errors
    ///
    /// The settings cannot be used, for all reasons that [`from_env`](Self::from_env) names; or the
    /// ledger cannot be used, and that is an [error at the start](Start).
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
        self.ledger(builder).await
    }

    #[cfg(feature = "redis")]
    async fn ledger(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
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

    /// Where the ledger is, if it is anywhere.
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
            // So that a command and, where the answer shows a clock that has jumped, one more fit in.
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
    async fn ledger(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
        let mut problems = Vec::new();
        self.redis(&mut problems);
        if problems.is_empty() { Ok(builder) } else { Err(ConfigError::new(problems).into()) }
    }

    #[cfg(not(feature = "redis"))]
    fn redis(&self, problems: &mut Vec<Problem>) {
        if self.redis_url.is_some() {
            let without = "this program was built without the feature `redis`";
            problems.push(Problem::new(env::REDIS_URL, None, without));
        }
    }
}

impl Store {
    /// A store whose circuits all replicas share that use this Redis.
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
    /// For policies and other settings give a [`RedisBackend`](crate::backend::RedisBackend) to
    /// [`StoreBuilder::backend`].
    ///
    /// # Errors
    ///
    /// The URL is wrong. A Redis that cannot be reached, or does not let us in, is no error: the store
    /// starts alone, says why in [`backend`](Self::backend), and joins when it can. To fail instead, use
    /// [`RedisBackend::connect`](crate::backend::RedisBackend::connect).
    #[cfg(feature = "redis")]
    pub async fn redis(url: &str) -> Result<Self, StartError> {
        // As an argument, and not as a variable of the environment.
        RedisConfig::from_url(url).map_err(|error| BackendError::refused(error.to_string()))?;
        let config = Config { redis_url: Some(url.to_owned()), ..Config::default() };
        Ok(config.connect().await?.build())
    }

    /// A store as the environment says: see [`Config`] for the variables. Without
    /// `CIRCUIT_BREAKER_REDIS_URL` its circuits belong to this process.
    ///
    /// For policies too, use [`Config::connect`], which gives the builder.
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
    /// Names every variable that is wrong; or says why the ledger cannot be used.
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
