//! How closely replicas watch a circuit.

use super::*;

fn failures(failures: u64) -> Tally {
    Tally { failures, ..Tally::default() }
}

fn of_calls(failures: u64, calls: u64) -> Tally {
    Tally { calls, failures, ..Tally::default() }
}

fn streak(consecutive_failures: u64) -> Tally {
    Tally { consecutive_failures, ..Tally::default() }
}

fn slow(slow_calls: u64, calls: u64) -> Tally {
    Tally { calls, slow_calls, ..Tally::default() }
}

#[test]
fn a_circuit_is_suspect_from_half_of_the_least_that_could_open_it() {
    let rate = |rate, minimum| policy(move |it| it.failure_rate(rate).minimum_calls(minimum));
    let cases = [
        (policy(|it| it.consecutive_failures(5)), 3),
        (policy(|it| it.consecutive_failures(1)), 1),
        (policy(|it| it.failure_count(10)), 5),
        (rate(0.5, 20), 5),
        // 34 of 100 calls at least.
        (rate(0.333, 100), 17),
        (rate(0.000_001, 1), 1),
        // A count window of 10 calls is full with 10.
        (policy(|it| it.failure_rate(0.8).minimum_calls(20).count_window(10)), 4),
        (policy(|it| it.consecutive_failures(9).failure_count(7).failure_rate(0.5)), 4),
        (Policy::default(), 3),
    ];
    for (policy, least) in cases {
        for failed in 0..40 {
            assert_eq!(policy.suspects(failures(failed)), failed >= least, "{policy}: {failed}");
            assert_eq!(policy.suspects(streak(failed)), failed >= least, "{policy}: {failed}");
        }
        assert!(!policy.suspects(slow(1_000, 1_000)), "{policy}: slow calls do not count");
    }
}

#[test]
fn slow_calls_make_a_circuit_suspect_where_they_count() {
    let slowness = |it: PolicyBuilder| it.slow_call_duration(s(1)).slow_call_rate(0.3);
    let policy = policy(|it| slowness(it).minimum_calls(21));
    // 6.3 of 21 calls, so at least 7.
    assert!(!policy.suspects(slow(3, 0)));
    assert!(policy.suspects(slow(4, 0)));
    assert!(!policy.suspects(failures(1_000)));
}

#[test]
fn a_circuit_that_could_open_is_suspect() {
    let policies = [
        policy(|it| it.failure_rate(0.1).minimum_calls(7)),
        policy(|it| it.failure_count(3).failure_rate(1.0).minimum_calls(2)),
        policy(|it| it.consecutive_failures(4).no_window()),
        policy(|it| it.slow_call_duration(s(1)).slow_call_rate(0.7).minimum_calls(3)),
    ];
    for policy in &policies {
        for n in 0..30 {
            for calls in n..30 {
                let tally = Tally {
                    calls,
                    failures: n,
                    slow_calls: n,
                    consecutive_failures: n,
                    unanswered: n,
                };
                let trips = policy.judge(tally).is_some();
                assert!(!trips || policy.suspects(tally), "{policy}: {tally:?}");
                assert!(!trips || policy.is_near(tally), "{policy}: {tally:?}");
            }
        }
    }
}

#[test]
fn evidence_is_near_from_half_of_a_condition() {
    let slowness = |it: PolicyBuilder| it.slow_call_duration(s(1)).slow_call_rate(0.4);
    let cases = [
        (policy(|it| it.consecutive_failures(5)), streak(2), streak(3)),
        (policy(|it| it.failure_count(10)), failures(4), failures(5)),
        (policy(|it| it.failure_rate(0.5)), of_calls(9, 9), of_calls(3, 10)),
        (policy(|it| it.failure_rate(0.5)), of_calls(24, 100), of_calls(25, 100)),
        (policy(slowness), slow(19, 100), slow(20, 100)),
        (policy(slowness), failures(1_000), slow(10, 10)),
    ];
    for (policy, far, near) in cases {
        assert!(!policy.is_near(far), "{policy}: {far:?}");
        assert!(policy.is_near(near), "{policy}: {near:?}");
    }
    let largest = Tally {
        calls: u64::MAX,
        failures: u64::MAX,
        slow_calls: u64::MAX,
        consecutive_failures: u64::MAX,
        unanswered: u64::MAX,
    };
    assert!(Policy::default().is_near(largest) && Policy::default().suspects(largest));
    assert!(!Policy::default().is_near(Tally::default()));
    assert!(!Policy::default().suspects(Tally::default()));
}
