//! What a configuration says of circuits that the code makes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::event::log;
use crate::name::CircuitName;
use crate::policy::{Policy, PolicySettings};

/// The settings of a configuration, which change the policies of the code.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    all: PolicySettings,
    circuits: HashMap<String, PolicySettings>,
    /// Those that were logged because they do not fit: keys from requests must not fill the log.
    logged: Mutex<BTreeSet<String>>,
}

/// Returns the name of a circuit as variables write it: in upper case, and with `_` for each
/// character that is neither a letter nor a digit of ASCII.
pub(crate) fn in_variables(circuit: &str) -> String {
    let character = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    circuit.chars().map(character).collect()
}

impl Configured {
    pub(crate) fn new(all: PolicySettings, circuits: HashMap<String, PolicySettings>) -> Self {
        Self { all, circuits, logged: Mutex::default() }
    }

    /// Returns the default policy of the store, whose code has `code`.
    pub(super) fn default_policy(&self, code: Policy) -> Policy {
        self.all.over(&code).unwrap_or_else(|error| {
            log::configured(None, &error);
            self.all.over(&Policy::default()).unwrap_or(code)
        })
    }

    /// Returns the policy of a circuit whose code has `code`. Never call it under a lock: it may
    /// log.
    ///
    /// `layer` is the name of the layer that the circuit's key belongs to. `default` is the store's
    /// default policy.
    pub(super) fn policy(
        &self,
        circuit: &CircuitName,
        layer: Option<&CircuitName>,
        code: Policy,
        default: &Policy,
    ) -> Policy {
        if self.circuits.is_empty() {
            return code;
        }
        let settings = self.of(circuit, layer);
        let change = |base: &Policy| {
            let mut settings = settings.iter().map(|(_, settings)| settings);
            settings.try_fold(base.clone(), |policy, settings| settings.over(&policy))
        };
        change(&code).unwrap_or_else(|error| {
            if let Some((name, _)) = settings.last()
                && self.is_to_be_logged(name)
            {
                log::configured(Some(circuit.as_str()), &error);
            }
            change(default).unwrap_or(code)
        })
    }

    /// Returns the settings that concern a circuit, the most specific last.
    fn of(
        &self,
        circuit: &CircuitName,
        layer: Option<&CircuitName>,
    ) -> Vec<(String, &PolicySettings)> {
        let mut names: Vec<String> = Vec::new();
        for name in layer.into_iter().chain([circuit]).map(CircuitName::as_str) {
            for name in [in_variables(name), name.to_owned()] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let found = |name: String| self.circuits.get(&name).map(|settings| (name, settings));
        names.into_iter().filter_map(found).collect()
    }

    fn is_to_be_logged(&self, name: &str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.insert(name.to_owned())
    }
}

impl Clone for Configured {
    fn clone(&self) -> Self {
        Self::new(self.all.clone(), self.circuits.clone())
    }
}
