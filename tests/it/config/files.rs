//! Configurations as data.

use std::collections::BTreeMap;

use tower_breaker::config::{Config, Start};
use tower_breaker::{Policy, Store};

use super::{file, over, parse, problems};
use crate::support::log::Log;
use crate::support::*;

const URLS: [&str; 9] = [
    "redis://:hunter2@127.0.0.1:6379",
    "redis://user:hunter2@127.0.0.1",
    "rediss://user:hunter2@127.0.0.1/0",
    "redis-sentinel://10.0.0.1?sentinelServiceName=main&sentinelPassword=hunter2",
    "redis://user:hunter2%40@127.0.0.1",
    "http://u:hunter2@x/one#two",
    "redis:/u:hunter2@x",
    "hunter2",
    "redis://127.0.0.1/hunter2@x",
];

#[test]
fn a_password_is_in_no_error_no_log_no_debug_and_no_data() {
    let log = Log::default();
    let _guard = log.listen();
    let mut shown = Vec::new();
    let quoted = |text: &str| toml::Value::from(text).to_string();
    for url in URLS {
        // With something wrong beside it, and in the wrong place.
        for text in [
            format!("redis_url = {}\nprefix = \"a b\"", quoted(url)),
            format!("redis_url = {}\ndeadline = 5\nredis_ulr = {0}", quoted(url)),
            format!("redis_url = [{}]", quoted(url)),
            format!("redis_url = {{ url = {} }}", quoted(url)),
            format!("redis_password = \"hunter2\"\nprefix = {0}\nreplica = {0}", quoted(url)),
            format!("start = {0}\nfailure_rate = {0}\ncircuit.a.open_for = {0}", quoted(url)),
        ] {
            // What looks like no URL is shown where none is expected.
            if url == "hunter2" && (text.contains("start") || text.contains("redis_password")) {
                continue;
            }
            let config = file(&text);
            shown.push(format!("{config:?}"));
            shown.push(toml::to_string(&config).unwrap());
            if let Err(error) = config.check() {
                shown.push(format!("{error} {error:?}"));
            }
            if let Err(error) = config.with_env() {
                shown.push(format!("{error} {error:?}"));
            }
        }
        if let Err(error) = parse(&[("REDIS_ULR", url), ("START", url), ("REDIS_URL", url)]) {
            shown.push(format!("{error} {error:?}"));
        }
    }
    shown.push(toml::to_string(&parse(&[]).unwrap()).unwrap());
    shown.extend(log.lines());
    let leaks: Vec<_> = shown
        .iter()
        .filter(|text| text.contains("hunter2") && !text.contains("START` is \"hunter2\""))
        .collect();
    assert!(shown.len() > 100 && leaks.is_empty(), "{leaks:#?}");
}

#[cfg(feature = "redis")]
#[test]
fn a_url_is_written_if_it_has_no_place_for_a_password() {
    let written = |url: &str| {
        let config = over(Config::default(), &[("REDIS_URL", url)]).unwrap();
        toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap().redis_url
    };
    for url in ["redis://127.0.0.1:6379/1", "redis-cluster://a:1?node=b:2"] {
        assert_eq!(written(url).as_deref(), Some(url));
    }
    assert_eq!(written("redis://u:hunter2@127.0.0.1"), None);
}

#[test]
fn every_problem_of_a_file_and_of_the_environment_is_reported_at_once() {
    let config = file(
        r#"
        deadline = 50
        budget = [1]
        failure_raet = 0.5
        failure_rate = 50
        circuits = 1
        [circuit."a\nb"]
        open_for = "soon"
        enabled = false
        [circuit.""]
        [circuit.slow]
        slow_call_rate = 0.5
        "#,
    );
    let shown = problems(over(config, &[("JITTER", "many"), ("CIRCUIT_SLOW_PROBES", "0")]));
    let expected = [
        "`deadline` is \"50\", expected a time from 1ms to 10s, as in 50ms",
        "`budget`: expected one value, not a list",
        "`failure_raet`: unknown setting; did you mean `failure_rate`?",
        "`circuits`: unknown setting; did you mean `circuit`?",
        "`circuit.\"\"`: a circuit's name has 1 to 128 bytes, this one has 0",
        "`circuit.\"a\\nb\".open_for` is \"soon\", expected a time with its unit",
        "`circuit.\"a\\nb\".enabled`: unknown setting",
        "`CIRCUIT_BREAKER_JITTER` is \"many\", expected a fraction",
        "`failure_rate` is \"50\", expected a fraction, more than 0 and at most 1; did you mean 0.5",
        "`CIRCUIT_BREAKER_CIRCUIT_SLOW_PROBES` is \"0\", expected 1 or more",
        "`circuit.slow.slow_call_duration`: not set, expected a limit: slow_call_rate needs one",
    ];
    for expected in expected {
        assert!(shown.iter().any(|shown| shown.starts_with(expected)), "{expected}: {shown:#?}");
    }
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
}

#[tokio::test]
async fn a_store_is_not_made_with_a_wrong_file() {
    let error = file("failure_rate = 50").connect().await.unwrap_err().to_string();
    assert!(error.contains("did you mean 0.5?"), "{error}");
}

