//! What a trace may contain, and what it may not.

use std::io::{self, BufReader, Read};

use tower_breaker::Policy;
use tower_breaker::replay::{Replay, ReplayError};

fn read(trace: &str) -> Result<u64, ReplayError> {
    Replay::new(Policy::default()).read(trace.as_bytes()).map(|replayed| replayed.calls)
}

#[test]
fn times_are_seconds_or_milliseconds_and_other_fields_are_ignored() {
    let trace = "\n\
        {\"at\":1,\"took\":0.5,\"outcome\":\"success\"}\r\n\
        \n\
        {\"at_ms\":1500.25,\"took_ms\":2,\"outcome\":\"cancelled\",\"path\":\"/a\",\"status\":200}\n\
        {\"at\":1.6,\"took_ms\":0,\"outcome\":\"ignored\",\"circuit\":\"a\\u0041\"}";
    assert_eq!(read(trace).unwrap(), 3);
    assert_eq!(read("").unwrap(), 0);
}

#[test]
fn a_wrong_line_is_named_with_what_is_wrong_and_what_is_expected() {
    let long =
        format!(r#"{{"at":1,"took":1,"outcome":"success","circuit":"{}"}}"#, "x".repeat(129));
    let longer = "x".repeat(70_000);
    let example = r#"expected an object such as {"at": 12.5, "took": 0.08, "outcome": "success"}"#;
    let cases = [
        ("nonsense", format!("expected ident at column 2; {example}")),
        ("[1,2]", "invalid length 2, expected a call".to_owned()),
        (r#"{"at":1,"took":1}"#, format!("missing field `outcome` at column 17; {example}")),
        (
            r#"{"took":1,"outcome":"success"}"#,
            "`at` is missing, expected seconds, or milliseconds as `at_ms`".to_owned(),
        ),
        (
            r#"{"at":1,"outcome":"success"}"#,
            "`took` is missing, expected seconds, or milliseconds as `took_ms`".to_owned(),
        ),
        (
            r#"{"at":1,"at_ms":1,"took":1,"outcome":"success"}"#,
            "both `at` and `at_ms` are set, expected one".to_owned(),
        ),
        (
            r#"{"at":1,"took":1,"outcome":"ok\u001b[2J"}"#,
            "`outcome` is \"ok\\u{1b}[2J\", expected success, failure, ignored or cancelled"
                .to_owned(),
        ),
        (
            r#"{"at":-1,"took":1,"outcome":"success"}"#,
            "`at` is -1, expected seconds from 0 to 6324480000".to_owned(),
        ),
        (
            r#"{"at":1,"took_ms":1e300,"outcome":"success"}"#,
            "expected milliseconds from 0 to 6324480000000".to_owned(),
        ),
        (
            r#"{"at":1,"took":1e999,"outcome":"success"}"#,
            format!("number out of range at column 20; {example}"),
        ),
        (
            r#"{"at":NaN,"took":1,"outcome":"success"}"#,
            format!("expected value at column 7; {example}"),
        ),
        (
            r#"{"at":"1","took":1,"outcome":"success"}"#,
            "invalid type: string \\\"1\\\", expected f64".to_owned(),
        ),
        (&long, "`circuit` has 129 bytes, expected at most 128".to_owned()),
        (&longer, "longer than 65536 bytes, expected one call".to_owned()),
        (
            r#"{"at":0.5,"took":0.1,"outcome":"success"}"#,
            "the time goes back by 9.5s, expected the order in which calls ended".to_owned(),
        ),
    ];
    for (line, problem) in cases {
        let trace = format!("{{\"at\":10,\"took\":1,\"outcome\":\"success\"}}\n{line}\n");
        let error = read(&trace).unwrap_err();
        let shown: String = line.chars().take(60).collect();
        assert_eq!(error.line(), Some(2), "{shown}");
        assert!(!error.is_read());
        let message = error.to_string();
        assert!(message.starts_with("line 2: "), "{message}");
        assert!(message.contains(&problem), "{shown}:\n{message}\n{problem}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn times_may_go_back_by_a_second() {
    let trace = "{\"at\":10,\"took\":1,\"outcome\":\"success\"}\n{\"at\":9,\"took\":1,\"outcome\":\"success\"}";
    assert_eq!(read(trace).unwrap(), 2);
}

#[test]
fn a_reader_that_fails_is_said_to_have_failed() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let call = "{\"at\":1,\"took\":1,\"outcome\":\"success\"}\n".as_bytes();
    let error =
        Replay::new(Policy::default()).read(BufReader::new(call.chain(Broken))).unwrap_err();
    assert!(error.is_read() && error.line().is_none());
    assert_eq!(error.to_string(), "cannot read the trace after line 1: gone");
}

#[test]
fn bounds_are_errors() {
    let none = Replay::all([]).read(&b""[..]).unwrap_err();
    assert_eq!(none.to_string(), "there is no policy, expected at least one");

    let lines: Vec<_> = (0..11)
        .map(|n| format!("{{\"at\":1,\"took\":0,\"outcome\":\"success\",\"circuit\":\"{n}\"}}\n"))
        .collect();
    let many = Replay::all(vec![Policy::default(); 10_000]);
    let error = many.read(lines.concat().as_bytes()).unwrap_err();
    assert_eq!(error.line(), Some(11));
    assert!(error.to_string().contains("more than 10 circuits under 10000 policies"), "{error}");
}
