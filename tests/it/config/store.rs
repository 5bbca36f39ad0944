//! Settings of the store from the environment.

use std::fs;

use tower_breaker::config::{Config, Start};
use tower_breaker::event::BackendStatus;
use tower_breaker::{Outcome, Policy, State, Store};

use super::parse;
#[cfg(feature = "redis")]
use crate::support::redis::real;
use crate::support::*;

#[cfg(feature = "redis")]
#[test]
fn every_setting_is_read() {
    let config = parse(&[
        ("ENABLED", "off"),
        ("REDIS_URL", "redis://127.0.0.1"),
        ("REDIS_PASSWORD", "hunter2"),
        ("PREFIX", "shop"),
        ("START", "fail"),
        ("REPLICA", "pod-7"),
        ("DEADLINE", "20ms"),
        ("REPORT_INTERVAL", "1s"),
        ("BUDGET", "200"),
    ])
    .unwrap();
    assert_eq!(config.enabled, Some(false));
    assert_eq!(config.redis_url.as_deref(), Some("redis://127.0.0.1"));
    assert_eq!(config.redis_password.as_deref(), Some("hunter2"));
    assert_eq!(config.prefix.as_deref(), Some("shop"));
    assert_eq!(config.start, Start::Fail);
    assert_eq!(config.replica.as_deref(), Some("pod-7"));
    assert_eq!((config.deadline, config.report_interval), (Some(ms(20)), Some(s(1))));
    assert_eq!(config.budget, Some(200));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("127.0.0.1"), "{shown}");
}

