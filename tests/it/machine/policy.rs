//! Policies: which are refused, how a builder treats them, and that the presets work.

use std::time::Duration;

use tower_breaker::policy::{Cancelled, PolicyBuilder, Window};
use tower_breaker::{Policy, PolicyError, Store};

use crate::support::*;

fn refused(error: Result<Policy, PolicyError>) -> Vec<String> {
    error.unwrap_err().problems().to_vec()
}

#[test]
fn every_problem_is_reported_at_once() {
    let policy = Policy::builder()
        .consecutive_failures(0)
        .failure_rate(1.01)
        .failure_count(0)
        .slow_call_rate(0.0)
        .slow_call_duration(Duration::ZERO)
        .minimum_calls(0)
        .time_window_in_buckets(Duration::ZERO, 0)
        .open_for(Duration::ZERO)
        .backoff(0.0, Duration::ZERO)
        .jitter(1.01)
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
fn a_condition_that_needs_a_window_is_refused_without_one() {
    assert!(Policy::builder().no_window().build().is_ok(), "the default rate is dropped");
    let asked = Policy::builder().no_window().failure_rate(0.5).failure_count(3);
    assert_eq!(refused(asked.build()).len(), 2);
}

#[test]
fn a_slow_call_rate_without_a_slow_call_duration_is_refused() {
    assert_eq!(refused(Policy::builder().slow_call_rate(0.5).build()).len(), 1);
    assert!(Policy::builder().slow_call_duration(s(1)).build().is_ok());
}

#[test]
fn a_window_of_an_absurd_size_is_refused() {
    assert_eq!(refused(Policy::builder().count_window(u64::MAX).build()).len(), 1);
    assert_eq!(refused(Policy::builder().time_window_in_buckets(s(1), u32::MAX).build()).len(), 1);
}

#[test]
fn a_cap_below_the_first_interval_is_refused_unless_it_is_the_default() {
    assert!(Policy::builder().open_for(s(3600)).build().is_ok());
    assert_eq!(refused(Policy::builder().open_for(s(3600)).backoff(2.0, s(60)).build()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_above_a_count_window_is_clamped_to_it() {
    let policy = Policy::builder()
        .without_consecutive_failures()
        .failure_rate(0.5)
        .minimum_calls(u64::MAX)
        .count_window(10);
    let circuit = circuit(policy);
    times(9, fail, &circuit);
    assert!(circuit.is_available());
    fail(&circuit);
    assert!(!circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn a_clamped_minimum_is_restored_with_a_larger_count_window() {
    let small = Policy::only().failure_rate(0.5).count_window(10).build().unwrap();
    assert_eq!(small.minimum_calls(), 20);
    let circuit = circuit(small.to_builder().count_window(100));
    times(19, fail, &circuit);
    assert!(circuit.is_available());
    fail(&circuit);
    assert!(!circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn every_preset_opens_and_closes_a_circuit() {
    let presets =
        [Policy::database(), Policy::cache(), Policy::http_api(), Policy::authentication()];
    for policy in presets {
        assert_eq!(policy.to_builder().build(), Ok(policy.clone()));
        let circuit = Store::builder().default_policy(policy).build().circuit("preset");
        open_until_due(&circuit).await;
        while circuit.state() != tower_breaker::State::Closed {
            succeed(&circuit);
        }
    }
}

#[test]
fn a_failure_count_that_its_window_cannot_hold_is_refused() {
    let policy = Policy::only().failure_count(11);
    assert_eq!(
        refused(policy.clone().count_window(10).build()),
        ["`failure_count` is 11, expected at most count_window (10)"]
    );
    assert!(policy.count_window(11).build().is_ok());
}

#[test]
fn the_builder_of_the_default_policy_is_the_default_builder() {
    let changes: [fn(PolicyBuilder) -> PolicyBuilder; 4] =
        [|it| it, |it| it.no_window(), |it| it.open_for(s(3600)), |it| it.count_window(10)];
    for change in changes {
        let fresh = change(Policy::builder()).build();
        assert!(fresh.is_ok());
        assert_eq!(change(Policy::default().to_builder()).build(), fresh);
    }
}

#[test]
fn settings_made_later_adjust_those_a_builder_started_from() {
    let patient = Policy::database().to_builder().open_for(s(3600)).build().unwrap();
    assert_eq!((patient.open_for(), patient.longest_open_for()), (s(3600), s(3600)));
    let hasty = Policy::database().to_builder().backoff(1.0, s(1)).build().unwrap();
    assert_eq!((hasty.open_for(), hasty.longest_open_for()), (s(1), s(1)));

    let bare = Policy::database().to_builder().no_window().build().unwrap();
    assert_eq!(
        (bare.failure_rate(), bare.slow_call_rate(), bare.window()),
        (None, None, Window::None)
    );
    let asked = Policy::database().to_builder().no_window().failure_rate(0.5);
    assert_eq!(refused(asked.build()).len(), 1);
    let windowed = bare.to_builder().failure_rate(0.5).build().unwrap();
    assert_eq!(windowed.window(), Policy::default().window());

    let counted = Policy::builder().count_window(10).build().unwrap();
    let grown = counted.to_builder().failure_count(11).build().unwrap();
    assert_eq!(grown.window(), Window::Count { calls: 11 });
    let less = grown.to_builder().count_window(5).build().unwrap();
    assert_eq!(less.failure_count(), None);
}

#[test]
fn only_starts_without_a_condition() {
    assert!(refused(Policy::only().build())[0].contains("the circuit never opens"));
    let policy = Policy::only().failure_rate(0.3).build().unwrap();
    assert_eq!((policy.consecutive_failures(), policy.failure_rate()), (None, Some(0.3)));
    assert_eq!(policy.window(), Policy::default().window());
}

#[test]
fn a_rate_in_percent_is_refused_with_the_fraction_it_means() {
    let policy = Policy::builder()
        .failure_rate(50.0)
        .slow_call_rate(33.0)
        .slow_call_duration(s(1))
        .jitter(10.0)
        .build();
    assert_eq!(
        refused(policy),
        [
            "`failure_rate` is 50, expected a fraction, more than 0 and at most 1; did you mean 0.5?",
            "`slow_call_rate` is 33, expected a fraction, more than 0 and at most 1; \
             did you mean 0.33?",
            "`jitter` is 10, expected a fraction, from 0 to 1; did you mean 0.1?",
        ]
    );
}

#[test]
fn nan_and_infinity_are_problems_and_not_panics() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5, 1e300, -1e300] {
        let policy = Policy::builder()
            .failure_rate(number)
            .slow_call_rate(number)
            .slow_call_duration(s(1))
            .jitter(number);
        assert_eq!(refused(policy.build()).len(), 3, "{number}");
    }
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.0, 0.999] {
        let policy = Policy::builder().backoff(number, s(60));
        let problems = refused(policy.build());
        assert!(problems[0].starts_with("`multiplier of backoff` is"), "{problems:?}");
    }
    assert!(Policy::builder().backoff(f64::MAX, s(60)).build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn two_of_three_reach_two_thirds_and_no_success_reaches_a_tiny_rate() {
    let thirds = circuit(Policy::only().failure_rate(2.0 / 3.0).minimum_calls(3));
    succeed(&thirds);
    times(2, fail, &thirds);
    assert!(!thirds.is_available());
    let tiny = circuit(Policy::only().failure_rate(f64::MIN_POSITIVE).minimum_calls(1));
    times(100, succeed, &tiny);
    assert!(tiny.is_available());
    fail(&tiny);
    assert!(!tiny.is_available());
}

#[test]
fn a_policy_reads_back_as_it_was_built() {
    let policy = Policy::only()
        .consecutive_failures(7)
        .failure_rate(0.3)
        .failure_count(9)
        .slow_call_rate(0.29)
        .slow_call_duration(ms(250))
        .minimum_calls(30)
        .time_window_in_buckets(s(20), 4)
        .open_for(s(3))
        .backoff(1.5, s(40))
        .jitter(0.25)
        .probes(4)
        .successes_to_close(5)
        .probe_lease(s(6))
        .cancelled(Cancelled::Failure)
        .quorum(2)
        .build()
        .unwrap();
    assert_eq!(policy.consecutive_failures(), Some(7));
    assert_eq!(policy.failure_rate(), Some(0.3));
    assert_eq!(policy.failure_count(), Some(9));
    assert_eq!((policy.slow_call_rate(), policy.slow_call_duration()), (Some(0.29), Some(ms(250))));
    assert_eq!(policy.minimum_calls(), 30);
    assert_eq!(policy.window(), Window::Time { length: s(20), buckets: 4 });
    assert_eq!((policy.open_for(), policy.longest_open_for()), (s(3), s(40)));
    assert_eq!((policy.backoff(), policy.jitter()), (1.5, 0.25));
    assert_eq!((policy.probes(), policy.successes_to_close()), (4, 5));
    assert_eq!((policy.probe_lease(), policy.quorum()), (s(6), 2));
    assert_eq!(policy.cancelled(), Cancelled::Failure);
    assert_eq!(policy.to_builder().build(), Ok(policy));
}

#[test]
fn a_policy_displays_as_one_line() {
    assert_eq!(
        Policy::database().to_string(),
        "opens after 5 consecutive failures, \
         or at a failure rate of 50 % of at least 20 calls in 30s, \
         or at a slow-call rate (over 2s) of 80 % of at least 20 calls in 30s; \
         open for 10s, times 2 up to 120s, jitter 10 %; \
         1 probe at once, 3 successes to close, probe lease 10s"
    );
    let policy = Policy::only()
        .failure_rate(1.0 / 3.0)
        .failure_count(1)
        .slow_call_duration(s(1))
        .count_window(10)
        .open_for(s(30))
        .backoff(1.0, s(30))
        .jitter(0.0)
        .successes_to_close(1)
        .cancelled(Cancelled::Ignored)
        .quorum(2);
    assert_eq!(
        policy.build().unwrap().to_string(),
        "opens at a failure rate of 33.3333 % of at least 10 of the last 10 calls, \
         or after 1 failure in the last 10 calls; \
         open for 30s; \
         3 probes at once, 1 success to close, probe lease 10s; \
         a call is slow after 1s; cancelled calls are ignored; a quorum of 2 replicas"
    );
}
