//! Policies: what is refused, what is cut down, and that presets work.

use std::time::Duration;

use tower_breaker::{Name, Policy, PolicyError, Store};

use crate::support::*;

fn refused(error: Result<Policy, PolicyError>) -> Vec<String> {
    error.unwrap_err().problems().to_vec()
}

#[test]
fn every_problem_is_named_at_once() {
    let policy = Policy::builder()
        .consecutive_failures(0)
        .failure_rate(101)
        .failure_count(0)
        .slow_call_rate(0)
        .slow_call_duration(Duration::ZERO)
        .minimum_calls(0)
        .time_window_in_buckets(Duration::ZERO, 0)
        .open_for(Duration::ZERO)
        .backoff(0, Duration::ZERO)
        .jitter(101)
        .probes(0)
        .successes_to_close(0)
        .probe_lease(Duration::ZERO);
    let problems = refused(policy.build());
    for setting in [
        "consecutive_failures",
        "failure_rate",
        "failure_count",
        "slow_call_rate",
        "slow_call_duration",
        "minimum_calls",
        "time_window",
        "buckets of time_window",
        "open_for",
        "multiplier of backoff",
        "jitter",
        "probes",
        "successes_to_close",
        "probe_lease",
    ] {
        let named = problems.iter().filter(|p| p.starts_with(&format!("`{setting}`"))).count();
        assert_eq!(named, 1, "{setting} in {problems:#?}");
    }
    assert_eq!(problems.len(), 14, "{problems:#?}");
}

#[test]
fn a_policy_that_could_never_open_is_refused() {
    let policy = Policy::builder().without_consecutive_failures().without_failure_rate();
    assert!(refused(policy.build())[0].contains("the circuit never opens"));
}

#[test]
fn what_needs_a_window_is_refused_without_one() {
    assert!(Policy::builder().no_window().build().is_ok(), "the default rate is dropped");
    let asked = Policy::builder().no_window().failure_rate(50).failure_count(3);
    assert_eq!(refused(asked.build()).len(), 2);
}

#[test]
fn a_slow_call_rate_without_a_limit_is_refused() {
    assert_eq!(refused(Policy::builder().slow_call_rate(50).build()).len(), 1);
    assert!(Policy::builder().slow_call_duration(s(1)).build().is_ok());
}

#[test]
fn a_window_of_absurd_size_is_refused() {
    assert_eq!(refused(Policy::builder().count_window(u64::MAX).build()).len(), 1);
    assert_eq!(refused(Policy::builder().time_window_in_buckets(s(1), u32::MAX).build()).len(), 1);
}

#[test]
fn a_cap_below_the_first_interval_is_refused_unless_it_is_the_default() {
    assert!(Policy::builder().open_for(s(3600)).build().is_ok());
    assert_eq!(refused(Policy::builder().open_for(s(3600)).backoff(2, s(60)).build()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_above_a_count_window_is_cut_down_to_it() {
    let policy = Policy::builder()
        .without_consecutive_failures()
        .failure_rate(50)
        .minimum_calls(u64::MAX)
        .count_window(10);
    let circuit = circuit(policy);
    times(9, fail, &circuit);
    assert!(circuit.is_available());
    fail(&circuit);
    assert!(!circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn presets_can_work() {
    let presets =
        [Policy::database(), Policy::cache(), Policy::http_api(), Policy::authentication()];
    for policy in presets {
        assert_eq!(policy.to_builder().build(), Ok(policy.clone()));
        let circuit = Store::builder().default_policy(policy).build().circuit("preset");
        trip(&circuit);
        wait_out(&circuit).await;
        while circuit.state() != tower_breaker::State::Closed {
            succeed(&circuit);
        }
    }
}

#[test]
fn a_name_is_1_to_128_bytes() {
    assert!(Name::new("x".repeat(128)).is_ok());
    assert!(Name::new("").is_err());
    let long = Name::new("ä".repeat(65)).unwrap_err();
    assert_eq!(long.to_string(), "a circuit's name has 1 to 128 bytes, this one has 130");
}

#[test]
#[should_panic(expected = "a circuit's name has 1 to 128 bytes, this one has 0")]
fn an_empty_name_in_the_program_is_a_panic() {
    Store::in_memory().circuit("");
}
