//! Policies as settings: all of a policy, or some that change another.

use std::time::Duration;

use proptest::prelude::*;
use tower_breaker::policy::{Cancelled, PolicySettings, Window};
use tower_breaker::{Policy, PolicyError};

use crate::support::*;

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1..=u64::MAX).prop_map(Duration::from_nanos),
        (1..10_000_u64).prop_map(Duration::from_millis),
        Just(Duration::new(u64::MAX / 2, 999_999_999)),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (time(), 1..=3600_u32).prop_map(|(length, buckets)| Window::Time { length, buckets }),
        (1..=1_000_000_u64).prop_map(|calls| Window::Count { calls }),
        Just(Window::None),
    ]
}

prop_compose! {
    /// Any policy that can be built.
    fn policy()(
        consecutive in prop::option::of(1..=u64::MAX),
        rates in prop::option::of((0.000_001..=1.0, 0.000_001..=1.0_f64)),
        count in prop::option::of(1..=u64::MAX),
        slow in prop::option::of(time()),
        calls in prop::array::uniform4(1..=u64::MAX),
        window in window(),
        open in (time(), time()),
        multiplier in 1.0..1e6_f64,
        jitter in 0.0..=1.0,
        lease in time(),
        cancelled in 0..3_usize,
    ) -> Option<Policy> {
        let mut policy = Policy::only()
            .minimum_calls(calls[0])
            .probes(calls[1])
            .successes_to_close(calls[2])
            .quorum(calls[3])
            .open_for(open.0.min(open.1))
            .backoff(multiplier, open.0.max(open.1))
            .jitter(jitter)
            .probe_lease(lease)
            .cancelled([Cancelled::FailureIfSlow, Cancelled::Failure, Cancelled::Ignored][cancelled]);
        policy = match window {
            Window::Time { length, buckets } => policy.time_window_in_buckets(length, buckets),
            Window::Count { calls } => policy.count_window(calls),
            _ => policy.no_window(),
        };
        if let Some(consecutive) = consecutive {
            policy = policy.consecutive_failures(consecutive);
        }
        if let Some(count) = count {
            policy = policy.failure_count(count);
        }
        if let Some(slow) = slow {
            policy = policy.slow_call_duration(slow);
        }
        if let Some((failures, slow_calls)) = rates {
            policy = policy.failure_rate(failures);
            if slow.is_some() {
                policy = policy.slow_call_rate(slow_calls);
            }
        }
        policy.build().ok()
    }
}

proptest! {
    #[test]
    fn all_settings_of_a_policy_are_the_policy_whatever_they_change(
        policy in policy(),
        base in policy(),
    ) {
        if let (Some(policy), Some(base)) = (policy, base) {
            let settings = PolicySettings::from(&policy);
            prop_assert_eq!(settings.over(&base), Ok(policy.clone()));
            #[cfg(feature = "serde")]
            {
                let text = toml::to_string(&policy).unwrap();
                prop_assert_eq!(toml::from_str::<Policy>(&text), Ok(policy), "{}", text);
            }
        }
    }
}

#[test]
fn no_settings_change_nothing_and_say_so() {
    let none = PolicySettings::default();
    assert!(none.is_empty() && !PolicySettings::from(Policy::cache()).is_empty());
    for policy in
        [Policy::default(), Policy::cache(), Policy::only().failure_rate(0.2).build().unwrap()]
    {
        assert_eq!(none.over(&policy), Ok(policy));
    }
}

#[test]
fn a_limit_that_is_removed_drops_a_slow_call_rate_from_below_only() -> Result<(), PolicyError> {
    let policy = Policy::http_api().to_builder().without_slow_call_duration().build()?;
    assert_eq!((policy.slow_call_rate(), policy.slow_call_duration()), (None, None));
    let both = Policy::builder().slow_call_rate(0.5).without_slow_call_duration();
    assert_eq!(both.build().unwrap_err().problems().len(), 1);
    let again = Policy::http_api().to_builder().without_slow_call_duration();
    let again = again.slow_call_duration(s(1)).build()?;
    assert_eq!((again.slow_call_rate(), again.slow_call_duration()), (Some(0.8), Some(s(1))));
    Ok(())
}
