//! The one reader of the environment.

use std::collections::BTreeMap;

use super::data::Config;
use super::error::{ConfigError, Problem};
use super::names::{self, PREFIX, Scope, Variable};
use crate::event::log;
use crate::policy::PolicySettings;
use crate::store::in_variables;

impl Config {
    /// Reads the environment of this process.
    ///
    /// An unknown variable that begins with `CIRCUIT_BREAKER_` is logged as a warning, with the
    /// known one whose name is nearest.
    ///
    /// # Errors
    ///
    /// Returns an error that names every wrong variable and what was expected. It shows the value,
    /// unless that may contain a secret. If there is a URL, it also checks the Redis settings and
    /// reads the CA file, even if circuits are not enabled.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::default().with_env()
    }

    /// Reads `vars` instead of the environment. Variables with other prefixes are ignored.
    ///
    /// # Errors
    ///
    /// Like [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        Self::default().with_vars(vars)
    }

    /// Reads the environment over these settings, which come from a file or from code. A variable
    /// replaces the setting of the same name. [The module](crate::config#files) has an example.
    ///
    /// # Errors
    ///
    /// Returns an error that names every wrong setting, of the file and of the environment.
    /// Otherwise like [`from_env`](Self::from_env).
    pub fn with_env(self) -> Result<Self, ConfigError> {
        self.with_vars(variables())
    }

    /// Reads `vars` over these settings, instead of the environment.
    ///
    /// # Errors
    ///
    /// Like [`with_env`](Self::with_env).
    pub fn with_vars<K, V>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut wrong = Vec::new();
        let mut all = PolicySettings::default();
        let mut circuits: BTreeMap<String, PolicySettings> = BTreeMap::new();
        for (name, value) in vars {
            let (name, value) = (name.into(), value.into());
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !value.is_empty()) else {
                continue;
            };
            let read = match names::find(rest) {
                Some(Variable::Store(setting)) => self.read(setting, &value),
                Some(Variable::Policy(scope, setting)) => {
                    setting.read(&value).map(|value| match scope {
                        Scope::All => all.set(setting, value),
                        Scope::Circuit(circuit) => {
                            circuits.entry(circuit.to_owned()).or_default().set(setting, value);
                        }
                    })
                }
                None => {
                    log::unknown_variable(&name, names::nearest_variable(rest).as_deref());
                    continue;
                }
            };
            if let Err(expected) = read {
                wrong.push(Problem::new(&name, Some(&value), expected));
            }
            self.origin.variables.insert(name);
        }
        self.policy.change(&all);
        self.change_circuits(&circuits);
        self.origin.problems.extend(wrong);
        self.check()?;
        Ok(self)
    }

    /// Changes the settings of circuits, which are named as in variables. What a file has for a
    /// circuit by its own name is changed too: otherwise it would hold.
    fn change_circuits(&mut self, circuits: &BTreeMap<String, PolicySettings>) {
        for (name, settings) in &mut self.circuit {
            if let Some(upper) = circuits.get(&in_variables(name)) {
                settings.change(upper);
            }
        }
        for (name, settings) in circuits {
            self.circuit.entry(name.clone()).or_insert_with(|| settings.clone());
        }
    }
}

/// Returns our variables. A value that is not UTF-8 is read as well as possible; the setting's own
/// check then refuses it.
fn variables() -> Vec<(String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    let variables = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    variables.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}
