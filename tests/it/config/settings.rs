//! Every setting: its default, valid and invalid values, as a variable and in a file.

use tower_breaker::Policy;
use tower_breaker::config::{Config, Start};
use tower_breaker::policy::{Cancelled, PolicyBuilder};

#[cfg(feature = "serde")]
use super::file;
use super::{over, parse, problems};
use crate::support::*;

type Change = fn(PolicyBuilder) -> PolicyBuilder;

/// A setting of a policy.
struct Setting {
    name: &'static str,
    /// What must be set too.
    with: &'static [(&'static str, &'static str)],
    default: &'static str,
    valid: &'static [(&'static str, Change)],
    /// Values, and what the error says.
    invalid: &'static [(&'static str, &'static str)],
}

const WHOLE: &str = "expected a whole number from 1 to 18446744073709551615";
const TIME: &str = "expected a time with its unit, as in 30s or 500ms";
const SHARE: &str = "expected a fraction from 0 to 1, as in 0.5";
const RATE: &str = "expected a fraction, more than 0 and at most 1";
const SLOW: &[(&str, &str)] = &[("slow_call_duration", "2s")];

const fn setting(
    name: &'static str,
    default: &'static str,
    valid: &'static [(&'static str, Change)],
    invalid: &'static [(&'static str, &'static str)],
) -> Setting {
    Setting { name, with: &[], default, valid, invalid }
}

const POLICY: [Setting; 19] = [
    setting(
        "preset",
        "default",
        &[
            ("default", |builder| builder),
            ("database", |_| Policy::database().to_builder()),
            ("CACHE", |_| Policy::cache().to_builder()),
            ("http_api", |_| Policy::http_api().to_builder()),
            (" authentication ", |_| Policy::authentication().to_builder()),
        ],
        &[("off", "expected default, database, cache, http_api or authentication")],
    ),
    setting(
        "consecutive_failures",
        "5",
        &[
            ("1", |builder| builder.consecutive_failures(1)),
            ("18446744073709551615", |builder| builder.consecutive_failures(u64::MAX)),
            ("off", PolicyBuilder::without_consecutive_failures),
            ("None", PolicyBuilder::without_consecutive_failures),
        ],
        &[("0", "is \"0\", expected 1 or more"), ("18446744073709551616", WHOLE), ("5.5", WHOLE)],
    ),
    setting(
        "failure_rate",
        "0.5",
        &[
            ("0.3", |builder| builder.failure_rate(0.3)),
            ("1", |builder| builder.failure_rate(1.0)),
            ("1e-6", |builder| builder.failure_rate(1e-6)),
            ("off", PolicyBuilder::without_failure_rate),
        ],
        &[
            ("0", RATE),
            ("-0.1", RATE),
            ("50", "at most 1; did you mean 0.5?"),
            ("30%", "as in 0.5, or off; did you mean 0.3?"),
            ("half", SHARE),
        ],
    ),
    setting(
        "failure_count",
        "off",
        &[("7", |builder| builder.failure_count(7)), ("off", PolicyBuilder::without_failure_count)],
        &[("0", "expected 1 or more"), ("-1", WHOLE)],
    ),
    Setting {
        with: SLOW,
        ..setting(
            "slow_call_rate",
            "off",
            &[
                ("0.8", |b| b.slow_call_rate(0.8).slow_call_duration(s(2))),
                ("off", |b| b.slow_call_duration(s(2))),
            ],
            &[("1.1", RATE), ("80", "did you mean 0.8?")],
        )
    },
    setting(
        "slow_call_duration",
        "off",
        &[
            ("100ms", |builder| builder.slow_call_duration(ms(100))),
            ("1m 30s", |builder| builder.slow_call_duration(s(90))),
            ("off", |builder| builder),
        ],
        &[("0s", "expected more than zero"), ("2", "did you mean 2s?"), ("-2s", TIME)],
    ),
    setting(
        "minimum_calls",
        "20",
        &[("100", |builder| builder.minimum_calls(100))],
        &[("0", "expected 1 or more"), ("off", WHOLE)],
    ),
    setting(
        "time_window",
        "60s",
        &[("10s", |builder| builder.time_window(s(10))), ("off", PolicyBuilder::no_window)],
        &[("0s", "expected more than zero"), ("60", "or off; did you mean 60s?")],
    ),
    setting(
        "time_window_buckets",
        "10",
        &[("3600", |builder| builder.time_window_in_buckets(s(60), 3600))],
        &[("0", "1 to 3600"), ("3601", "1 to 3600"), ("99999999999", "1 to 3600"), ("x", WHOLE)],
    ),
    setting(
        "count_window",
        "",
        &[("100", |builder| builder.count_window(100)), ("off", PolicyBuilder::no_window)],
        &[("0", "1 to 1000000"), ("1000001", "1 to 1000000"), ("10s", WHOLE)],
    ),
    setting(
        "open_for",
        "30s",
        &[("5s", |builder| builder.open_for(s(5))), ("1h", |builder| builder.open_for(s(3600)))],
        &[("0s", "expected more than zero"), ("30", "did you mean 30s?"), ("off", TIME)],
    ),
    setting(
        "backoff",
        "2",
        &[
            ("1", |builder| builder.backoff(1.0, s(300))),
            ("1.5", |builder| builder.backoff(1.5, s(300))),
        ],
        &[("0.9", "expected a finite number, 1 or more"), ("inf", "1 or more, as in 1.5")],
    ),
    setting(
        "longest_open_for",
        "5m",
        &[
            ("10m", |builder| builder.backoff(2.0, s(600))),
            ("10s", |builder| builder.backoff(2.0, s(10))),
        ],
        &[("0s", "expected at least open_for"), ("300", "did you mean 300s?")],
    ),
    setting(
        "jitter",
        "0.1",
        &[
            ("0", |builder| builder.jitter(0.0)),
            ("off", |builder| builder.jitter(0.0)),
            ("1", |builder| builder.jitter(1.0)),
        ],
        &[("1.1", "a fraction, from 0 to 1"), ("10", "did you mean 0.1?"), ("NaN", SHARE)],
    ),
    setting("probes", "3", &[("1", |builder| builder.probes(1))], &[("0", "expected 1 or more")]),
    setting(
        "successes_to_close",
        "2",
        &[("9", |builder| builder.successes_to_close(9))],
        &[("0", "expected 1 or more")],
    ),
    setting(
        "probe_lease",
        "10s",
        &[("1s", |builder| builder.probe_lease(s(1)))],
        &[("0s", "expected more than zero"), ("ten seconds", TIME)],
    ),
    setting(
        "cancelled",
        "failure_if_slow",
        &[
            ("failure_if_slow", |builder| builder),
            ("failure", |builder| builder.cancelled(Cancelled::Failure)),
            ("ignored", |builder| builder.cancelled(Cancelled::Ignored)),
        ],
        &[("success", "expected failure_if_slow, failure or ignored")],
    ),
    setting("quorum", "1", &[("2", |builder| builder.quorum(2))], &[("0", "expected 1 or more")]),
];

