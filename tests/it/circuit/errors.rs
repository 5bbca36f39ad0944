//! Errors inside other errors: of anyhow, of thiserror, in boxes, with added context.

use std::future::ready;
use std::io;

use anyhow::Context as _;
use tower::BoxError;
use tower_breaker::{Circuit, Classify, Error, ErrorsAsFailures, Outcome, Rejected, State};

use crate::support::*;

/// An error with a source.
#[derive(Debug, thiserror::Error)]
#[error("connection closed")]
struct Disconnected(#[source] io::Error);

fn disconnected() -> Disconnected {
    Disconnected(io::ErrorKind::BrokenPipe.into())
}

/// The error of a call that fails, and of one that is rejected.
async fn both<E: From<Disconnected>>(circuit: &Circuit) -> [Error<E>; 2] {
    drop(circuit.reset());
    let failed =
        circuit.execute(|| ready(Err::<(), _>(E::from(disconnected())))).await.unwrap_err();
    let rejected = circuit.execute(|| ready(Ok::<(), E>(()))).await.unwrap_err();
    assert!(!failed.is_rejected() && rejected.is_rejected());
    [failed, rejected]
}

fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn anyhow_keeps_both_errors_through_added_context() {
    let [failed, rejected] = both::<Disconnected>(&circuit(fragile())).await;
    let call = |result: Result<(), Error<Disconnected>>| -> anyhow::Result<()> {
        result.map_err(Error::flatten::<anyhow::Error>)?;
        Ok(())
    };
    let error = call(Err(failed)).context("charge").context("checkout").unwrap_err();
    let inner: &Disconnected = error.downcast_ref().expect("the inner error");
    assert_eq!(inner.0.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(chain(&*error), ["checkout", "charge", "connection closed", "broken pipe"]);
    assert!(Rejected::find_in(&*error).is_none());

    let error = call(Err(rejected)).context("charge").context("checkout").unwrap_err();
    assert_eq!(Rejected::find_in(&*error).expect("the rejection").state(), State::Open);
    assert!(error.downcast_ref::<Rejected>().is_some());
}

#[derive(Debug, thiserror::Error)]
enum PayError {
    #[error("not available")]
    Rejected(#[from] Rejected),
    #[error("failed")]
    Disconnected(#[from] Disconnected),
    #[error("failed in a box")]
    Boxed(#[from] BoxError),
}

#[tokio::test(start_paused = true)]
async fn a_thiserror_enum_keeps_both_errors() {
    let [failed, rejected] = both::<Disconnected>(&circuit(fragile())).await;
    let call = |result: Result<(), Error<Disconnected>>| -> Result<(), PayError> {
        result.map_err(Error::flatten::<PayError>)?;
        Ok(())
    };
    let error = call(Err(failed)).unwrap_err();
    assert!(matches!(&error, PayError::Disconnected(_)));
    assert_eq!(chain(&error), ["failed", "connection closed", "broken pipe"]);
    let error = call(Err(rejected)).unwrap_err();
    assert!(matches!(&error, PayError::Rejected(_)));
    assert_eq!(Rejected::find_in(&error).expect("the rejection").state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_thiserror_enum_keeps_a_boxed_inner_error_inside_anyhow() {
    let [failed, rejected] = both::<BoxError>(&circuit(fragile())).await;
    let call = |result: Result<(), Error<BoxError>>| -> anyhow::Result<()> {
        result.map_err(Error::flatten::<PayError>)?;
        Ok(())
    };
    let error = call(Err(failed)).context("checkout").unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<Disconnected>), "{error:?}");
    assert_eq!(chain(&*error)[1..], ["failed in a box", "connection closed", "broken pipe"]);
    let error = call(Err(rejected)).context("checkout").unwrap_err();
    assert_eq!(Rejected::find_in(&*error).expect("the rejection").state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_question_mark_into_a_box_returns_the_inner_error_itself() {
    fn boxed<E>(error: Error<E>) -> BoxError
    where
        BoxError: From<Error<E>>,
    {
        let fails = || -> Result<(), BoxError> { Ok(Err(error)?) };
        fails().unwrap_err()
    }
    let circuit = circuit(fragile());
    let [typed, _] = both::<Disconnected>(&circuit).await;
    let [in_a_box, rejected] = both::<BoxError>(&circuit).await;
    for error in [boxed(typed), boxed(in_a_box)] {
        assert!(error.is::<Disconnected>());
        assert_eq!(chain(&*error), ["connection closed", "broken pipe"]);
    }
    let error = boxed(rejected);
    assert!(error.is::<Rejected>() && Rejected::find_in(&*error).is_some());
}

#[test]
fn a_rejection_made_for_tests_is_like_one_of_a_circuit() {
    let made = Rejected::for_test("payments", State::Open, Some(s(30)));
    assert_eq!(made.name().as_str(), "payments");
    assert_eq!((made.state(), made.retry_after()), (State::Open, Some(s(30))));
    assert_eq!(made.retry_after_seconds(), Some(30));
    let boxed = BoxError::from(Error::<io::Error>::Rejected(made));
    assert!(Rejected::find_in(&*boxed).is_some());
    let judged = ErrorsAsFailures.classify(Err::<&(), _>(&boxed));
    assert_eq!(judged, Outcome::Ignored, "like every rejection");
    let forced = Rejected::for_test("a".to_owned(), State::ForcedOpen, None);
    assert_eq!(forced.retry_after_seconds(), None);
}

#[test]
#[should_panic = "a circuit that is closed rejects no call"]
fn a_rejection_made_for_a_closed_circuit_panics() {
    let _ = Rejected::for_test("payments", State::Closed, None);
}

/// The docs say so of `io::Error::other`; it holds for `transparent` too.
#[test]
fn an_error_that_hides_its_source_hides_the_rejection() {
    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent(#[from] Rejected);

    let error = Transparent(Rejected::for_test("payments", State::Open, None));
    assert!(Rejected::find_in(&error).is_none());
    assert!(error.to_string().contains("payments"), "only the text is left");
}
