//! Calls without tower.

use std::future::{pending, ready};

use tower_breaker::circuit::Unserved;
use tower_breaker::policy::Cancelled;
use tower_breaker::{Error, Outcome, Policy, Rejected, State};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn execute_returns_the_result_of_the_call() {
    let circuit = circuit(fragile());
    assert_eq!(circuit.execute(|| ready(Ok::<_, &str>(7))).await, Ok(7));
    let error = circuit.execute(|| ready(Err::<(), _>("down"))).await.unwrap_err();
    assert_eq!(error, Error::Inner("down"));
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_does_not_run_the_call() {
    let circuit = circuit(fragile());
    circuit.force_open("test");
    let call = || -> std::future::Ready<Result<(), &str>> { panic!("must not run") };
    let error = circuit.execute(call).await.unwrap_err();
    assert!(error.is_rejected());
    assert_eq!(error.retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn the_classifier_of_the_caller_decides() {
    let circuit = circuit(fragile());
    let not_found = |_: &Result<(), &str>| Outcome::Success;
    circuit.execute_with(not_found, || ready(Err("no such row"))).await.unwrap_err();
    assert_state(&circuit, State::Closed);
    let degraded = |_: &Result<(), &str>| Outcome::failure_with_hint(s(33));
    circuit.execute_with(degraded, || ready(Ok(()))).await.unwrap();
    assert_eq!(rejected(&circuit).retry_after(), Some(s(33)));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_replaces_only_rejections() {
    let circuit = circuit(fragile());
    let fallback = |_| ready(Ok("from the cache"));
    let failed = circuit.execute_or(|| ready(Err("down")), fallback).await;
    assert_eq!(failed, Err("down"));
    let rejected = circuit.execute_or(|| ready(Err("down")), fallback).await;
    assert_eq!(rejected, Ok("from the cache"));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_for_failures_may_replace_or_return_them() {
    let circuit = circuit(fragile());
    let classify = |result: &Result<&str, &str>| match result {
        Ok("degraded") | Err("down") => Outcome::failure(),
        Err("not mine") => Outcome::Ignored,
        _ => Outcome::Success,
    };
    // Each result, and what the fallback gets.
    let answers = [
        (Ok("fresh"), None),
        (Err("no such row"), None),
        (Err("not mine"), None),
        (Ok("degraded"), Some(Unserved::Failed(Ok("degraded")))),
        (Err("down"), Some(Unserved::Failed(Err("down")))),
    ];
    for (result, expected) in answers {
        drop(circuit.reset());
        let mut received = None;
        let stale = |unserved: Unserved<_, _>| {
            received = Some(unserved.clone());
            assert_state(&circuit, State::Open);
            let Unserved::Failed(result) = unserved else { panic!("the call was made") };
            ready(result.or(Ok("stale")))
        };
        let served = circuit.execute_with_fallback(classify, || ready(result), stale).await;
        assert_eq!(received, expected);
        assert_eq!(served, if result == Err("down") { Ok("stale") } else { result });
        assert_eq!(circuit.state() == State::Open, expected.is_some());
    }
    let calls = circuit.snapshot().tally;
    let stale = |unserved| match unserved {
        Unserved::Rejected(rejected) => ready(Err(rejected.state().as_str())),
        Unserved::Failed(_) => panic!("the call was not made"),
    };
    let call = || -> std::future::Ready<_> { panic!("must not run") };
    let served = circuit.execute_with_fallback(classify, call, stale).await;
    assert_eq!(served, Err("open"));
    assert_eq!(circuit.snapshot().tally, calls, "the fallback is not counted");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_is_passed_on() {
    for in_future in [true, false] {
        let circuit = circuit(fragile());
        let probing = circuit.clone();
        let task = tokio::spawn(async move {
            let call = || {
                assert!(in_future, "as asked, before the future");
                async { panic!("as asked, in the future") as Result<(), ()> }
            };
            probing.execute(call).await.ok();
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_state(&circuit, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_dropped_in_a_panic_is_a_failure() {
    let circuit = circuit(fragile());
    let probing = circuit.clone();
    let task = tokio::spawn(async move {
        let _permit = probing.try_acquire().unwrap();
        panic!("as asked");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_by_a_panic_elsewhere_is_no_failure() {
    let circuit = circuit(fragile());
    let calling = circuit.clone();
    let task = tokio::spawn(async move {
        let call = calling.execute(pending::<Result<(), ()>>);
        let other = async {
            tokio::task::yield_now().await;
            panic!("as asked");
        };
        let _ = tokio::join!(call, other);
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_counts_as_the_policy_says() {
    let slow = || fragile().slow_call_duration(s(1));
    let cases = [
        (fragile(), s(100), State::Closed),
        (fragile().cancelled(Cancelled::Failure), ms(1), State::Open),
        (slow(), ms(999), State::Closed),
        (slow(), ms(1_001), State::Open),
        (slow().cancelled(Cancelled::Ignored), s(100), State::Closed),
    ];
    for (policy, after, state) in cases {
        let circuit = circuit(policy);
        let call = circuit.execute(pending::<Result<(), ()>>);
        assert!(tokio::time::timeout(after, call).await.is_err());
        assert_state(&circuit, state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_never_polled_asks_for_no_permit() {
    let circuit = circuit(fragile().cancelled(Cancelled::Failure));
    drop(circuit.execute(|| ready(Ok::<_, ()>(()))));
    assert_state(&circuit, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn errors_convert_with_a_question_mark_and_can_be_found() {
    type BoxError = Box<dyn std::error::Error + Send + Sync>;
    async fn call(fails: Result<(), BoxError>) -> Result<(), BoxError> {
        let circuit = circuit(Policy::builder().consecutive_failures(1));
        circuit.execute(|| ready(fails)).await?;
        circuit.force_open("test");
        circuit.execute(|| ready(Ok::<_, std::io::Error>(()))).await?;
        Ok(())
    }
    assert_eq!(call(Err("down".into())).await.unwrap_err().to_string(), "down");
    let boxed = call(Ok(())).await.unwrap_err();
    assert_eq!(Rejected::find_in(&*boxed).unwrap().state(), State::ForcedOpen);
    let wrapped = std::io::Error::other(boxed);
    assert!(
        Rejected::find_in(&wrapped).is_none(),
        "io::Error hides the box inside it, and has no source"
    );
    let local: Box<dyn std::error::Error> = Error::<BoxError>::Inner("x".into()).into();
    assert_eq!(local.to_string(), "x");
}