/// A setting of the store: valid values, and what `Debug` shows then.
type StoreSetting =
    (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const STORE: [StoreSetting; 15] = [
    ("enabled", &[("true", "Some(true)"), ("0", "Some(false)"), ("OFF", "Some(false)")], &["x"]),
    ("redis_url", &[], &[]),
    ("redis_password", &[], &[]),
    ("redis_ca_file", &[], &[]),
    ("prefix", &[("shop", "Some(\"shop\")")], &[]),
    ("start", &[("fail", "Fail"), ("Degraded", "Degraded")], &["later", "true"]),
    ("replica", &[("pod-7", "Some(\"pod-7\")"), ("ü", "Some(\"ü\")")], &[]),
    ("deadline", &[("1ms", "Some(1ms)"), ("10s", "Some(10s)")], &["50", "0s", "11s", "-1s", "off"]),
    ("report_interval", &[("10ms", "Some(10ms)")], &["9ms", "11s", "1e3s", "ms"]),
    ("budget", &[("1", "Some(1)"), ("100000", "Some(100000)")], &["0", "100001", "-1", "5.5"]),
    ("key_limit", &[("0", "Some(0)"), ("10000000", "Some(10000000)")], &["10000001", "-1", "off"]),
    ("key_idle", &[("1s", "Some(1s)"), ("off", "Some(18446744073709551615")], &["999ms", "10"]),
    ("latency_sample", &[("1", "Some(1)"), ("off", "Some(0)")], &["-1", "1000001", "1/64"]),
    ("key_latency_sample", &[("16", "Some(16)"), ("0", "Some(0)")], &["0.5", "all"]),
    (
        "critical",
        &[("b, payments-api", "Some({\"b\", \"payments-api\"})"), ("Ü:x", "Some({\"Ü:x\"})")],
        &[",", "a,", "a,,b", " "],
    ),
];

/// The ways to give a setting to the store and all circuits, or to one circuit: which is found
/// under the name of the second value.
fn ways(settings: &[(&str, &str)]) -> Vec<(Result<Config, String>, Option<&'static str>)> {
    let upper = |before: &str| {
        let named = |(name, value): &(&str, &str)| {
            (format!("{before}{}", name.to_ascii_uppercase()), (*value).to_owned())
        };
        settings.iter().map(named).collect::<Vec<_>>()
    };
    let variables = |before: &str| {
        let vars = upper(before);
        let vars: Vec<_> = vars.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        over(Config::default(), &vars).map_err(|error| error.to_string())
    };
    #[cfg_attr(not(feature = "serde"), expect(unused_mut, reason = "files are ways too"))]
    let mut ways = vec![(variables(""), None), (variables("CIRCUIT_UP_1_"), Some("UP_1"))];
    #[cfg(feature = "serde")]
    for quoted in [true, false] {
        let line = |(name, value): &(&str, &str)| {
            if quoted || value.parse::<i64>().is_err() && value.parse::<f64>().is_err() {
                format!("{name} = {}\n", toml::Value::from(*value))
            } else {
                format!("{name} = {}\n", value.to_lowercase())
            }
        };
        let lines: String = settings.iter().map(line).collect();
        // TOML has no integer as large as the largest.
        let Ok(all) = toml::from_str::<Config>(&lines) else { continue };
        let circuit = file(&format!("[circuit.\"up 1\"]\n{lines}"));
        for (config, name) in [(all, None), (circuit, Some("up 1"))] {
            let checked = config.check().map_err(|error| error.to_string());
            ways.push((checked.map(|()| config), name));
        }
    }
    ways
}

#[test]
fn every_setting_of_a_policy_takes_its_values_from_a_variable_and_from_a_file() {
    for Setting { name, with, valid, .. } in &POLICY {
        for (value, change) in *valid {
            let expected = change(Policy::builder()).build().unwrap();
            let settings: Vec<_> = with.iter().copied().chain([(*name, *value)]).collect();
            for (config, circuit) in ways(&settings) {
                let config = config.unwrap_or_else(|error| panic!("{name}={value}: {error}"));
                let settings = match circuit {
                    Some(circuit) => &config.circuit[circuit],
                    None => &config.policy,
                };
                let policy = settings.over(&Policy::default()).unwrap();
                assert_eq!(policy, expected, "{name}={value} for {circuit:?}");
            }
        }
    }
}

#[test]
fn every_wrong_value_is_named_with_what_to_write() {
    for Setting { name, with, invalid, .. } in &POLICY {
        for (value, expected) in *invalid {
            let settings: Vec<_> = with.iter().copied().chain([(*name, *value)]).collect();
            let ways = ways(&settings);
            let upper = name.to_ascii_uppercase();
            let names = [
                format!("`CIRCUIT_BREAKER_{upper}` is "),
                format!("`CIRCUIT_BREAKER_CIRCUIT_UP_1_{upper}` is "),
                format!("`{name}` is "),
                format!("`circuit.\"up 1\".{name}` is "),
            ];
            for ((config, _), shown) in ways.into_iter().zip(names.iter().chain(&names[2..])) {
                let error = config.expect_err(value);
                assert!(error.contains(shown), "{name}={value}: {error}");
                assert!(error.contains(expected), "{name}={value}: {error}");
            }
        }
    }
}

#[test]
fn every_documented_default_is_the_real_one() {
    for Setting { name, default, .. } in &POLICY {
        let upper = name.to_ascii_uppercase();
        let config = parse(&[(&upper, default)]).unwrap();
        assert_eq!(config.policy.over(&Policy::default()).unwrap(), Policy::default(), "{name}");
    }
    // Of the tables here, in `.env.example` and in the docs, each has what the other two have.
    let text = std::fs::read_to_string(".env.example").unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#CIRCUIT_BREAKER_"));
    let listed: Vec<_> = lines.map(|line| line.split_once('=').unwrap()).collect();
    let names = STORE.map(|(name, ..)| name).into_iter().chain(POLICY.iter().map(|row| row.name));
    let names: Vec<_> = names.map(str::to_ascii_uppercase).collect();
    assert_eq!(listed.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    let defaults = POLICY.iter().map(|row| row.default);
    assert!(listed[STORE.len()..].iter().map(|(_, value)| *value).eq(defaults), "{listed:?}");
}

#[test]
fn every_setting_of_the_store_takes_its_values_and_refuses_others() {
    for (name, valid, invalid) in STORE {
        for (value, shown) in valid {
            for (config, _) in ways(&[(name, value)]).into_iter().filter(|(_, c)| c.is_none()) {
                let config = config.unwrap_or_else(|error| panic!("{name}={value}: {error}"));
                let debug = format!("{config:?}");
                assert!(debug.contains(&format!("{name}: {shown}")), "{name}={value}: {debug}");
            }
        }
        for value in invalid {
            for (config, _) in ways(&[(name, value)]).into_iter().filter(|(_, c)| c.is_none()) {
                let error = config.expect_err(value);
                let named = [name, &format!("CIRCUIT_BREAKER_{}", name.to_ascii_uppercase())]
                    .iter()
                    .any(|name| error.contains(&format!("`{name}` is ")));
                assert!(named && error.contains(", expected "), "{name}={value}: {error}");
            }
        }
    }
}

#[test]
fn odd_values_are_problems_and_not_panics() {
    let nines = "9".repeat(10_000);
    let long = "é".repeat(10_000);
    let odd = [
        "-1",
        "-0",
        "NaN",
        "-inf",
        "1e400",
        "1e-400",
        "0x10",
        "٣",
        "½",
        "🦀",
        "\0",
        " ",
        "%",
        "1 %",
        "\u{1b}[31m",
        "a\nb",
        "99999999999999999999s",
        "1e18years",
        "584542046091y",
        "null",
        "+5",
        "1_000",
        &nines,
        &long,
    ];
    let names = POLICY.iter().map(|row| row.name).chain(STORE.map(|(name, ..)| name));
    for name in names.filter(|name| !name.starts_with("redis")) {
        for value in odd {
            for (config, _) in ways(&[(name, value)]) {
                let Err(error) = config else { continue };
                assert!(error.len() < 800 && !error.contains(['\n', '\u{1b}', '\0']), "{error}");
            }
        }
    }
    for name in POLICY.iter().map(|row| row.name) {
        let unset = parse(&[(&name.to_ascii_uppercase(), "")]).unwrap();
        assert_eq!(unset, Config::default(), "an empty {name} is not set");
    }
    assert_eq!(parse(&[("START", "")]).unwrap().start, Start::Degraded);
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let cases: [(&[(&str, &str)], &str); 7] = [
        (
            &[("TIME_WINDOW", "10s"), ("COUNT_WINDOW", "100")],
            "`CIRCUIT_BREAKER_COUNT_WINDOW` is \"100\", expected off, or not set: time_window is set",
        ),
        (
            &[("COUNT_WINDOW", "100"), ("TIME_WINDOW_BUCKETS", "5")],
            "`CIRCUIT_BREAKER_TIME_WINDOW_BUCKETS` is \"5\", expected a time_window with it",
        ),
        (
            &[("SLOW_CALL_RATE", "0.5")],
            "`CIRCUIT_BREAKER_SLOW_CALL_DURATION`: not set, expected a limit: slow_call_rate needs",
        ),
        (
            &[("OPEN_FOR", "10m"), ("LONGEST_OPEN_FOR", "1m")],
            "`CIRCUIT_BREAKER_LONGEST_OPEN_FOR` is \"1m\", expected at least open_for (600s)",
        ),
        (
            &[("FAILURE_COUNT", "11"), ("COUNT_WINDOW", "10")],
            "`CIRCUIT_BREAKER_FAILURE_COUNT` is \"11\", expected at most count_window (10)",
        ),
        (
            &[("CONSECUTIVE_FAILURES", "off"), ("FAILURE_RATE", "off")],
            "`CIRCUIT_BREAKER_CONSECUTIVE_FAILURES`: none, expected at least one, or the circuit",
        ),
        (
            &[("TIME_WINDOW", "off"), ("FAILURE_RATE", "0.5")],
            "`CIRCUIT_BREAKER_FAILURE_RATE` is \"0.5\", expected a time_window or count_window",
        ),
    ];
    for (vars, expected) in cases {
        let shown = problems(parse(vars));
        assert!(shown.len() == 1 && shown[0].starts_with(expected), "{shown:?}");
    }
}
