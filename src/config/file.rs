//! Settings as data of serde.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::data::{Config, Start};
use super::error::{Problem, may_be_secret};
use super::names::{self, STORE, Scope};
use crate::name::CircuitName;
use crate::policy::{PolicySettings, Raw, Setting, unknown};

/// Reads settings with the names that the [module](crate::config) lists. What is not set stays
/// unset.
///
/// Only text that is no TOML, YAML or JSON is an error here. A setting that is wrong or unknown is
/// an error of [`check`](Config::check), [`with_env`](Config::with_env) and
/// [`connect`](Config::connect), together with all others, because the error of a format may show
/// the line with the password.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let mut config = Self::default();
        config.origin.file = true;
        match raw {
            Raw::Table(table) => config.read_table(&table),
            Raw::Empty => {}
            Raw::Scalar(_) | Raw::List => config.problem("the file", None, "expected settings"),
        }
        Ok(config)
    }
}

impl Config {
    fn problem(&mut self, name: &str, value: Option<&str>, expected: &str) {
        self.origin.problems.push(Problem::new(name, value, expected));
    }

    fn read_table(&mut self, table: &[(String, Raw)]) {
        let mut policy = Vec::new();
        let mut seen = Vec::new();
        for (name, value) in table {
            let path = names::key(name);
            if Setting::named(name).is_some() {
                policy.push((name, value));
            } else if seen.contains(&name) {
                self.problem(&path, None, "is set twice");
            } else if name == "circuit" {
                self.read_circuits(value);
            } else if STORE.contains(&name.as_str()) {
                let read = value.text().map_err(str::to_owned);
                let read = read.and_then(|text| text.map_or(Ok(()), |text| self.read(name, text)));
                if let Err(expected) = read {
                    let shown = value.text().ok().flatten();
                    let expected =
                        if shown.is_some() { expected } else { format!("expected {expected}") };
                    self.problem(&path, shown, &expected);
                }
            } else {
                let policy = Setting::ALL.map(Setting::name);
                let known = STORE.into_iter().chain(policy).chain(["circuit"]);
                self.problem(&path, None, &unknown(name, known));
            }
            seen.push(name);
        }
        self.policy = self.read_policy(Scope::All, policy);
    }

    fn read_circuits(&mut self, circuits: &Raw) {
        let table = match circuits {
            Raw::Table(table) => table,
            Raw::Empty => return,
            Raw::Scalar(_) | Raw::List => {
                return self.problem("circuit", None, "expected circuits by name");
            }
        };
        for (name, settings) in table {
            let path = format!("circuit.{}", names::key(name));
            if let Err(error) = CircuitName::new(name.clone()) {
                self.problem(&path, None, &error.to_string());
                continue;
            }
            if self.circuit.contains_key(name) {
                self.problem(&path, None, "is set twice");
                continue;
            }
            let settings = match settings {
                Raw::Table(settings) => settings.iter().map(|(name, value)| (name, value)),
                Raw::Empty => continue,
                Raw::Scalar(_) | Raw::List => {
                    self.problem(&path, None, "expected the settings of this circuit");
                    continue;
                }
            };
            let settings = self.read_policy(Scope::Circuit(name), settings.collect());
            self.circuit.insert(name.clone(), settings);
        }
    }

    fn read_policy(&mut self, scope: Scope<'_>, table: Vec<(&String, &Raw)>) -> PolicySettings {
        PolicySettings::read(table, |name, value, expected| {
            self.problem(&names::path(scope, name), value, expected);
        })
    }
}

/// Writes the settings that are set, without the password, and without a URL that could contain
/// one.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn put<M: SerializeMap, T: Serialize>(
            map: &mut M,
            name: &'static str,
            value: Option<T>,
        ) -> Result<(), M::Error> {
            value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
        }
        fn shown(text: Option<&String>) -> Option<&String> {
            text.filter(|text| !may_be_secret(text))
        }
        let time = |time: Duration| match time {
            Duration::MAX => "off".to_owned(),
            time => humantime::format_duration(time).to_string(),
        };
        let mut map = serializer.serialize_map(None)?;
        put(&mut map, "enabled", self.enabled)?;
        put(&mut map, "redis_url", self.redis_url.as_deref().filter(|url| has_no_secret(url)))?;
        put(&mut map, "redis_ca_file", shown(self.redis_ca_file.as_ref()))?;
        put(&mut map, "prefix", shown(self.prefix.as_ref()))?;
        let start = (self.start != Start::default()).then(|| self.start.name());
        put(&mut map, "start", start)?;
        put(&mut map, "replica", shown(self.replica.as_ref()))?;
        put(&mut map, "deadline", self.deadline.map(time))?;
        put(&mut map, "report_interval", self.report_interval.map(time))?;
        put(&mut map, "budget", self.budget)?;
        put(&mut map, "key_limit", self.key_limit)?;
        put(&mut map, "key_idle", self.key_idle.map(time))?;
        put(&mut map, "latency_sample", self.latency_sample)?;
        put(&mut map, "key_latency_sample", self.key_latency_sample)?;
        put(&mut map, "critical", self.critical.as_ref().map(listed).filter(|it| !it.is_empty()))?;
        for (name, value) in self.policy.iter() {
            map.serialize_entry(name, &value)?;
        }
        // At the end, as TOML asks for.
        put(&mut map, "circuit", Some(&self.circuit).filter(|circuits| !circuits.is_empty()))?;
        map.end()
    }
}

/// Returns names with commas between them. One with a comma of its own cannot be written.
fn listed(names: &BTreeSet<CircuitName>) -> String {
    let names = names.iter().map(CircuitName::as_str).filter(|name| !name.contains(','));
    names.collect::<Vec<_>>().join(",")
}

/// Whether a URL certainly contains no password. Others are not written: a URL that is mistyped may
/// have it anywhere.
fn has_no_secret(url: &str) -> bool {
    let url = url.to_ascii_lowercase();
    let schemes = ["redis", "rediss"]
        .iter()
        .flat_map(|scheme| ["", "-sentinel", "-cluster"].map(|kind| format!("{scheme}{kind}://")));
    let rest = schemes.into_iter().find_map(|scheme| url.strip_prefix(&scheme).map(str::to_owned));
    rest.is_some_and(|rest| !rest.contains(['@', '%', '#', '\\']) && !rest.contains("pass"))
}
