//! What counts as a failure.

use std::convert::Infallible;

use http::{Response, StatusCode, header};
use tower::BoxError;
use tower_breaker::{Classify, Error, ErrorsAsFailures, HttpStatus, Outcome, Rejected};

use crate::support::*;

fn http(response: &Response<()>) -> Outcome {
    HttpStatus.classify(Ok::<_, &Infallible>(response))
}

fn response(status: u16, headers: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

#[test]
fn only_5xx_429_and_408_are_failures() {
    for status in 100..=599 {
        let failed = http(&response(status, &[])) == Outcome::failure();
        assert_eq!(failed, status >= 500 || [408, 429].contains(&status), "{status}");
    }
    assert_eq!(HttpStatus.classify(Err::<&Response<()>, _>(&"refused")), Outcome::failure());
}

#[test]
fn retry_after_is_a_hint_in_seconds_or_as_a_date() {
    let date = (header::DATE.as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
    let hints: [(&[(&str, &str)], _); 8] = [
        (&[("retry-after", "120")], Some(s(120))),
        (&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), date], Some(s(30))),
        (&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
        (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), date], None),
        (&[("retry-after", "-5")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "99999999999999999999999")], None),
        (&[("retry-after", "")], None),
    ];
    for (headers, retry_after) in hints {
        for status in [503, 429, 408] {
            let outcome = http(&response(status, headers));
            assert_eq!(outcome, Outcome::Failure { retry_after }, "{headers:?}");
        }
        assert_eq!(http(&response(200, headers)), Outcome::Success);
    }
}

#[test]
fn a_grpc_reply_is_judged_by_its_status() {
    for code in 0..=16 {
        let outcome = http(&response(200, &[("grpc-status", &code.to_string())]));
        let failed = [2, 4, 8, 13, 14, 15].contains(&code);
        assert_eq!(outcome == Outcome::failure(), failed, "{code}");
    }
}

#[test]
fn an_invalid_grpc_status_is_a_failure() {
    for code in ["17", "99", "65535", "65536", "-1", "what", ""] {
        assert_eq!(http(&response(200, &[("grpc-status", code)])), Outcome::failure(), "{code}");
    }
}

#[test]
fn grpc_pushback_is_a_hint() {
    for (pushback, hint) in [("1500", Some(ms(1_500))), ("-1", None), ("x", None)] {
        let reply = response(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)]);
        assert_eq!(http(&reply), Outcome::Failure { retry_after: hint });
    }
}

#[test]
fn any_type_with_a_status_can_be_judged_by_it() {
    struct Reply(StatusCode);
    let classifier = HttpStatus::of(|reply: &Reply| reply.0);
    let judge = |status| classifier.classify(Ok::<_, &Infallible>(&Reply(status)));
    assert_eq!(judge(StatusCode::OK), Outcome::Success);
    assert_eq!(judge(StatusCode::NOT_FOUND), Outcome::Success);
    assert_eq!(judge(StatusCode::BAD_GATEWAY), Outcome::failure());
    assert_eq!(judge(StatusCode::REQUEST_TIMEOUT), Outcome::failure());
    assert_eq!(classifier.classify(Err::<&Reply, _>(&"refused")), Outcome::failure());
}

#[test]
fn a_type_with_headers_is_judged_like_a_response_of_http() {
    let classifier = HttpStatus::of(Response::<()>::status).with_headers(Response::<()>::headers);
    let replies = [
        response(200, &[]),
        response(503, &[("retry-after", "120")]),
        response(429, &[("retry-after", "7")]),
        response(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "1500")]),
    ];
    for reply in &replies {
        let outcome = classifier.classify(Ok::<_, &Infallible>(reply));
        assert_eq!(outcome, http(reply), "{reply:?}");
    }
    let outcome = classifier.classify(Ok::<_, &Infallible>(&replies[1]));
    assert_eq!(outcome, Outcome::failure_with_hint(s(120)));
    assert_eq!(classifier.classify(Err::<&Response<()>, _>(&"refused")), Outcome::failure());
}

#[test]
fn a_rejection_of_another_circuit_breaker_is_ignored() {
    let circuit = circuit(fragile());
    trip(&circuit);
    let rejection = || rejected(&circuit);
    let errors: [BoxError; 3] = [
        rejection().into(),
        Error::<BoxError>::Rejected(rejection()).into(),
        Box::new(std::io::Error::other(Wrapped(rejection()))),
    ];
    for error in errors {
        assert_ignored(&error);
        assert_ignored(&Error::Inner(error));
    }
    assert_ignored(&Error::<BoxError>::Rejected(rejection()));
    for error in [BoxError::from("refused"), std::io::Error::other("refused").into()] {
        assert_eq!(ErrorsAsFailures.classify(Err::<&(), _>(&error)), Outcome::failure());
        let error = Error::Inner(error);
        assert_eq!(ErrorsAsFailures.classify(Err::<&(), _>(&error)), Outcome::failure());
    }
}

/// An error with a source.
#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped(#[source] Rejected);

#[track_caller]
fn assert_ignored<E: std::fmt::Debug + 'static>(error: &E) {
    let result = Err::<&Response<()>, _>(error);
    assert_eq!(HttpStatus.classify(result), Outcome::Ignored, "{error:?}");
    assert_eq!(ErrorsAsFailures.classify(result), Outcome::Ignored, "{error:?}");
    let of = HttpStatus::of(Response::<()>::status);
    assert_eq!(of.classify(result), Outcome::Ignored, "{error:?}");
    let with_headers = of.with_headers(Response::<()>::headers);
    assert_eq!(with_headers.classify(result), Outcome::Ignored, "{error:?}");
}

/// A classifier does not depend on circuits: here one decides on retries.
#[test]
fn a_classifier_can_be_used_without_a_circuit() {
    fn should_retry<R, E>(classifier: &impl Classify<R, E>, result: &Result<R, E>) -> bool {
        matches!(classifier.classify(result.as_ref()), Outcome::Failure { .. })
    }
    assert!(should_retry(&ErrorsAsFailures, &Err::<(), _>("down")));
    assert!(!should_retry(&ErrorsAsFailures, &Ok::<_, &str>(())));
    assert!(should_retry(&HttpStatus, &Ok::<_, &str>(response(503, &[]))));
}

#[cfg(feature = "tower-http")]
#[test]
fn classifiers_of_tower_http_can_be_used() {
    use tower_breaker::classify::TowerHttp;
    use tower_http::classify::{GrpcErrorsAsFailures, StatusInRangeAsFailures};

    let status = |status: u16| Response::builder().status(status).body(()).unwrap();
    let range = TowerHttp(StatusInRangeAsFailures::new(400..=499));
    let judge = |response: &Response<()>| range.classify(Ok::<_, &()>(response));
    assert_eq!(judge(&status(404)), Outcome::failure());
    assert_eq!(judge(&status(503)), Outcome::Success, "outside the given range");
    assert_eq!(Classify::<Response<()>, _>::classify(&range, Err(&())), Outcome::failure());

    let grpc = TowerHttp(GrpcErrorsAsFailures::new());
    let judge = |response: &Response<()>| grpc.classify(Ok::<_, &()>(response));
    let trailers_only = Response::builder().header("grpc-status", "5").body(()).unwrap();
    assert_eq!(
        judge(&trailers_only),
        Outcome::failure(),
        "tower-http counts NotFound as a failure"
    );
    assert_eq!(judge(&status(200)), Outcome::Success, "until the trailers arrive");
}
