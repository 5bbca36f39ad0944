//! What a policy would have done.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tower_breaker::replay::{Calls, CircuitReport, PolicyReport, Replay, Replayed, grid};
use tower_breaker::{CircuitName, State};

use crate::args;
use crate::failure::Failure;
use crate::print::{Output, text};
use crate::prometheus::Range;
use crate::view::{millis, span, tally};

/// How many transitions of a circuit the text shows. JSON has all that the replay kept.
const MOST_SHOWN: usize = 50;

/// How many policies of a grid the text shows.
const MOST_POLICIES: usize = 10;

pub(crate) fn run(args: &args::Replay, out: &mut Output) -> Result<(), Failure> {
    let policies = if args.grid { grid(&args.policy) } else { vec![args.policy.clone()] };
    let mut replay = Replay::all(policies).longest_call(args.longest_call);
    if let Some(circuit) = &args.circuit {
        replay = replay.only(circuit.clone());
    }
    let failed = |error: String| Failure::Failed(format!("{}: {error}", args.file.display()));
    let mut trace = open(&args.file)?;
    let mut range = None;
    if args.prometheus {
        let read = Range::read(&mut trace).map_err(failed)?;
        range = Some((read.begins, read.skipped));
        trace = Box::new(BufReader::with_capacity(1 << 16, read));
    }
    let replayed = replay.read(trace).map_err(|error| failed(error.to_string()))?;
    if out.is_json() {
        for (rank, report) in replayed.ranked(args.cost).into_iter().enumerate() {
            out.json(&as_json(rank + 1, report, &replayed, args.cost))?;
        }
        return Ok(());
    }
    if let Some((begins, skipped)) = range {
        let begins = UNIX_EPOCH + Duration::from_millis(begins);
        let begins = humantime::format_rfc3339_seconds(begins);
        out.line(&format!("00:00:00 is {begins}; calls are spread evenly over each step"))?;
        if skipped > 0 {
            out.line(&format!("{skipped} series of other kinds are not replayed"))?;
        }
    }
    summary(&replayed, args, out)?;
    if args.grid { ranking(&replayed, args.cost, out) } else { details(&replayed, out) }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path)
        .map_err(|error| Failure::Failed(format!("cannot open {}: {error}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn summary(replayed: &Replayed, args: &args::Replay, out: &mut Output) -> Result<(), Failure> {
    let length = span(replayed.to.saturating_sub(replayed.from));
    out.line(&format!("{} calls in {length}", replayed.calls))?;
    if replayed.shortened > 0 {
        let (calls, longest) = (replayed.shortened, span(args.longest_call));
        out.line(&format!(
            "{calls} of them took longer than {longest}, and count as started later than they did: \
             give a longer --longest-call"
        ))?;
    }
    Ok(())
}

fn details(replayed: &Replayed, out: &mut Output) -> Result<(), Failure> {
    for report in &replayed.policies {
        out.line(&format!("policy: {}", report.policy))?;
        for circuit in &report.circuits {
            out.line("")?;
            one(circuit, out)?;
        }
    }
    Ok(())
}

fn one(report: &CircuitReport, out: &mut Output) -> Result<(), Failure> {
    let name = report.circuit.as_ref().map_or("(no name)".to_owned(), |name| text(name.as_str()));
    let CircuitReport { admitted, rejected, trips, reopenings, .. } = report;
    let ends = report.ends.map_or_else(String::new, |state| format!(", at the end {state}"));
    out.line(&format!(
        "{name}: {} trips, {} more openings by probes; open for {}, half-open for {}{ends}",
        trips,
        reopenings,
        span(report.open),
        span(report.half_open),
    ))?;
    out.line(&format!("  rejected: {} bad calls saved, {}", rejected.bad(), good(rejected)))?;
    out.line(&format!("  admitted: {} bad calls, {}", admitted.bad(), good(admitted)))?;
    for timed in report.transitions.iter().take(MOST_SHOWN) {
        out.line(&format!("  {}  {}", clock(timed.at), timed.transition))?;
    }
    let more = report.transitions.len().saturating_sub(MOST_SHOWN) as u64 + report.more_transitions;
    if more > 0 {
        out.line(&format!("  and {more} more transitions"))?;
    }
    Ok(())
}

fn good(calls: &Calls) -> String {
    format!("{} good calls, {} ignored calls", calls.good(), calls.ignored)
}

fn ranking(replayed: &Replayed, cost: f64, out: &mut Output) -> Result<(), Failure> {
    let ranked = replayed.ranked(cost);
    let head = ["SCORE", "BAD SAVED", "GOOD REJECTED", "TRIPS", "POLICY"];
    let mut rows = vec![head.map(str::to_owned)];
    for report in ranked.iter().take(MOST_POLICIES) {
        let rejected = report.rejected();
        let trips: u64 = report.circuits.iter().map(|circuit| circuit.trips).sum();
        rows.push([
            format!("{}", report.score(cost)),
            rejected.bad().to_string(),
            rejected.good().to_string(),
            trips.to_string(),
            report.policy.to_string(),
        ]);
    }
    out.table(&rows)?;
    let more = ranked.len().saturating_sub(MOST_POLICIES);
    if more > 0 {
        out.line(&format!("and {more} more policies, with --json"))?;
    }
    out.line(&format!(
        "score: bad calls rejected, minus {cost} times the good calls rejected (--cost)"
    ))?;
    Ok(())
}

/// A time of the trace: `00:27:30.750`.
fn clock(at: Duration) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

fn as_json(rank: usize, report: &PolicyReport, replayed: &Replayed, cost: f64) -> Value {
    let circuits: Vec<_> = report.circuits.iter().map(circuit).collect();
    json!({
        "rank": rank,
        "score": report.score(cost),
        "policy": report.policy.to_string(),
        "calls": replayed.calls,
        "shortened": replayed.shortened,
        "from_ms": millis(replayed.from),
        "to_ms": millis(replayed.to),
        "admitted": calls(&report.admitted()),
        "rejected": calls(&report.rejected()),
        "circuits": circuits,
    })
}

fn circuit(report: &CircuitReport) -> Value {
    let transitions: Vec<_> = report
        .transitions
        .iter()
        .map(|timed| {
            let transition = &timed.transition;
            json!({
                "at_ms": millis(timed.at),
                "from": transition.from.as_str(),
                "to": transition.to.as_str(),
                "reason": transition.reason.as_str(),
                "tally": tally(&transition.tally),
                "open_for_ms": transition.open_for.map(millis),
            })
        })
        .collect();
    json!({
        "circuit": report.circuit.as_ref().map(CircuitName::as_str),
        "admitted": calls(&report.admitted),
        "rejected": calls(&report.rejected),
        "trips": report.trips,
        "reopenings": report.reopenings,
        "open_ms": millis(report.open),
        "half_open_ms": millis(report.half_open),
        "ends": report.ends.map(State::as_str),
        "transitions": transitions,
        "more_transitions": report.more_transitions,
    })
}

fn calls(calls: &Calls) -> Value {
    json!({
        "successes": calls.successes,
        "failures": calls.failures,
        "ignored": calls.ignored,
        "cancelled": calls.cancelled,
        "good": calls.good(),
        "bad": calls.bad(),
    })
}
