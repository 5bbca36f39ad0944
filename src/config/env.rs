//! The one reader of the environment.

use std::fmt;
use std::time::Duration;

use super::error::{ConfigError, Problem};
use super::{Config, Start};
use crate::event::log;

const PREFIX: &str = "CIRCUIT_BREAKER_";
pub(super) const REDIS_URL: &str = "CIRCUIT_BREAKER_REDIS_URL";
pub(super) const REDIS_CA_FILE: &str = "CIRCUIT_BREAKER_REDIS_CA_FILE";
#[cfg(feature = "redis")]
pub(super) const KEY_PREFIX: &str = "CIRCUIT_BREAKER_PREFIX";
#[cfg(feature = "redis")]
pub(super) const DEADLINE: &str = "CIRCUIT_BREAKER_DEADLINE";

/// Returns our variables. A value that is not UTF-8 is read as well as possible; the setting's own
/// check then refuses it.
pub(super) fn variables() -> Vec<(String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    let variables = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    variables.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

pub(super) fn parse(vars: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for (name, value) in vars.filter(|(_, value)| !value.is_empty()) {
        let mut read = Reader { name: &name, value: &value, problems: &mut problems };
        match name.strip_prefix(PREFIX).unwrap_or_default() {
            "ENABLED" => config.enabled = read.boolean(),
            "REDIS_URL" => config.redis_url = Some(value),
            "REDIS_PASSWORD" => config.redis_password = Some(value),
            "REDIS_CA_FILE" => config.redis_ca_file = Some(value),
            "PREFIX" => config.prefix = Some(value),
            "START" => config.start = read.start().unwrap_or_default(),
            "REPLICA" => config.replica = Some(value),
            "DEADLINE" => config.deadline = read.time(MS, 10 * S),
            "REPORT_INTERVAL" => config.report_interval = read.time(10 * MS, 10 * S),
            "BUDGET" => config.budget = read.number(1, 100_000),
            _ => log::unknown_variable(&name),
        }
    }
    for (name, set) in [
        ("CIRCUIT_BREAKER_REDIS_PASSWORD", config.redis_password.is_some()),
        (REDIS_CA_FILE, config.redis_ca_file.is_some()),
    ] {
        if set && config.redis_url.is_none() {
            problems.push(Problem::new(
                name,
                None,
                format_args!("has no effect without {REDIS_URL}: set both"),
            ));
        }
    }
    config.redis(&mut problems);
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::new(problems)) }
}

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Reads one value, and collects what is wrong with it.
struct Reader<'a> {
    name: &'a str,
    value: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn boolean(&mut self) -> Option<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => self.wrong("true or false"),
        }
    }

    fn start(&mut self) -> Option<Start> {
        match self.value.to_ascii_lowercase().as_str() {
            "degraded" => Some(Start::Degraded),
            "fail" => Some(Start::Fail),
            _ => self.wrong("degraded or fail"),
        }
    }

    fn number(&mut self, least: u32, most: u32) -> Option<u32> {
        let number = self.value.parse().ok().filter(|n| (least..=most).contains(n));
        number.or_else(|| self.wrong(format_args!("a number from {least} to {most}")))
    }

    fn time(&mut self, least: Duration, most: Duration) -> Option<Duration> {
        let time = humantime::parse_duration(self.value).ok();
        let time = time.filter(|time| (least..=most).contains(time));
        time.or_else(|| self.wrong(format_args!("a time from {least:?} to {most:?}, as in 50ms")))
    }

    fn wrong<T>(&mut self, expected: impl fmt::Display) -> Option<T> {
        self.problems.push(Problem::new(self.name, Some(self.value), &expected));
        None
    }
}
