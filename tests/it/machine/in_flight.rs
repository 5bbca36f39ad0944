//! Calls in flight count as slow where the policy has a slow-call rate.

use tower_breaker::circuit::Permit;
use tower_breaker::event::{Event, Reason};
use tower_breaker::policy::PolicyBuilder;
use tower_breaker::{Outcome, Policy, State};

use crate::support::*;

/// Opens when half of at least four calls take longer than six seconds.
fn half_slow() -> PolicyBuilder {
    Policy::only().slow_call_duration(s(6)).slow_call_rate(0.5).minimum_calls(4)
}

fn start(circuit: &tower_breaker::Circuit, calls: usize) -> Vec<Permit> {
    (0..calls).map(|_| hold(circuit)).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_that_never_end_open_the_circuit_at_the_next_call() {
    let circuit = circuit(half_slow());
    let _hung = start(&circuit, 4);
    advance(s(6)).await;
    assert_state(&circuit, State::Closed);
    // After one and a half times the limit, every call in flight counts as slow.
    advance(s(3)).await;
    let rejected = rejected(&circuit);
    assert_eq!(rejected.reason(), Reason::SlowCallRate);
    assert_eq!((rejected.evidence().calls, rejected.evidence().slow_calls), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_counted_once_when_it_ends_and_when_it_hangs() {
    let circuit = circuit(half_slow().minimum_calls(100));
    let running = start(&circuit, 5);
    advance(s(60)).await;
    let tally = circuit.snapshot().tally;
    assert_eq!((tally.calls, tally.slow_calls, tally.failures), (5, 5, 0));
    for (n, permit) in running.into_iter().enumerate() {
        permit.settle(if n < 2 { Outcome::failure() } else { Outcome::Success });
        let tally = circuit.snapshot().tally;
        assert_eq!((tally.calls, tally.slow_calls), (5, 5), "after {n}");
    }
    assert_eq!(circuit.snapshot().tally.failures, 2);
}

#[tokio::test(start_paused = true)]
async fn calls_within_the_limit_leave_none_in_flight() {
    let circuit = circuit(half_slow().minimum_calls(1_000));
    for _ in 0..500 {
        let call = hold(&circuit);
        advance(ms(100)).await;
        call.settle(Outcome::Success);
        drop(hold(&circuit));
        ignore(&circuit);
    }
    advance(s(8)).await;
    assert_eq!(circuit.snapshot().tally.slow_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_of_an_earlier_phase_are_no_evidence_in_the_next() {
    let circuit = circuit(half_slow());
    let hung = start(&circuit, 10);
    drop(circuit.reset());
    advance(s(60)).await;
    assert_eq!(circuit.snapshot().tally.calls, 0);
    succeed(&circuit);
    drop(hung);
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.slow_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_applies_to_calls_that_start_after_it() {
    let store = store(half_slow().minimum_calls(100));
    let circuit = store.circuit("test");
    let before = hold(&circuit);
    store.set_policy(
        "test",
        half_slow().minimum_calls(100).slow_call_duration(s(60)).build().unwrap(),
    );
    let _after = hold(&circuit);
    advance(s(30)).await;
    assert_eq!(circuit.snapshot().tally.slow_calls, 0);
    before.settle(Outcome::Success);
    advance(s(60)).await;
    assert_eq!(circuit.snapshot().tally.slow_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn metrics_only_reports_calls_in_flight_that_would_have_opened_it() {
    let circuit = circuit(half_slow());
    drop(circuit.metrics_only("a test"));
    let events = events(&circuit);
    let _hung = start(&circuit, 4);
    advance(s(9)).await;
    for _ in 0..10 {
        succeed(&circuit);
    }
    let would_open = Event::WouldTrip { reason: Reason::SlowCallRate };
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [would_open]);
}

#[tokio::test(start_paused = true)]
async fn a_few_hung_calls_among_many_successes_do_not_open() {
    let circuit = circuit(half_slow());
    let _hung = start(&circuit, 20);
    for _ in 0..60 {
        times(10, succeed, &circuit);
        advance(s(1)).await;
    }
    assert_state(&circuit, State::Closed);
    assert_eq!(circuit.snapshot().tally.slow_calls, 20);
}

#[test]
fn calls_of_four_threads_that_end_on_a_fifth_are_counted_once() {
    let circuit = circuit(half_slow().minimum_calls(u64::MAX).slow_call_duration(ms(1)));
    let (give, take) = std::sync::mpsc::channel::<Permit>();
    // Calls start on four threads and end on a fifth.
    let calls = std::thread::scope(|scope| {
        let ender =
            scope.spawn(move || take.into_iter().map(|call| call.settle(Outcome::Success)).count());
        for _ in 0..4 {
            let (circuit, give) = (&circuit, give.clone());
            scope.spawn(move || {
                for n in 0..20_000 {
                    if n % 3 == 0 {
                        succeed(circuit);
                    }
                    give.send(hold(circuit)).unwrap();
                }
            });
        }
        drop(give);
        ender.join().unwrap() as u64 + 4 * 6_667
    });
    let tally = circuit.snapshot().tally;
    assert_eq!(
        (tally.calls, tally.consecutive_failures),
        (calls, 0),
        "no call is in flight any more"
    );
}
