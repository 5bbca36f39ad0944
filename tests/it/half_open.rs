//! Half-open: probes, their places, and their leases.

use tokio::task::JoinSet;
use tower_breaker::{Event, Outcome, Reason, State};

use crate::support::*;

async fn half_open(policy: tower_breaker::PolicyBuilder) -> tower_breaker::Circuit {
    let circuit = circuit(policy);
    trip(&circuit);
    wait_out(&circuit).await;
    circuit
}

#[tokio::test(start_paused = true)]
async fn of_64_concurrent_callers_exactly_as_many_run_as_there_are_probes() {
    let circuit = half_open(fragile().probes(3).successes_to_close(2)).await;
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let circuit = circuit.clone();
        callers.spawn(async move {
            let call = || async {
                // Until all the others have asked.
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
async fn enough_good_probes_in_a_row_close_and_one_bad_one_opens() {
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
async fn a_dropped_or_ignored_probe_gives_its_place_back() {
    let circuit = half_open(fragile()).await;
    for _ in 0..10 {
        let probe = hold(&circuit);
        let open = rejected(&circuit);
        assert_eq!((open.state(), open.retry_after()), (State::HalfOpen, None));
        drop(probe);
        ignore(&circuit);
    }
    assert_state(&circuit, State::HalfOpen);
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_probe_gives_its_place_back() {
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
async fn a_hung_probe_counts_as_failed_when_its_lease_is_over() {
    let circuit = half_open(fragile()).await;
    let (sender, reasons) = std::sync::mpsc::channel();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event {
            sender.send(transition.reason).unwrap();
        }
    });
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
    assert_eq!(evidence(&circuit), before, "what it says now is stale");
    wait_out(&circuit).await;
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_answers_after_its_lease_has_failed_whatever_it_says() {
    for outcome in [Outcome::Success, Outcome::failure(), Outcome::Ignored] {
        let circuit = half_open(fragile()).await;
        let slow = hold(&circuit);
        advance(s(5)).await;
        slow.settle(outcome);
        assert_state(&circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn probes_one_after_the_other_may_be_more_than_at_once() {
    let circuit = half_open(fragile().probes(1).successes_to_close(5)).await;
    for passed in 1..5 {
        succeed(&circuit);
        assert_eq!(circuit.snapshot().probes_passed, passed);
    }
    succeed(&circuit);
    assert_state(&circuit, State::Closed);
}
