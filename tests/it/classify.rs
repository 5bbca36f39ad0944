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
fn server_errors_429_and_408_are_failures_and_nothing_else_is() {
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
fn a_grpc_status_that_does_not_exist_is_a_failure_as_clients_read_it_as_unknown() {
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
fn anything_with_a_status_can_be_judged_by_it() {
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
fn with_headers_it_is_judged_as_http_s_own_response() {
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
fn what_another_circuit_breaker_has_rejected_is_ignored() {
    let circuit = circuit(fragile());
    trip(&circuit);
    let open = || rejected(&circuit);
    let errors: [BoxError; 3] = [
        open().into(),
        Error::<BoxError>::Rejected(open()).into(),
        Box::new(std::io::Error::other(Wrapped(open()))),
    ];
    for error in errors {
        assert_ignored(&error);
        assert_ignored(&Error::Inner(error));
    }
    assert_ignored(&Error::<BoxError>::Rejected(open()));
    for error in [BoxError::from("refused"), std::io::Error::other("refused").into()] {
        assert_eq!(ErrorsAsFailures.classify(Err::<&(), _>(&error)), Outcome::failure());
        let error = Error::Inner(error);
        assert_eq!(ErrorsAsFailures.classify(Err::<&(), _>(&error)), Outcome::failure());
    }
}

/// An error that says why.
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

/// A classifier knows nothing of circuits: here one guides retries.
#[test]
fn a_classifier_is_of_use_elsewhere() {
    fn should_retry<R, E>(classifier: &impl Classify<R, E>, result: &Result<R, E>) -> bool {
        matches!(classifier.classify(result.as_ref()), Outcome::Failure { .. })
    }
    assert!(should_retry(&ErrorsAsFailures, &Err::<(), _>("down")));
    assert!(!should_retry(&ErrorsAsFailures, &Ok::<_, &str>(())));
    assert!(should_retry(&HttpStatus, &Ok::<_, &str>(response(503, &[]))));
}

#[cfg(feature = "tower-http")]
#[test]
fn tower_http_s_classifiers_say_what_is_a_failure() {
    use tower_breaker::classify::TowerHttp;
    use tower_http::classify::{GrpcErrorsAsFailures, StatusInRangeAsFailures};

    let status = |status: u16| Response::builder().status(status).body(()).unwrap();
    let range = TowerHttp(StatusInRangeAsFailures::new(400..=499));
    let judge = |response: &Response<()>| range.classify(Ok::<_, &()>(response));
    assert_eq!(judge(&status(404)), Outcome::failure());
    assert_eq!(judge(&status(503)), Outcome::Success, "as it was told");
    assert_eq!(Classify::<Response<()>, _>::classify(&range, Err(&())), Outcome::failure());

    let grpc = TowerHttp(GrpcErrorsAsFailures::new());
    let judge = |response: &Response<()>| grpc.classify(Ok::<_, &()>(response));
    let trailers_only = Response::builder().header("grpc-status", "5").body(()).unwrap();
    assert_eq!(judge(&trailers_only), Outcome::failure(), "to tower-http, NotFound is");
    assert_eq!(judge(&status(200)), Outcome::Success, "until its trailers come");
}
