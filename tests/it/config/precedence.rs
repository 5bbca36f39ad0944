//! Which of several settings holds: the environment, a file, the code, one circuit or all.

use tower_breaker::config::Config;
use tower_breaker::{CircuitBreakerLayer, Policy, Store};

use super::parse;
#[cfg(feature = "serde")]
use super::{file, over};
use crate::support::log::Log;
use crate::support::*;

async fn store(config: Config) -> Store {
    config.connect().await.unwrap().build()
}

fn rate(store: &Store, name: &'static str) -> Option<f64> {
    store.circuit(name).policy().failure_rate()
}

#[tokio::test]
async fn a_setting_of_one_circuit_holds_over_that_of_all() {
    let config = parse(&[
        ("FAILURE_RATE", "0.4"),
        ("PROBES", "7"),
        ("CIRCUIT_PAYMENTS_FAILURE_RATE", "0.3"),
        ("CIRCUIT_SEARCH_PRESET", "cache"),
        ("CIRCUIT_SEARCH_PROBES", "9"),
    ]);
    let store = store(config.unwrap()).await;
    assert_eq!((rate(&store, "payments"), rate(&store, "users")), (Some(0.3), Some(0.4)));
    assert_eq!(store.circuit("payments").policy().probes(), 7);
    // A preset is a whole policy.
    let cache = Policy::cache().to_builder().probes(9).build().unwrap();
    assert_eq!(store.circuit("search").policy(), cache);
}

#[tokio::test]
async fn a_variable_concerns_all_names_that_are_written_like_it() {
    let store = store(parse(&[("CIRCUIT_PAYMENTS_API_2_PROBES", "9")]).unwrap()).await;
    for name in ["payments-api-2", "payments_api_2", "Payments.API/2", "PAYMENTS_API_2"] {
        assert_eq!(store.circuit(name).policy().probes(), 9, "{name}");
    }
    for name in ["payments-api", "payments-api-22", "paymentsapi2", "", "x"] {
        let name = if name.is_empty() { "päyments-api-2 " } else { name };
        assert_eq!(store.circuit(name).policy().probes(), 3, "{name}");
    }
}

#[tokio::test]
async fn the_configuration_changes_the_policies_in_the_code() {
    let vars = [
        ("MINIMUM_CALLS", "33"),
        ("CIRCUIT_A_FAILURE_RATE", "0.31"),
        ("CIRCUIT_B_FAILURE_RATE", "0.32"),
        ("CIRCUIT_C_FAILURE_RATE", "0.33"),
        ("CIRCUIT_D_PRESET", "cache"),
    ];
    let builder = parse(&vars).unwrap().connect().await.unwrap();
    let store = builder
        .default_policy(Policy::database())
        .policy("a", Policy::http_api())
        .policy("e", Policy::http_api())
        .build();
    let changed = |policy: Policy, rate| policy.to_builder().failure_rate(rate).build().unwrap();
    assert_eq!(store.circuit("a").policy(), changed(Policy::http_api(), 0.31));
    let b = store.circuit_with("b", Policy::cache());
    assert_eq!(b.policy(), changed(Policy::cache(), 0.32));
    // The circuit exists, with the default policy, when the layer comes.
    let c = store.circuit("c");
    let default = Policy::database().to_builder().minimum_calls(33).build().unwrap();
    assert_eq!(c.policy(), changed(default.clone(), 0.33));
    let layer = CircuitBreakerLayer::new(store.clone()).named("c").policy(Policy::http_api());
    let _service = tower::Layer::layer(&layer, ());
    assert_eq!(c.policy(), changed(Policy::http_api(), 0.33));
    assert_eq!(store.circuit_with("d", Policy::http_api()).policy(), Policy::cache());
    assert_eq!(store.circuit("e").policy(), Policy::http_api());
    assert_eq!(store.circuit("f").policy(), default);
    store.set_policy("a", Policy::cache());
    assert_eq!(store.circuit("a").policy(), Policy::cache(), "as it was set");
}

#[tokio::test]
async fn two_equal_policies_of_the_code_are_no_conflict() {
    let log = Log::default();
    let _guard = log.listen();
    let store = store(parse(&[("CIRCUIT_A_FAILURE_RATE", "0.3")]).unwrap()).await;
    for _ in 0..2 {
        store.circuit_with("a", Policy::http_api());
    }
    assert_eq!(log.lines(), [""; 0]);
    store.circuit_with("a", Policy::cache());
    assert_eq!(log.lines().len(), 1);
}

#[tokio::test]
async fn circuits_of_keys_get_the_settings_of_their_layer_and_of_their_name() {
    let vars = [
        ("CIRCUIT_OUTBOUND_PROBES", "9"),
        ("CIRCUIT_OUTBOUND_FAILURE_RATE", "0.3"),
        ("CIRCUIT_OUTBOUND_API_EXAMPLE_COM_PROBES", "1"),
    ];
    let store = store(parse(&vars).unwrap()).await;
    let keyed = store.keyed("outbound");
    let with_policy = keyed.clone().policy(Policy::http_api());
    // The circuits exist, with the default policy, when the other asks with one.
    for (keyed, base) in [(keyed, Policy::default()), (with_policy, Policy::http_api())] {
        let expected = |probes| base.to_builder().failure_rate(0.3).probes(probes).build().unwrap();
        assert_eq!(keyed.circuit("other.com").unwrap().policy(), expected(9));
        assert_eq!(keyed.circuit("api.example.com").unwrap().policy(), expected(1));
    }
    assert_eq!(store.circuit("elsewhere").policy(), Policy::default());
}

