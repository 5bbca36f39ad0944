//! The mistakes that must not compile, and what rustc tells who makes them.

use std::path::Path;
use std::process::{Command, Output};

/// Builds a program of `tests/mistakes`, without the network.
fn build(program: &str) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = root.join("tests/mistakes");
    // The versions that this build uses, so that none need be fetched.
    std::fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--bin", program])
        .current_dir(package)
        .env("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/mistakes"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .unwrap()
}

#[track_caller]
fn assert_says(program: &str, advice: &[&str]) {
    let output = build(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "`{program}` compiles");
    for words in advice {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
}

#[test]
fn rustc_says_what_to_write_instead() {
    let fine = build("none");
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));

    let advice = [
        "cannot tell whether `&'static str` is a success",
        "no classifier for this response was chosen",
        "`.classify(ErrorsAsFailures)`",
        "`.classify(HttpStatus::of(Reply::status))`",
        "`.classify_fn(|result: Result<&Reply, &MyError>| ...)`",
    ];
    assert_says("no_classifier", &advice);

    let advice = [
        "`ErrorsAsFailures` over an error type without values",
        "Leave the default classifier in place for `http::Response`",
    ];
    assert_says("no_errors", &advice);

    let advice = [
        "`.keyed_by(..)` cannot be combined with `",
        "Reject<Waiting>`",
        "remove `.wait_while_open()`",
        "can be combined with `.respond()`, `.fallback(..)`, `.observe_body()`, or none of these",
    ];
    assert_says("waiting_for_a_key", &advice);

    let advice = [
        "`.observe_body()` cannot judge `&'static str`",
        "`.observe_body()` is for services of `http::Request` and `http::Response`",
    ];
    assert_says("no_http_body", &advice);

    let advice =
        ["expected struct `http::response::Response<String>`", "`Fallback<Http<Vec<u8>>>`"];
    assert_says("other_fallback", &advice);

    let advice = [
        "makes no body of type `NoDefault` for a rejection",
        "`.respond()` is for bodies with a `Default`",
        "`.respond_with(|rejected, response| response.map(|()| MyBody::empty()))`",
    ];
    assert_says("no_body", &advice);
}
