//! Makes a store from the settings.

use std::collections::HashMap;
#[cfg(feature = "redis")]
use std::time::Duration;

use super::data::Config;
#[cfg(feature = "redis")]
use super::data::Start;
use super::error::StartError;
#[cfg(feature = "redis")]
use crate::backend::{BackendError, RedisConfig};
use crate::store::{Configured, Store, StoreBuilder};

/// How long the start of a store may wait for a backend that it can start without.
#[cfg(feature = "redis")]
const START: Duration = Duration::from_millis(500);

impl Config {
    /// Returns a builder with these settings, connected to Redis if there is a URL.
    ///
    /// Use it instead of [`Store::from_env`] to add policies and observers. The settings of this
    /// configuration change the policies of the code: see [the module](crate::config#precedence).
    ///
    /// # Errors
    ///
    /// Returns an error if the settings are wrong, as [`check`](Self::check) describes, or if
    /// Redis cannot be used and [`start`](Self::start) is [`Start::Fail`](super::Start::Fail).
    ///
    /// # Panics
    ///
    /// Panics if there is a URL, circuits are enabled, and the future is polled outside a tokio
    /// runtime.
    pub async fn connect(self) -> Result<StoreBuilder, StartError> {
        self.check()?;
        let circuits: HashMap<_, _> = self.circuit.clone().into_iter().collect();
        let mut builder =
            Store::builder().configured(Configured::new(self.policy.clone(), circuits));
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
        if let Some(limit) = self.key_limit {
            builder = builder.key_limit(limit);
        }
        if let Some(idle) = self.key_idle {
            builder = builder.key_idle(idle);
        }
        if let Some(one_in) = self.latency_sample {
            builder = builder.latency_sample(one_in);
        }
        if let Some(one_in) = self.key_latency_sample {
            builder = builder.key_latency_sample(one_in);
        }
        for name in self.critical.iter().flatten() {
            builder = builder.critical(name.clone());
        }
        self.connect_backend(builder).await
    }

    #[cfg(feature = "redis")]
    async fn connect_backend(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
        use crate::backend::RedisBackend;
        // The settings were checked.
        let redis = self.redis(&mut Vec::new());
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

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits")]
    async fn connect_backend(self, builder: StoreBuilder) -> Result<StoreBuilder, StartError> {
        Ok(builder)
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

    /// Returns a store with the settings of the environment: [`config`](crate::config) lists the
    /// variables. Without `CIRCUIT_BREAKER_REDIS_URL`, its circuits belong to this process.
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
