//! The connection to Redis.

use std::time::Duration;

use tower_breaker::backend::{Backend, RedisBackend, RedisConfig};

use crate::args::Redis;
use crate::failure::Failure;

const URL: &str = "CIRCUIT_BREAKER_REDIS_URL";

/// A person waits for the answer, and no call.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn connect(args: &Redis) -> Result<RedisBackend, Failure> {
    let config = config(args)?;
    Ok(RedisBackend::connect(&config).await?)
}

/// Ends the connection, so that the server does not see it break.
pub(crate) async fn close(backend: &RedisBackend) {
    // What was to be done is done.
    let _ = backend.close().await;
}

/// Errors of the configuration repeat no part of the URL.
fn config(args: &Redis) -> Result<RedisConfig, Failure> {
    let given = args.url.clone().map(|url| (url, "--url"));
    let Some((url, source)) = given.or_else(|| variable(URL).map(|url| (url, URL))) else {
        return Err(Failure::Usage(format!("there is no Redis: set {URL}, or give --url")));
    };
    let config = RedisConfig::from_url(&url);
    let mut config = config.map_err(|error| Failure::Usage(format!("{source}: {error}")))?;
    if let Some(password) = variable("CIRCUIT_BREAKER_REDIS_PASSWORD") {
        config = config.password(password);
    }
    if let Some(file) = variable("CIRCUIT_BREAKER_REDIS_CA_FILE") {
        config = config.tls_ca_file(file);
    }
    if let Some(prefix) = args.prefix.clone().or_else(|| variable("CIRCUIT_BREAKER_PREFIX")) {
        config = config.key_prefix(prefix);
    }
    config = config.command_timeout(PATIENCE);
    config.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(config)
}

/// A variable of the environment. An empty one counts as not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the lint is for the library")]
    let value = std::env::var_os(name)?;
    Some(value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}