#[test]
fn an_unknown_variable_is_logged_with_the_nearest_known_one() {
    let log = Log::default();
    let _guard = log.listen();
    let vars = [
        ("FAILURE_RAET", "0.5"),
        ("CIRCUIT_A_OPENFOR", "1s"),
        ("SERVICE_HOST", "10.0.0.1"),
        ("X\u{1b}[31m\n", "1"),
    ];
    assert_eq!(parse(&vars).unwrap(), Config::default());
    Config::from_vars([("PATH", "/bin"), ("DEADLINE", "x")]).unwrap();
    let lines = log.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains("did you mean CIRCUIT_BREAKER_FAILURE_RATE"), "{lines:?}");
    assert!(lines[1].contains("did you mean CIRCUIT_BREAKER_CIRCUIT_A_OPEN_FOR"), "{lines:?}");
    assert!(!lines[2].contains("did you mean") && !lines[2].contains("10.0.0.1"), "{lines:?}");
    assert!(!lines[3].contains(['\u{1b}', '\n']), "{lines:?}");
}

#[test]
fn a_configuration_is_read_as_it_was_written() {
    let text = r#"
        enabled = false
        redis_ca_file = "/ca.pem"
        prefix = "shop"
        start = "fail"
        replica = "pod-7"
        deadline = "20ms"
        report_interval = "1s 500ms"
        budget = 200
        key_limit = 0
        key_idle = "off"
        latency_sample = 16
        key_latency_sample = "off"
        critical = "payments, database"
        preset = "http_api"
        failure_rate = "off"
        consecutive_failures = 18446744073709551615
        backoff = 1.5
        cancelled = "ignored"
        [circuit."ключ: a.b"]
        time_window = "off"
        [circuit.x]
    "#;
    let text = text.replace("18446744073709551615", "\"18446744073709551615\"");
    let config = file(&text);
    assert_eq!(config.start, Start::Fail);
    assert_eq!(file(&toml::to_string(&config).unwrap()), config);
    assert_eq!(file(&toml::to_string_pretty(&config).unwrap()), config);
    assert_eq!(toml::to_string(&Config::default()).unwrap(), "");
    assert_eq!(file(""), Config::default());
}

#[cfg(feature = "redis")] // JSON is read with serde_json, which that feature has.
#[test]
fn json_serves_too_and_has_its_own_oddities() {
    let json = |text: &str| serde_json::from_str::<Config>(text).unwrap();
    let config = json(r#"{"failure_rate": 0.3, "probes": 5.0, "enabled": true, "deadline": null}"#);
    assert_eq!(config.policy, parse(&[("FAILURE_RATE", "0.3"), ("PROBES", "5")]).unwrap().policy);
    assert_eq!((config.enabled, config.deadline), (Some(true), None));
    assert_eq!(json("null"), Config::default());
    for text in [
        "[]",
        "5",
        "\"redis://u:hunter2@x\"",
        r#"{"probes": 1, "probes": 2}"#,
        r#"{"budget": 1, "budget": 2}"#,
        r#"{"circuit": {"a": {}, "a": {}}}"#,
        r#"{"circuit": {"a": 5}}"#,
        r#"{"circuit": [1]}"#,
        r#"{"probes": {"a": 1}}"#,
        r#"{"probes": [[[1]]]}"#,
        r#"{"probes": true}"#,
        r#"{"": 1}"#,
    ] {
        let shown = problems(Ok(json(text)));
        assert!(shown.len() == 1 && !shown[0].contains("hunter2"), "{text}: {shown:?}");
    }
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    serde_json::from_str::<Config>(&deep).unwrap_err();
}

#[test]
fn a_policy_is_data_with_the_names_of_its_settings() {
    let text = toml::to_string(&Policy::http_api()).unwrap();
    assert_eq!(
        text,
        "consecutive_failures = 10\nfailure_rate = 0.5\nfailure_count = \"off\"\n\
         slow_call_rate = 0.8\nslow_call_duration = \"5s\"\nminimum_calls = 20\n\
         time_window = \"1m\"\ntime_window_buckets = 10\nopen_for = \"30s\"\nbackoff = 2.0\n\
         longest_open_for = \"5m\"\njitter = 0.1\nprobes = 3\nsuccesses_to_close = 2\n\
         probe_lease = \"30s\"\ncancelled = \"failure_if_slow\"\nquorum = 1\n",
    );
    let read = |text: &str| toml::from_str::<Policy>(text).map_err(|error| error.to_string());
    let some = "preset = \"cache\"\nopen_for = \"9s\"\nslow_call_duration = \"off\"";
    let expected = Policy::cache().to_builder().open_for(s(9)).without_slow_call_duration();
    assert_eq!(read(some).unwrap(), expected.build().unwrap());
    assert_eq!(read("").unwrap(), Policy::default());
    for (text, expected) in [
        ("failure_rate = 50", "did you mean 0.5?"),
        ("open_for = \"0s\"\nprobes = 0", "`open_for` is 0ns, expected more than zero; `probes`"),
        ("open_four = 1\nprobes = -1", "did you mean `open_for`?; `probes` is \"-1\", expected"),
        ("deadline = \"1s\"", "`deadline`: unknown setting"),
        ("jitter = nan", "expected a fraction"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_policy_in_a_file_of_the_program_is_read_beside_its_own_settings() {
    let file = "[policies.a]\nprobes = 9\n[policies.b]\npreset = \"cache\"";
    let read: BTreeMap<String, BTreeMap<String, Policy>> = toml::from_str(file).unwrap();
    let policies = read["policies"].clone();
    let build = |builder: tower_breaker::StoreBuilder, (name, policy): (String, Policy)| {
        builder.policy(name, policy)
    };
    let store = policies.into_iter().fold(Store::builder(), build).build();
    assert_eq!(store.circuit("a").policy().probes(), 9);
    assert_eq!(store.circuit("b").policy(), Policy::cache());
}