#[test]
fn every_problem_is_reported_at_once_with_what_was_expected() {
    let error = parse(&[
        ("ENABLED", "maybe"),
        ("START", "later"),
        ("DEADLINE", "50"),
        ("REPORT_INTERVAL", "1h"),
        ("BUDGET", "-1"),
        ("REDIS_PASSWORD", "hunter2"),
    ])
    .unwrap_err();
    assert_eq!(error.problems().len(), 6);
    let shown = error.to_string();
    assert!(
        shown.contains("`CIRCUIT_BREAKER_DEADLINE` is \"50\", expected a time from 1ms to 10s")
    );
    assert!(shown.contains("`CIRCUIT_BREAKER_ENABLED` is \"maybe\", expected true or false"));
    assert!(
        shown.contains("`CIRCUIT_BREAKER_BUDGET` is \"-1\", expected a number from 1 to 100000")
    );
    assert!(shown.contains("`CIRCUIT_BREAKER_REDIS_PASSWORD`: has no effect without"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let long = parse(&[("BUDGET", &"9".repeat(10_000))]).unwrap_err();
    assert!(long.to_string().len() < 200);
}

#[cfg(feature = "redis")]
#[test]
fn problems_of_redis_settings_are_reported_by_their_variables() {
    let error = parse(&[
        ("DEADLINE", "50"),
        ("REDIS_URL", "http://u:hunter2@x/one#two"),
        ("PREFIX", "a b"),
        ("REDIS_CA_FILE", "/nowhere/ca.crt"),
    ])
    .unwrap_err();
    let shown = error.to_string();
    let of = |name: &str| {
        let name = format!("CIRCUIT_BREAKER_{name}");
        let of = error.problems().iter().filter(|problem| problem.variable() == name);
        of.map(|problem| problem.expected().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("DEADLINE").len(), of("PREFIX").len()), (1, 1), "{shown}");
    assert_eq!(of("REDIS_URL").len(), 3, "the scheme, the path, the fragment: {shown}");
    assert_eq!(of("REDIS_CA_FILE").len(), 1, "{shown}");
    assert!(of("PREFIX")[0].contains("1 to 64 bytes"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("http"), "{shown}");

    // An invalid URL does not hide other problems.
    let error = parse(&[("REDIS_URL", "hunter2"), ("PREFIX", "a b"), ("BUDGET", "no")]);
    let error = error.unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[cfg(feature = "redis")]
#[test]
fn a_password_may_have_a_variable_of_its_own() {
    parse(&[("REDIS_URL", "redis://u@127.0.0.1"), ("REDIS_PASSWORD", "hunter2")]).unwrap();
    let error = parse(&[("REDIS_URL", "redis://u@127.0.0.1")]).unwrap_err();
    assert!(error.to_string().contains("a user name needs a password"), "{error}");
}

#[cfg(feature = "redis")]
#[test]
fn settings_changed_in_code_are_checked_too() {
    let mut config = parse(&[("REDIS_URL", "redis://127.0.0.1")]).unwrap();
    config.prefix = Some("a b".to_owned());
    let error = real(config.connect()).expect_err("a bad prefix").to_string();
    assert!(error.contains("CIRCUIT_BREAKER_PREFIX"), "{error}");
}

#[cfg(feature = "redis-tls")]
#[test]
fn a_ca_file_is_read_and_one_without_a_certificate_is_refused() {
    let server = crate::support::redis::TlsServer::start();
    let file = server.ca_file();
    let with = |file: &str| parse(&[("REDIS_URL", "rediss://127.0.0.1"), ("REDIS_CA_FILE", file)]);
    let config = with(file.to_str().unwrap()).unwrap();
    assert_eq!(config.redis_ca_file.as_deref(), file.to_str());
    let error = with("Cargo.toml").unwrap_err();
    assert_eq!(error.problems()[0].variable(), "CIRCUIT_BREAKER_REDIS_CA_FILE", "{error}");
}

/// The command timeout is a part of the deadline.
#[cfg(feature = "redis")]
#[test]
fn every_accepted_deadline_starts_a_store() {
    let server = crate::support::redis::Server::start();
    real(async {
        for deadline in ["1ms", "1500us", "2ms", "2490us", "3ms", "10s"] {
            let config = parse(&[("DEADLINE", deadline), ("REDIS_URL", &server.url())]).unwrap();
            let store =
                config.connect().await.unwrap_or_else(|e| panic!("{deadline}: {e}")).build();
            assert_ne!(store.backend(), BackendStatus::None, "{deadline}");
        }
        for deadline in ["999us", "0", "10001ms"] {
            let error = parse(&[("DEADLINE", deadline)]).unwrap_err();
            assert_eq!(error.problems().len(), 1, "{deadline}");
        }
    });
}

#[test]
fn an_empty_variable_is_unset_and_an_unknown_one_is_no_error() {
    assert_eq!(parse(&[]).unwrap(), Config::default());
    assert_eq!(parse(&[("ENABLED", ""), ("REDIS_URL", "")]).unwrap(), Config::default());
    assert_eq!(parse(&[("REDIS_ULR", "redis://127.0.0.1")]).unwrap(), Config::default());
}

#[tokio::test(start_paused = true)]
async fn without_a_url_the_store_is_in_memory() {
    let store = parse(&[]).unwrap().connect().await.unwrap().build();
    assert_eq!(store.backend(), BackendStatus::None);
    assert_eq!(store.circuit("test").state(), State::Closed);
    assert!(store.shutdown(s(1)).await, "there is nothing to send");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_store_counts_nothing_and_uses_no_backend() {
    let settings = parse(&[("ENABLED", "false")]).unwrap().connect().await.unwrap();
    let backend = tower_breaker::backend::MemoryBackend::new();
    let store = settings.default_policy(fragile().build().unwrap()).backend(backend).build();
    let circuit = store.circuit("test");
    times(100, fail, &circuit);
    assert_state(&circuit, State::Disabled);
    assert_eq!((circuit.snapshot().tally.calls, store.backend()), (0, BackendStatus::None));
    hold(&circuit).settle(Outcome::Success);
}

/// The variables in `.env.example`, with their values there.
fn example() -> Vec<(String, String)> {
    let text = fs::read_to_string(".env.example").unwrap();
    let variables = text.lines().filter_map(|line| line.strip_prefix("#CIRCUIT_BREAKER_"));
    let split = variables.map(|line| line.split_once('=').expect("a variable and its value"));
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_example_can_be_used_as_it_is_and_changes_nothing() {
    let vars = example();
    let vars: Vec<_> = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let config = parse(&vars).unwrap();
    assert_eq!(config.policy.over(&Policy::default()).unwrap(), Policy::default());
    assert_eq!((config.enabled, config.prefix.as_deref()), (Some(true), Some("cb")));
    assert_eq!((config.start, config.redis_url), (Start::default(), None));
    let shown = format!("{:?}", Store::builder());
    for (field, default) in [
        ("deadline", format!("{:?}", config.deadline.unwrap())),
        ("report_interval", format!("{:?}", config.report_interval.unwrap())),
        ("budget", config.budget.unwrap().to_string()),
        ("limit", config.key_limit.unwrap().to_string()),
        ("idle", format!("{:?}", config.key_idle.unwrap())),
        ("named", config.latency_sample.unwrap().to_string()),
        ("of_keys", config.key_latency_sample.unwrap().to_string()),
    ] {
        assert!(shown.contains(&format!("{field}: {default}")), "{default} of {field}: {shown}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn an_error_of_store_redis_does_not_name_a_variable() {
    let shown = Store::redis("http://hunter2").await.unwrap_err().to_string();
    assert!(shown.contains("redis://") && !shown.contains("CIRCUIT_BREAKER"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn critical_circuits_of_the_configuration_are_added_to_those_of_the_code() {
    let config = parse(&[("CRITICAL", "payments,database")]).unwrap();
    let store = config.connect().await.unwrap().critical("search").build();
    for name in ["payments", "database", "search", "mail"] {
        store.circuit(name).force_open("test");
    }
    let health = store.health();
    let critical = health.circuits.iter().filter(|circuit| circuit.critical);
    let mut critical: Vec<_> = critical.map(|circuit| circuit.name.as_str()).collect();
    critical.sort_unstable();
    assert_eq!(critical, ["database", "payments", "search"]);
    assert_eq!(health.http_status(), 503);
}
