//! Settings from the environment and from files.

#[cfg(feature = "serde")]
mod files;
mod policies;
mod precedence;
mod settings;
mod store;

use tower_breaker::config::{Config, ConfigError};

/// Reads variables, without their prefix.
pub(super) fn parse(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    over(Config::default(), vars)
}

/// Reads variables over other settings.
pub(super) fn over(config: Config, vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let named =
        |(name, value): &(&str, &str)| (format!("CIRCUIT_BREAKER_{name}"), (*value).to_owned());
    config.with_vars(vars.iter().map(named))
}

#[cfg(feature = "serde")]
pub(super) fn file(text: &str) -> Config {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What is wrong, as it is shown, one text per problem.
#[track_caller]
pub(super) fn problems(config: Result<Config, ConfigError>) -> Vec<String> {
    let error = config.and_then(|config| config.check()).expect_err("a problem");
    error.problems().iter().map(ToString::to_string).collect()
}
