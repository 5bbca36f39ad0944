//! A range of Prometheus as a trace: what counters grew by, as calls.
//!
//! A counter says how many calls ended between two of its samples, and not when. So the calls of a step
//! are spread evenly over it, and the kinds evenly among each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::{self, Read};

use serde::Deserialize;

/// The largest file that is read.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// The most calls of a range.
const MOST_CALLS: u64 = 1_000_000_000;

/// The kinds of calls, as metrics and as traces have them.
const KINDS: [(&str, &str); 4] = [
    ("successful", "success"),
    ("failed", "failure"),
    ("ignored", "ignored"),
    ("cancelled", "cancelled"),
];

const EXPECTED: &str = "expected the answer to `query_range` for `tower_breaker_calls_total`";

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: HashMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// What counters grew by in one step, by kind.
#[derive(Debug)]
struct Step {
    from: u64,
    grew: [u64; KINDS.len()],
}

/// The calls of a range, as the lines of a trace. Its time zero is the first sample.
#[derive(Debug)]
pub(crate) struct Range {
    /// Milliseconds since 1970.
    pub(crate) begins: u64,
    /// Series that are no calls with a known outcome.
    pub(crate) skipped: usize,
    circuits: Vec<Circuit>,
    /// When the next call of each circuit ends.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    line: Vec<u8>,
    written: usize,
}

impl Range {
    /// Reads the answer. The error says what is wrong, and what is expected.
    pub(crate) fn read(file: impl Read) -> Result<Self, String> {
        let mut text = Vec::new();
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut text);
        let read = read.map_err(|error| error.to_string())?;
        if read as u64 > MOST_BYTES {
            return Err(format!("more than {MOST_BYTES} bytes, expected a shorter range"));
        }
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|error| format!("{error}; {EXPECTED}"))?;
        if let Some(error) = answer.error {
            return Err(format!("Prometheus refused the query: {error}"));
        }
        let data = answer.data.ok_or_else(|| format!("there is no `data`; {EXPECTED}"))?;
        if data.result_type != "matrix" {
            let found = data.result_type;
            return Err(format!("the result is a {found:?}, expected a matrix: use `query_range`"));
        }
        Self::of(&data.result)
    }

    fn of(all: &[Series]) -> Result<Self, String> {
        let mut circuits: BTreeMap<&str, BTreeMap<u64, Step>> = BTreeMap::new();
        let (mut begins, mut skipped, mut calls) = (u64::MAX, 0, 0_u64);
        for series in all {
            let kind = series.metric.get("kind").ok_or_else(|| {
                format!("the series {:?} has no label `kind`; {EXPECTED}", series.metric)
            })?;
            let Some(kind) = KINDS.iter().position(|(name, _)| name == kind) else {
                skipped += 1;
                continue;
            };
            let name = series.metric.get("name").map_or("", |name| &**name);
            let steps = circuits.entry(name).or_default();
            let mut before: Option<(u64, u64)> = None;
            for (at, value) in &series.values {
                let (at, value) = sample(*at, value)?;
                begins = begins.min(at);
                if let Some((from, had)) = before {
                    if at <= from {
                        return Err(format!("the times of {name:?} go back, expected their order"));
                    }
                    // A counter that fell was of a process that ended: the new one began at zero.
                    let grew = if value >= had { value - had } else { value };
                    let step = steps.entry(at).or_insert(Step { from, grew: [0; KINDS.len()] });
                    step.from = step.from.min(from);
                    step.grew[kind] += grew;
                    calls = calls.saturating_add(grew);
                }
                before = Some((at, value));
            }
        }
        if calls > MOST_CALLS {
            return Err(format!("{calls} calls, expected at most {MOST_CALLS}: a shorter range"));
        }
        let circuits: Vec<_> =
            circuits.into_iter().map(|(name, steps)| Circuit::new(name, steps, begins)).collect();
        let next = circuits.iter().enumerate();
        let next = next.filter_map(|(n, circuit)| Some(Reverse((circuit.at()?, n)))).collect();
        let begins = if begins == u64::MAX { 0 } else { begins };
        Ok(Self { begins, skipped, circuits, next, line: Vec::new(), written: 0 })
    }

    /// Writes the next line. Returns false at the end.
    fn next_line(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.next.pop() else { return false };
        let circuit = &mut self.circuits[number];
        let kind = circuit.next_kind();
        self.line.clear();
        let (name, outcome) = (&circuit.name, KINDS[kind].1);
        let line = format!(
            "{{\"at_ms\":{}.{:03},\"took\":0,\"outcome\":\"{outcome}\",\"circuit\":{name}}}\n",
            at / 1000,
            at % 1000
        );
        self.line.extend_from_slice(line.as_bytes());
        self.written = 0;
        if let Some(at) = self.circuits[number].at() {
            self.next.push(Reverse((at, number)));
        }
        true
    }
}

