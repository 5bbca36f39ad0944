//! Checks settings that depend on each other.

use std::collections::BTreeSet;

use super::data::Config;
use super::error::{ConfigError, Problem};
use super::names::Scope;
#[cfg(feature = "redis")]
use crate::backend::{RedisConfig, RedisPart};
use crate::policy::{Policy, PolicySettings};
use crate::store::in_variables;

impl Config {
    /// Checks all settings. [`with_env`](Self::with_env) and [`connect`](Self::connect) do so too.
    ///
    /// # Errors
    ///
    /// Returns an error that names every wrong setting, those included that were found when the
    /// settings were read from a file. If there is a URL, it also reads the CA file.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = self.origin.problems.clone();
        for (setting, set) in [
            ("redis_password", self.redis_password.is_some()),
            ("redis_ca_file", self.redis_ca_file.is_some()),
        ] {
            if set && self.redis_url.is_none() {
                let url = self.name(Scope::All, "redis_url");
                let without = format!("has no effect without {url}: set both");
                problems.push(Problem::new(&self.name(Scope::All, setting), None, without));
            }
        }
        self.redis(&mut problems);
        self.policies(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
    }

    /// Checks the policies, each over the one that it changes.
    fn policies(&self, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        let mut check = |scope: Scope<'_>, settings: &PolicySettings, base: &Policy| {
            settings.over(base).unwrap_or_else(|error| {
                for found in error.found() {
                    let setting = settings.concerned(found);
                    let name = self.name(scope, setting.name());
                    if !seen.insert(name.clone()) {
                        continue;
                    }
                    let value = settings.get(setting).map(|value| value.to_string());
                    let expected = match value {
                        Some(_) if found.setting != "conditions" => found.expected.clone(),
                        _ => format!("{}, expected {}", found.value, found.expected),
                    };
                    let value = value.filter(|_| found.setting != "conditions");
                    problems.push(Problem::new(&name, value.as_deref(), expected));
                }
                base.clone()
            })
        };
        let all = check(Scope::All, &self.policy, &Policy::default());
        for (name, settings) in &self.circuit {
            let similar = in_variables(name);
            let base = match self.circuit.get(&similar) {
                Some(general) if similar != *name => check(Scope::Circuit(&similar), general, &all),
                _ => all.clone(),
            };
            check(Scope::Circuit(name), settings, &base);
        }
    }

    /// Returns where Redis is, if there is a URL.
    #[cfg(feature = "redis")]
    pub(super) fn redis(&self, problems: &mut Vec<Problem>) -> Option<RedisConfig> {
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
            let setting = match part {
                RedisPart::Address => "redis_url",
                RedisPart::CaFile => "redis_ca_file",
                RedisPart::Prefix => "prefix",
                RedisPart::CommandTimeout => "deadline",
            };
            problems.push(Problem::new(&self.name(Scope::All, setting), None, problem));
        }
        #[cfg(feature = "redis-tls")]
        if let Err(error) = redis.check_ca_file() {
            problems.push(Problem::new(&self.name(Scope::All, "redis_ca_file"), None, error));
        }
        Some(redis)
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn redis(&self, problems: &mut Vec<Problem>) {
        if self.redis_url.is_some() {
            let without = "this program was built without the feature `redis` of tower-breaker";
            problems.push(Problem::new(&self.name(Scope::All, "redis_url"), None, without));
        }
    }
}