#[tokio::test]
async fn settings_that_do_not_fit_the_code_change_the_default_policy_and_are_logged_once() {
    let log = Log::default();
    let _guard = log.listen();
    let vars = [("SLOW_CALL_DURATION", "2s"), ("CIRCUIT_UP_SLOW_CALL_RATE", "0.5")];
    let store = store(parse(&vars).unwrap()).await;
    let keyed = store.keyed("up").policy(fragile().build().unwrap());
    for n in 0..50 {
        let policy = keyed.circuit(&format!("{n}")).unwrap().policy();
        assert_eq!((policy.slow_call_rate(), policy.slow_call_duration()), (Some(0.5), Some(s(2))));
        assert_eq!(policy.consecutive_failures(), Some(5), "not that of the code");
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("slow_call_duration") && lines[0].contains("preset"), "{lines:?}");
}

#[tokio::test]
async fn the_limits_of_keys_are_those_of_the_configuration() {
    let store = store(parse(&[("KEY_LIMIT", "1"), ("KEY_IDLE", "off")]).unwrap()).await;
    let keyed = store.keyed("up");
    let _held = keyed.circuit("a").unwrap();
    assert!(keyed.circuit("b").is_none());
    let builder = parse(&[("KEY_IDLE", "90s")]).unwrap().connect().await.unwrap();
    assert!(format!("{builder:?}").contains("idle: 90s"), "{builder:?}");
}

#[tokio::test]
async fn a_thousand_circuits_are_configured() {
    let names: Vec<_> =
        (0..1000).map(|n| format!("CIRCUIT_BREAKER_CIRCUIT_UP_{n}_PROBES")).collect();
    let value = |n: usize| (n % 50 + 4).to_string();
    let vars = names.iter().enumerate().map(|(n, name)| (name.as_str(), value(n)));
    let config = Config::from_vars(vars.clone()).unwrap();
    assert_eq!(config.circuit.len(), 1000);
    let store = store(config).await;
    for n in 0..1000 {
        let probes = store.circuit(format!("up-{n}")).policy().probes();
        assert_eq!(probes.to_string(), value(n));
    }
    // What is wrong for all is one problem, and each circuit has its own.
    let wrong = vars.map(|(name, _)| (name, "0".to_owned()));
    let wrong = wrong.chain([("CIRCUIT_BREAKER_OPEN_FOR", "0s".to_owned())]);
    let error = Config::from_vars(wrong).unwrap_err();
    assert_eq!(error.problems().len(), 1001);
}

#[cfg(feature = "serde")]
#[tokio::test]
async fn a_variable_holds_over_a_file_and_a_circuit_over_all() {
    let config = file(
        r#"
        deadline = "20ms"
        budget = 7
        start = "fail"
        failure_rate = 0.1
        probes = 4
        [circuit."payments-api"]
        failure_rate = 0.2
        open_for = "7s"
        [circuit.PAYMENTS_API]
        failure_rate = 0.9
        quorum = 2
        [circuit.users]
        probes = 8
        "#,
    );
    let config = over(
        config,
        &[
            ("DEADLINE", "30ms"),
            ("START", "degraded"),
            ("FAILURE_RATE", "0.5"),
            ("CIRCUIT_PAYMENTS_API_OPEN_FOR", "9s"),
            ("CIRCUIT_USERS_PRESET", "cache"),
        ],
    );
    let config = config.unwrap();
    assert_eq!((config.deadline, config.budget), (Some(ms(30)), Some(7)));
    assert_eq!(config.start, tower_breaker::config::Start::Degraded);
    let store = store(config).await;
    assert_eq!(rate(&store, "other"), Some(0.5), "the variable for all");
    assert_eq!(rate(&store, "payments-api"), Some(0.2), "its own name in the file");
    assert_eq!(
        rate(&store, "payments_api"),
        Some(0.9),
        "the name as variables write it, in the file"
    );
    let policy = store.circuit("payments-api").policy();
    assert_eq!((policy.open_for(), policy.probes(), policy.quorum()), (s(9), 4, 2));
    assert_eq!(store.circuit("users").policy(), Policy::cache(), "a preset replaces the file");
}

#[cfg(feature = "serde")]
#[test]
fn a_window_replaces_one_of_another_kind_from_below() {
    let window = |config: Config| config.policy.over(&Policy::default()).unwrap().window();
    let time = "time_window = \"10s\"\ntime_window_buckets = 5";
    let count = over(file(time), &[("COUNT_WINDOW", "100")]).unwrap();
    assert_eq!(window(count), tower_breaker::policy::Window::Count { calls: 100 });
    let longer = over(file(time), &[("TIME_WINDOW", "20s")]).unwrap();
    let expected = tower_breaker::policy::Window::Time { length: s(20), buckets: 5 };
    assert_eq!(window(longer), expected);
    let none = over(file(time), &[("TIME_WINDOW", "off")]).unwrap();
    assert_eq!(window(none), tower_breaker::policy::Window::None);
}

#[test]
fn what_a_preset_of_one_circuit_lacks_is_not_taken_from_all() {
    let vars = [("SLOW_CALL_DURATION", "9s"), ("CIRCUIT_A_PRESET", "authentication")];
    let vars = [vars[0], vars[1], ("CIRCUIT_A_SLOW_CALL_RATE", "0.5")];
    let error = parse(&vars).unwrap_err();
    let variable = "CIRCUIT_BREAKER_CIRCUIT_A_SLOW_CALL_DURATION";
    assert_eq!(error.problems()[0].variable(), variable, "{error}");
}
