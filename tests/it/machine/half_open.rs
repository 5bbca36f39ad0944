//! Half-open: probes, their slots, and their leases.

use tokio::task::JoinSet;
use tower_breaker::event::Reason;
use tower_breaker::{Outcome, Policy, State};

use crate::support::*;

async fn half_open(policy: tower_breaker::policy::PolicyBuilder) -> tower_breaker::Circuit {
    let circuit = circuit(policy);
    open_until_due(&circuit).await;
    circuit
}

#[tokio::test(start_paused = true)]
async fn of_64_concurrent_callers_only_as_many_as_there_are_slots_run() {
    let circuit = half_open(fragile().probes(3).successes_to_close(2)).await;
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let circuit = circuit.clone();
        callers.spawn(async move {
            let call = || async {
                // Until all other callers have asked.
                for _ in 0..64 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, ()>(())
            };
            circuit.execute(call).await.is_ok()
        });
    }
    let ran = callers.join_all().await.into_iter().filter(|ran| *ran).count();
    assert_eq!(ran, 3);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn enough_successful_probes_close_and_one_failed_probe_opens() {
    let circuit = half_open(fragile().successes_to_close(3)).await;
    times(2, succeed, &circuit);
    assert_state(&circuit, State::HalfOpen);
    fail(&circuit);
    assert_state(&circuit, State::Open);
    wait_out(&circuit).await;
    times(2, succeed, &circuit);
    assert_state(&circuit, State::HalfOpen);
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_or_ignored_probe_frees_its_slot() {
    let circuit = half_open(fragile()).await;
    for _ in 0..10 {
        let probe = hold(&circuit);
        let rejection = rejected(&circuit);
        assert_eq!((rejection.state(), rejection.retry_after()), (State::HalfOpen, None));
        drop(probe);
        ignore(&circuit);
    }
    assert_state(&circuit, State::HalfOpen);
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_probe_frees_its_slot() {
    let circuit = half_open(fragile()).await;
    let probing = circuit.clone();
    let task = tokio::spawn(async move {
        probing.execute(std::future::pending::<Result<(), ()>>).await.ok();
    });
    tokio::task::yield_now().await;
    rejected(&circuit);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_has_failed() {
    let circuit = half_open(fragile()).await;
    let probing = circuit.clone();
    let task = tokio::spawn(async move {
        let _ = probing.execute(|| async { panic!("as asked") as Result<(), ()> }).await;
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);
    assert_eq!(circuit.snapshot().reopenings, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_fails_when_its_lease_expires() {
    let circuit = half_open(fragile()).await;
    let reasons = reasons(&circuit);
    let hung = hold(&circuit);
    assert_eq!(reasons.recv(), Ok(Reason::IntervalOver));
    advance(ms(4_999)).await;
    rejected(&circuit);
    assert_state(&circuit, State::HalfOpen);
    advance(ms(1)).await;
    rejected(&circuit);
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.recv(), Ok(Reason::ProbeExpired));

    let before = evidence(&circuit);
    hung.settle(Outcome::Success);
    assert_eq!(evidence(&circuit), before, "its result is stale");
    wait_out(&circuit).await;
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_after_its_lease_has_failed_with_any_outcome() {
    for outcome in [Outcome::Success, Outcome::failure(), Outcome::Ignored] {
        let circuit = half_open(fragile()).await;
        let slow = hold(&circuit);
        advance(s(5)).await;
        slow.settle(outcome);
        assert_state(&circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_may_need_more_probes_than_there_are_slots() {
    let circuit = half_open(fragile().probes(1).successes_to_close(5)).await;
    for passed in 1..5 {
        succeed(&circuit);
        assert_eq!(circuit.snapshot().probes_passed, passed);
    }
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_next_interval_begins_when_the_lease_of_a_hung_probe_expires() {
    let circuit = half_open(fragile()).await;
    let _hung = hold(&circuit);
    // The lease is 5 s and the next interval 20 s: 8 s into that, 12 s are left.
    advance(s(13)).await;
    assert_eq!(rejected(&circuit).retry_after(), Some(s(12)));
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_lease_and_the_next_interval_probes_again() {
    let circuit = half_open(fragile()).await;
    let _hung = hold(&circuit);
    let reasons = observe(&circuit, |transition| (transition.reason, transition.open_for));
    advance(s(25)).await;
    let probe = hold(&circuit);
    assert_state(&circuit, State::HalfOpen);
    assert_eq!(circuit.snapshot().reopenings, 1);
    let expected = [(Reason::ProbeExpired, Some(s(0))), (Reason::IntervalOver, None)];
    assert_eq!(reasons.try_iter().collect::<Vec<_>>(), expected);
    probe.settle(Outcome::Success);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_successful_probe_does_not_close_while_another_hangs() {
    let circuit = half_open(fragile().probes(2)).await;
    let _hung = hold(&circuit);
    advance(s(3)).await;
    let other = hold(&circuit);
    advance(s(3)).await;
    other.settle(Outcome::Success);
    assert_state(&circuit, State::Open);
    assert_eq!(rejected(&circuit).retry_after(), Some(s(19)));
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_late_probe_extends_the_open_interval() {
    let circuit = half_open(fragile()).await;
    let hung = hold(&circuit);
    advance(s(6)).await;
    hung.settle(Outcome::failure_with_hint(s(50)));
    assert_eq!(rejected(&circuit).retry_after(), Some(s(50)), "more than the 19 s that are left");
    let circuit = half_open(fragile()).await;
    let hung = hold(&circuit);
    advance(s(6)).await;
    hung.settle(Outcome::failure_with_hint(s(7)));
    assert_eq!(rejected(&circuit).retry_after(), Some(s(19)));
}

/// A call that succeeds after this time.
async fn succeed_in(circuit: &tower_breaker::Circuit, time: std::time::Duration) {
    let call = hold(circuit);
    advance(time).await;
    call.settle(Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_fails_where_the_policy_has_a_slow_call_rate() {
    let policy = || fragile().slow_call_duration(s(1));
    let circuit = half_open(policy().slow_call_rate(0.5)).await;
    let reasons = reasons(&circuit);
    succeed_in(&circuit, ms(1_001)).await;
    assert_state(&circuit, State::Open);
    assert_eq!(reasons.try_iter().last(), Some(Reason::ProbeSlow));
    assert_eq!(rejected(&circuit).retry_after(), Some(s(20)));
    wait_out(&circuit).await;
    succeed_in(&circuit, s(1)).await;
    assert_state(&circuit, State::Closed);

    let circuit = half_open(policy()).await;
    succeed_in(&circuit, s(4)).await;
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_slow_for_an_hour_gets_few_calls() {
    let store = tower_breaker::Store::builder().default_policy(Policy::database()).build();
    let circuit = store.circuit("slow");
    let opened = observe(&circuit, |transition| transition.open_for);
    let mut running = std::collections::VecDeque::new();
    let mut made = 0;
    for tick in 0..36_000 {
        while running.front().is_some_and(|(ends, _)| *ends == tick) {
            let (_, call): (i32, tower_breaker::circuit::Permit) = running.pop_front().unwrap();
            call.settle(Outcome::Success);
        }
        if let Ok(call) = circuit.try_acquire() {
            made += 1;
            running.push_back((tick + 30, call));
        }
        advance(ms(100)).await;
    }
    let opened: Vec<_> = opened.try_iter().flatten().collect();
    assert!((25..=40).contains(&opened.len()), "{} trips", opened.len());
    assert!(made < 100, "{made} calls admitted");
    assert!(opened.iter().filter(|time| **time >= s(120)).count() > 20, "{opened:?}");
}
