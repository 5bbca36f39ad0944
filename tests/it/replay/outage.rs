//! An hour with a known outage.

use std::fmt::Write;
use std::time::Duration;

use tower_breaker::event::Reason;
use tower_breaker::replay::{Replay, grid};
use tower_breaker::{Policy, State};

use super::fixtures::{Call, Ending, trace};
use crate::support::{ms, s};

/// Ten calls in a second, of 50 ms each. From 20:00 to 25:00 all of them fail.
fn hour() -> String {
    let mut calls: Vec<_> = (0..36_000)
        .map(|n| {
            let start = ms(100) * n;
            let failed = (s(1200)..s(1500)).contains(&start);
            let ending = if failed { Ending::Failure } else { Ending::Success };
            Call { at: start + ms(50), took: ms(50), ending }
        })
        .collect();
    trace(&mut calls)
}

fn policy() -> Policy {
    Policy::builder().jitter(0.0).build().unwrap()
}

#[test]
fn an_outage_shows_the_trip_the_calls_saved_and_the_good_calls_rejected() {
    let replayed = Replay::new(policy()).read(hour().as_bytes()).unwrap();
    assert_eq!((replayed.calls, replayed.from, replayed.to), (36_000, s(0), ms(3_599_950)));
    let circuit = &replayed.policies[0].circuits[0];

    // Five failures in a row, the last of which started at 20:00.4. The intervals are 30 s, 60 s,
    // 120 s and 240 s; each time the next call is a probe, and fails after 50 ms.
    let trip = &circuit.transitions[0];
    assert_eq!(trip.at, ms(1_200_450));
    assert_eq!(trip.transition.reason, Reason::ConsecutiveFailures);
    assert_eq!(trip.transition.tally.consecutive_failures, 5);
    let opened = circuit.transitions.iter().filter(|t| t.transition.to == State::Open);
    let opened: Vec<_> = opened.map(|timed| timed.at).collect();
    assert_eq!(opened, [ms(1_200_450), ms(1_230_550), ms(1_290_650), ms(1_410_750)]);
    assert_eq!((circuit.trips, circuit.reopenings), (1, 3));
    assert_eq!(circuit.admitted.bad(), 5 + 3);
    assert_eq!(circuit.rejected.bad(), 3_000 - 8);

    // The last interval ends at 27:30.75: from 25:00 on, 1508 good calls are rejected.
    assert_eq!(circuit.rejected.good(), 1_508);
    let closed = circuit.transitions.last().unwrap();
    assert_eq!((closed.at, closed.transition.to), (ms(1_650_950), State::Closed));
    assert_eq!(circuit.open + circuit.half_open, ms(1_650_950 - 1_200_450));
    assert_eq!(circuit.ends, Some(State::Closed));
}

#[test]
fn a_grid_ranks_policies_by_calls_saved_and_good_calls_rejected() {
    let replayed = Replay::all(grid(&policy())).read(hour().as_bytes()).unwrap();
    assert_eq!(replayed.policies.len(), 27);
    assert!((replayed.policies[0].score(1.0) - (2_992.0 - 1_508.0)).abs() < 1e-9);
    let ranked = replayed.ranked(1.0);
    assert!(ranked.windows(2).all(|two| two[0].score(1.0) >= two[1].score(1.0)));
    // Where rejecting a good call costs nothing, longer intervals save more.
    let free = replayed.ranked(0.0);
    assert!(free[0].rejected().bad() >= 2_992, "{:?}", free[0].rejected());
    // Where it costs much, the best rejects the fewest.
    let dear = replayed.ranked(100.0)[0].rejected().good();
    assert!(replayed.policies.iter().all(|report| report.rejected().good() >= dear));
    assert!(dear < 1_508, "{dear}");
}

#[test]
fn circuits_of_a_trace_are_apart() {
    let lines: Vec<_> = (0..10)
        .flat_map(|n| [(n, "good", "success"), (n, "bad", "failure")])
        .map(|(at, name, outcome)| {
            format!(
                "{{\"at\":{at},\"took_ms\":1,\"outcome\":\"{outcome}\",\"circuit\":\"{name}\"}}\n"
            )
        })
        .collect();
    let lines = lines.concat();
    let replayed = Replay::new(policy()).read(lines.as_bytes()).unwrap();
    let circuits = &replayed.policies[0].circuits;
    let trips: Vec<_> = circuits.iter().map(|c| (c.circuit.as_ref().unwrap(), c.trips)).collect();
    let names: Vec<_> = trips.iter().map(|(name, trips)| (name.as_str(), *trips)).collect();
    assert_eq!(names, [("good", 0), ("bad", 1)]);

    let only = Replay::new(policy()).only("bad".try_into().unwrap());
    let replayed = only.read(lines.as_bytes()).unwrap();
    assert_eq!((replayed.calls, replayed.policies[0].circuits.len()), (10, 1));
}

#[test]
fn a_call_longer_than_the_longest_is_shortened_and_counted() {
    let mut lines = String::new();
    for n in 0..300 {
        writeln!(lines, r#"{{"at":{n},"took":0.5,"outcome":"success"}}"#).unwrap();
    }
    lines += "{\"at\":300,\"took\":250,\"outcome\":\"failure\"}\n";
    let shortened = |replay: Replay| replay.read(lines.as_bytes()).unwrap().shortened;
    assert_eq!(shortened(Replay::new(policy())), 1);
    assert_eq!(shortened(Replay::new(policy()).longest_call(Duration::from_secs(300))), 0);
}
