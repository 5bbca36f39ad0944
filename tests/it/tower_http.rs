//! tower-http's classifiers as ours: two versions of tower-http, one rule.

use http::Response;
use tower_breaker::classify::{TowerHttp, TowerHttp06};
use tower_breaker::{Classify, ErrorsAsFailures, Outcome, Rejected, State};
use tower_http::classify as v07;
use tower_http_06::classify as v06;

fn head(status: u16, grpc_status: Option<&str>) -> Response<()> {
    let head = Response::builder().status(status);
    let head = grpc_status.into_iter().fold(head, |head, code| head.header("grpc-status", code));
    head.body(()).unwrap()
}

/// Judges with both versions, which must agree.
#[track_caller]
fn judge(
    new: &impl Classify<Response<()>, tower::BoxError>,
    old: &impl Classify<Response<()>, tower::BoxError>,
    result: Result<&Response<()>, &tower::BoxError>,
) -> Outcome {
    let outcome = new.classify(result);
    assert_eq!(outcome, old.classify(result), "tower-http 0.7 and 0.6 disagree about {result:?}");
    outcome
}

#[test]
fn the_failures_of_both_versions_count_and_nothing_else_does() {
    let new = TowerHttp(v07::StatusInRangeAsFailures::new(400..=499));
    let old = TowerHttp06(v06::StatusInRangeAsFailures::new(400..=499));
    for status in 100..=599 {
        let failed = judge(&new, &old, Ok(&head(status, None))) == Outcome::failure();
        assert_eq!(failed, (400..500).contains(&status), "{status}");
    }
}

#[test]
fn a_grpc_status_in_the_head_counts_and_its_absence_is_a_success() {
    let new = TowerHttp(v07::GrpcErrorsAsFailures::new());
    let old = TowerHttp06(v06::GrpcErrorsAsFailures::new());
    assert_eq!(judge(&new, &old, Ok(&head(200, Some("5")))), Outcome::failure(), "NotFound");
    assert_eq!(judge(&new, &old, Ok(&head(200, Some("0")))), Outcome::Success);
    assert_eq!(judge(&new, &old, Ok(&head(200, None))), Outcome::Success, "until its trailers");
}

#[test]
fn errors_are_failures_in_both_versions_and_rejections_are_ignored() {
    let new = TowerHttp(v07::ServerErrorsAsFailures::new());
    let old = TowerHttp06(v06::ServerErrorsAsFailures::new());
    let refused = tower::BoxError::from("refused");
    assert_eq!(judge(&new, &old, Err(&refused)), Outcome::failure());
    let rejected = tower::BoxError::from(Rejected::for_test("inner", State::Open, None));
    assert_eq!(judge(&new, &old, Err(&rejected)), Outcome::Ignored);
    assert_eq!(judge(&ErrorsAsFailures, &new, Err(&rejected)), Outcome::Ignored);
}
