//! How settings are named: in variables, and in files.

use crate::policy::{Setting, nearest};
use crate::store::in_variables;

pub(super) const PREFIX: &str = "CIRCUIT_BREAKER_";

/// What comes between the prefix and the name of a circuit.
pub(super) const CIRCUIT: &str = "CIRCUIT_";

/// The settings of a store, as files name them. Variables have the same names in upper case.
pub(super) const STORE: [&str; 15] = [
    "enabled",
    "redis_url",
    "redis_password",
    "redis_ca_file",
    "prefix",
    "start",
    "replica",
    "deadline",
    "report_interval",
    "budget",
    "key_limit",
    "key_idle",
    "latency_sample",
    "key_latency_sample",
    "critical",
];

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope<'a> {
    /// The store, and all circuits.
    All,
    /// The circuits with this name, or with names that variables write like this.
    Circuit(&'a str),
}

/// Returns the variable of a setting.
pub(super) fn variable(scope: Scope<'_>, setting: &str) -> String {
    let setting = setting.to_ascii_uppercase();
    match scope {
        Scope::All => format!("{PREFIX}{setting}"),
        Scope::Circuit(name) => format!("{PREFIX}{CIRCUIT}{}_{setting}", in_variables(name)),
    }
}

/// Returns the way to a setting in a file.
pub(super) fn path(scope: Scope<'_>, setting: &str) -> String {
    match scope {
        Scope::All => key(setting),
        Scope::Circuit(name) => format!("circuit.{}.{}", key(name), key(setting)),
    }
}

/// Writes what is no plain word in quotes, with its control characters escaped.
pub(super) fn key(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 128 && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let shown: String = name.chars().take(128).collect();
    format!("{shown:?}")
}

/// A known variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Store(&'static str),
    Policy(Scope<'a>, Setting),
}

/// Returns what a variable sets, from its name without the prefix.
pub(super) fn find(name: &str) -> Option<Variable<'_>> {
    let known = |setting: &str| name == setting.to_ascii_uppercase();
    if let Some(setting) = STORE.into_iter().find(|setting| known(setting)) {
        return Some(Variable::Store(setting));
    }
    if let Some(setting) = Setting::ALL.into_iter().find(|setting| known(setting.name())) {
        return Some(Variable::Policy(Scope::All, setting));
    }
    let rest = name.strip_prefix(CIRCUIT)?;
    // Without a name it would end like another setting: `LONGEST_OPEN_FOR`.
    if Setting::ALL.into_iter().any(|setting| rest == setting.name().to_ascii_uppercase()) {
        return None;
    }
    let ending = |setting: &Setting| {
        let ending = format!("_{}", setting.name().to_ascii_uppercase());
        rest.strip_suffix(ending.as_str()).filter(|name| !name.is_empty())
    };
    let found = Setting::ALL.into_iter().filter_map(|s| ending(&s).map(|circuit| (circuit, s)));
    // The longest ending: LONGEST_OPEN_FOR, and not OPEN_FOR.
    let (circuit, setting) = found.min_by_key(|(circuit, _)| circuit.len())?;
    // Only names as variables write them, so that no two variables set the same.
    (in_variables(circuit) == circuit).then_some(Variable::Policy(Scope::Circuit(circuit), setting))
}