impl Read for Range {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.written == self.line.len() && !self.next_line() {
            return Ok(0);
        }
        let rest = &self.line[self.written..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.written += count;
        Ok(count)
    }
}

/// A time in milliseconds since 1970, and the value of a counter.
fn sample(at: f64, value: &str) -> Result<(u64, u64), String> {
    /// Larger integers are not exact in Prometheus.
    const MOST: f64 = 9_007_199_254_740_992.0;

    let count = value.parse().ok().filter(|count| (0.0..=MOST).contains(count));
    let count: f64 = count.ok_or_else(|| format!("the value {value:?} is no count of calls"))?;
    if !(0.0..=MOST / 1000.0).contains(&at) {
        return Err(format!("the time {at} is no time since 1970 in seconds"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(((at * 1000.0).round() as u64, count.round() as u64))
}

/// The calls of one circuit, in the order of time.
#[derive(Debug)]
struct Circuit {
    /// As a JSON string.
    name: String,
    /// The steps that are left, the next one last: from, to, and what counters grew by.
    steps: Vec<(u64, u64, [u64; KINDS.len()])>,
    /// How many calls of the step have ended.
    ended: u64,
    /// How far each kind is behind its share, times the calls of the step.
    behind: [i128; KINDS.len()],
}

impl Circuit {
    fn new(name: &str, steps: BTreeMap<u64, Step>, begins: u64) -> Self {
        let mut last = 0;
        let mut all = Vec::new();
        for (to, step) in steps {
            // Replicas whose series have gaps: a step begins where the one before it ended.
            let from = step.from.max(last);
            last = to;
            if step.grew.iter().any(|&grew| grew > 0) {
                all.push((from - begins, to - begins, step.grew));
            }
        }
        all.reverse();
        let name = serde_json::Value::from(name).to_string();
        Self { name, steps: all, ended: 0, behind: [0; KINDS.len()] }
    }

    /// When the next call ends, in microseconds.
    fn at(&self) -> Option<u64> {
        let (from, to, grew) = self.steps.last()?;
        let (calls, length) = (grew.iter().sum::<u64>(), u128::from(to - from) * 1000);
        // The last call of a step ends with it.
        let passed = length * u128::from(self.ended + 1) / u128::from(calls.max(1));
        Some(from * 1000 + u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The kind of the next call: the one that is the furthest behind its share.
    fn next_kind(&mut self) -> usize {
        let Some((_, _, grew)) = self.steps.last() else { return 0 };
        let calls: u64 = grew.iter().sum();
        for (behind, grew) in self.behind.iter_mut().zip(grew) {
            *behind += i128::from(*grew);
        }
        let kinds = 0..KINDS.len();
        let kind = kinds.max_by_key(|&kind| (self.behind[kind], Reverse(kind))).unwrap_or(0);
        self.behind[kind] -= i128::from(calls);
        self.ended += 1;
        if self.ended == calls {
            self.steps.pop();
            (self.ended, self.behind) = (0, [0; KINDS.len()]);
        }
        kind
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn series(name: &str, kind: &str, values: &[(u64, &str)]) -> serde_json::Value {
        json!({ "metric": { "name": name, "kind": kind }, "values": values })
    }

    fn range(result: &[serde_json::Value]) -> Result<Range, String> {
        let data = json!({ "resultType": "matrix", "result": result });
        Range::read(json!({ "status": "success", "data": data }).to_string().as_bytes())
    }

    fn lines(range: &mut Range) -> Vec<String> {
        let mut text = String::new();
        range.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn calls_are_spread_evenly_over_their_step_and_kinds_among_each_other() {
        let mut range = range(&[
            series("a", "successful", &[(100, "7"), (110, "9"), (120, "9")]),
            series("a", "failed", &[(100, "0"), (110, "2"), (120, "1")]),
            series("a", "stale", &[(100, "0"), (110, "2")]),
            series("\"b", "ignored", &[(100, "1"), (110, "2")]),
        ])
        .unwrap();
        assert_eq!((range.begins, range.skipped), (100_000, 1));
        assert_eq!(
            lines(&mut range),
            [
                r#"{"at_ms":2500.000,"took":0,"outcome":"success","circuit":"a"}"#,
                r#"{"at_ms":5000.000,"took":0,"outcome":"failure","circuit":"a"}"#,
                r#"{"at_ms":7500.000,"took":0,"outcome":"success","circuit":"a"}"#,
                r#"{"at_ms":10000.000,"took":0,"outcome":"ignored","circuit":"\"b"}"#,
                r#"{"at_ms":10000.000,"took":0,"outcome":"failure","circuit":"a"}"#,
                // The counter of failures was reset.
                r#"{"at_ms":20000.000,"took":0,"outcome":"failure","circuit":"a"}"#,
            ]
        );
    }

    #[test]
    fn every_call_of_many_replicas_is_there_once_and_in_order() {
        let mut result = Vec::new();
        for replica in 1..4_u64 {
            for (kind, per_step) in [("successful", 97 * replica), ("failed", 3 * replica)] {
                let values = (0..50_u64).map(|n| (1000 + n * 15, (n * per_step).to_string()));
                let values: Vec<_> = values.collect();
                let values: Vec<_> = values.iter().map(|(at, v)| (*at, v.as_str())).collect();
                result.push(series("a", kind, &values));
                result.push(series("b", kind, &values));
            }
        }
        let lines = lines(&mut range(&result).unwrap());
        assert_eq!(lines.len(), 2 * 49 * 600);
        assert_eq!(lines.iter().filter(|line| line.contains("failure")).count(), 2 * 49 * 18);
        let times = lines.iter().map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["at_ms"].as_f64().unwrap()
        });
        assert!(times.is_sorted());
    }

    #[test]
    fn what_is_no_range_of_counters_is_refused() {
        let error = |result: &[serde_json::Value]| range(result).unwrap_err();
        assert!(error(&[json!({ "metric": {}, "values": [] })]).contains("no label `kind`"));
        for value in ["x", "NaN", "-1", "1e300"] {
            assert!(
                error(&[series("a", "failed", &[(1, value)])]).contains("is no count of calls")
            );
        }
        assert!(error(&[series("a", "failed", &[(2, "1"), (1, "2")])]).contains("go back"));
        let much = [(1, "0"), (2, "9000000000")];
        assert!(error(&[series("a", "failed", &much)]).contains("expected at most 1000000000"));
        let read = |text: &str| Range::read(text.as_bytes()).unwrap_err();
        assert!(read("{").contains(EXPECTED) && read("{}").contains(EXPECTED));
        let refused = r#"{"status":"error","error":"bad query"}"#;
        assert_eq!(read(refused), "Prometheus refused the query: bad query");
        let instant = r#"{"data":{"resultType":"vector","result":[]}}"#;
        assert!(read(instant).contains("expected a matrix"));
        assert_eq!(lines(&mut range(&[]).unwrap()), [""; 0]);
    }
}
