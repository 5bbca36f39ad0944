//! One line of a trace: a call.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use super::calls::Ending;
use crate::name::CircuitName;

/// The latest time, and the longest call: what is larger is a mistake in the unit. Times since 1970
/// fit, in seconds and in milliseconds, for two centuries.
const MOST_SECONDS: f64 = 200.0 * 366.0 * 86_400.0;

/// How much of a wrong value an error shows.
const SHOWN: usize = 40;

const EXAMPLE: &str =
    r#"expected an object such as {"at": 12.5, "took": 0.08, "outcome": "success"}"#;

/// A line as JSON.
#[derive(Deserialize)]
#[serde(expecting = "a call")]
struct Line<'a> {
    at: Option<f64>,
    at_ms: Option<f64>,
    took: Option<f64>,
    took_ms: Option<f64>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow, default)]
    circuit: Cow<'a, str>,
}

/// A call, as its line describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call<'a> {
    /// When it ended.
    pub(super) at: Duration,
    pub(super) took: Duration,
    pub(super) ending: Ending,
    /// Empty if the line names none.
    pub(super) circuit: Cow<'a, str>,
}

impl<'a> Call<'a> {
    /// Reads a line. The error says what is wrong, and what is expected.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, String> {
        let line: Line<'a> = serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            // A line is read alone: its number in the message would always be 1.
            let what = text.split(" at line ").next().unwrap_or_default();
            let column = error.column();
            format!("{} at column {column}; {EXAMPLE}", what.escape_debug())
        })?;
        let ending = Ending::ALL.into_iter().find(|ending| ending.as_str() == line.outcome);
        let ending = ending.ok_or_else(|| {
            let shown = quoted(&line.outcome);
            format!("`outcome` is {shown}, expected success, failure, ignored or cancelled")
        })?;
        if line.circuit.len() > CircuitName::MAX_BYTES {
            let (bytes, most) = (line.circuit.len(), CircuitName::MAX_BYTES);
            return Err(format!("`circuit` has {bytes} bytes, expected at most {most}"));
        }
        Ok(Self {
            at: duration(["at", "at_ms"], [line.at, line.at_ms])?,
            took: duration(["took", "took_ms"], [line.took, line.took_ms])?,
            ending,
            circuit: line.circuit,
        })
    }
}

/// Converts a time that is given in seconds or in milliseconds.
fn duration(names: [&str; 2], values: [Option<f64>; 2]) -> Result<Duration, String> {
    let (name, value, unit, in_second) = match values {
        [Some(value), None] => (names[0], value, "seconds", 1.0),
        [None, Some(value)] => (names[1], value, "milliseconds", 1e3),
        [None, None] => {
            let [s, ms] = names;
            return Err(format!("`{s}` is missing, expected seconds, or milliseconds as `{ms}`"));
        }
        [Some(_), Some(_)] => {
            return Err(format!("both `{}` and `{}` are set, expected one", names[0], names[1]));
        }
    };
    let most = MOST_SECONDS * in_second;
    if !(0.0..=most).contains(&value) {
        return Err(format!("`{name}` is {value}, expected {unit} from 0 to {most}"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(Duration::from_nanos((value * (1e9 / in_second)).round() as u64))
}

/// A value as errors show it: in quotes, escaped, and cut.
fn quoted(value: &str) -> String {
    let start: String = value.chars().take(SHOWN).collect();
    let more = if start.len() < value.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