/// Returns the known variable whose name is nearest to this one, which has no prefix.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
    let settings = || Setting::ALL.map(|setting| setting.name().to_ascii_uppercase());
    let known = STORE.map(str::to_ascii_uppercase).into_iter().chain(settings());
    let mut found = nearest(name, known);
    if let Some(rest) = name.strip_prefix(CIRCUIT)
        && rest.len() <= 256
    {
        for (at, _) in rest.match_indices('_').filter(|(at, _)| *at > 0) {
            let circuit = in_variables(&rest[..at]);
            if let Some((edits, setting)) = nearest(&rest[at + 1..], settings())
                && found.as_ref().is_none_or(|(least, _)| edits < *least)
            {
                found = Some((edits, format!("{CIRCUIT}{circuit}_{setting}")));
            }
        }
    }
    found.map(|(_, near)| format!("{PREFIX}{near}"))
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_a_setting_and_a_circuit() {
        let of = |circuit| Scope::Circuit(circuit);
        let found = [
            ("ENABLED", Some(Variable::Store("enabled"))),
            ("OPEN_FOR", Some(Variable::Policy(Scope::All, Setting::OpenFor))),
            ("CIRCUIT_A_OPEN_FOR", Some(Variable::Policy(of("A"), Setting::OpenFor))),
            ("CIRCUIT_A_LONGEST_OPEN_FOR", {
                Some(Variable::Policy(of("A"), Setting::LongestOpenFor))
            }),
            ("CIRCUIT__A_B__PROBES", Some(Variable::Policy(of("_A_B_"), Setting::Probes))),
            ("CIRCUIT_CIRCUIT_PRESET", Some(Variable::Policy(of("CIRCUIT"), Setting::Preset))),
            ("CIRCUIT_A_SLOW_CALL_RATE_PROBES", {
                Some(Variable::Policy(of("A_SLOW_CALL_RATE"), Setting::Probes))
            }),
            ("CIRCUIT_LONGEST_OPEN_FOR", None),
            ("CIRCUIT__PROBES", None),
            ("CIRCUIT_PROBES", None),
            ("CIRCUIT_a_PROBES", None),
            ("CIRCUIT_A_ENABLED", None),
            ("CIRCUIT_A", None),
            ("enabled", None),
            ("", None),
        ];
        for (name, variable) in found {
            assert_eq!(find(name), variable, "{name}");
        }
        for setting in Setting::ALL {
            for circuit in ["A", "PAYMENTS_API_2", "___"] {
                let name = variable(of(circuit), setting.name());
                let name = name.strip_prefix(PREFIX).unwrap();
                assert_eq!(find(name), Some(Variable::Policy(of(circuit), setting)), "{name}");
            }
        }
    }

    #[test]
    fn a_misspelled_variable_is_near_to_the_one_that_was_meant() {
        let meant = [
            ("REDIS_ULR", Some("CIRCUIT_BREAKER_REDIS_URL")),
            ("FAILURE_RAET", Some("CIRCUIT_BREAKER_FAILURE_RATE")),
            ("OPENFOR", Some("CIRCUIT_BREAKER_OPEN_FOR")),
            ("CIRCUIT_A_B_FAILURERATE", Some("CIRCUIT_BREAKER_CIRCUIT_A_B_FAILURE_RATE")),
            ("CIRCUIT_payments_PROBES", Some("CIRCUIT_BREAKER_CIRCUIT_PAYMENTS_PROBES")),
            ("SERVICE_HOST", None),
            ("PORT_8080_TCP_ADDR", None),
        ];
        for (name, near) in meant {
            assert_eq!(nearest_variable(name).as_deref(), near, "{name}");
        }
    }

    #[test]
    fn a_way_in_a_file_is_quoted_where_it_must_be() {
        assert_eq!(path(Scope::Circuit("payments-api"), "probes"), "circuit.payments-api.probes");
        let path = path(Scope::Circuit("a.b\n\u{1b}[31m"), "probes");
        assert_eq!(path, r#"circuit."a.b\n\u{1b}[31m".probes"#);
        assert_eq!(in_variables("outbound:api.example.com"), "OUTBOUND_API_EXAMPLE_COM");
        assert_eq!(in_variables("zählen"), "Z_HLEN");
    }

    /// The rows of the tables in the docs of the module: variable, field, default.
    fn documented() -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = include_str!("mod.rs").lines().filter_map(|l| l.strip_prefix("//! | `CIRC"));
        rows.map(|row| {
            let cells: Vec<_> = row.split(" | ").collect();
            let cell = |n: usize| cells[n].trim_end_matches(" |").trim_matches('`');
            (cell(0), cell(1), cell(3))
        })
        .collect()
    }

    #[test]
    fn the_docs_list_every_setting_and_no_other() {
        let known: Vec<_> = STORE.into_iter().chain(Setting::ALL.map(Setting::name)).collect();
        let rows = documented();
        let fields: Vec<_> = rows.iter().map(|(_, field, _)| *field).collect();
        assert_eq!(fields, known);
        for (name, field, _) in rows {
            assert_eq!(format!("CIRC{name}"), variable(Scope::All, field));
        }
    }

    #[test]
    fn the_example_lists_every_variable_with_the_documented_default() {
        let example = std::fs::read_to_string(".env.example").unwrap();
        let lines = example.lines().filter_map(|line| line.strip_prefix("#CIRC"));
        let listed: Vec<_> = lines.map(|line| line.split_once('=').unwrap()).collect();
        let is_value = |default: &str| !default.contains(' ');
        let documented: Vec<_> = documented()
            .into_iter()
            .map(|(name, _, default)| (name, if is_value(default) { default } else { "" }))
            .collect();
        assert_eq!(listed, documented);
    }
}
