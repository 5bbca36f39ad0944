//! Slow-call rates: a replay counts running calls as a live circuit does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::Replay;
use crate::circuit::{Circuit, Permit, Width};
use crate::clock;
use crate::machine::{Event, Transition};
use crate::outcome::Outcome;
use crate::policy::{Cancelled, Policy};

/// Running calls are counted in slices of absolute time. Both times are aligned to this much: more
/// than a slice, so that slices begin at the same moments.
const ALIGNED: u64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
struct Call {
    at: u64,
    took: u64,
    /// A number of an outcome: success, failure, ignored, cancelled.
    ending: usize,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let apart = prop_oneof![3 => Just(0_u64), 6 => 0..30_u64, 1 => 0..400_u64];
    let took = prop_oneof![3 => Just(0_u64), 4 => 0..60_u64, 3 => 0..800_u64];
    let ending = prop_oneof![6 => Just(0_usize), 3 => Just(1_usize), 4 => 2..4_usize];
    prop::collection::vec((apart, took, ending), 1..150).prop_map(|calls| {
        let mut start = 2_000;
        let call = |(apart, took, ending)| {
            start += apart;
            Call { at: start + took, took, ending }
        };
        let mut calls: Vec<_> = calls.into_iter().map(call).collect();
        calls.sort_by_key(|call| call.at);
        calls
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let cancelled = [Cancelled::FailureIfSlow, Cancelled::Failure, Cancelled::Ignored];
    let evidence = (1..=10_u32, 1..120_u64, 1..15_u64, prop::option::of(2..30_u64), 1..5_u32);
    (evidence, 1..400_u64, 1..4_u64, 0..3_usize).prop_map(move |(evidence, open, probes, which)| {
        let (rate, limit, minimum, window, buckets) = evidence;
        let ms = Duration::from_millis;
        let builder = Policy::only()
            .slow_call_rate(f64::from(rate) / 10.0)
            .slow_call_duration(ms(limit))
            .minimum_calls(minimum)
            .open_for(ms(open))
            .jitter(0.0)
            .probes(probes)
            .probe_lease(ms(open))
            .cancelled(cancelled[which]);
        let builder = match window {
            Some(calls) => builder.count_window(calls),
            None => builder.time_window_in_buckets(ms(900), buckets),
        };
        builder.build().unwrap()
    })
}

/// Plays calls to a live circuit.
async fn play(policy: Policy, calls: &[Call]) -> Vec<(Duration, Transition)> {
    let misaligned = clock::now().as_nanos() % ALIGNED;
    tokio::time::advance(Duration::from_nanos(ALIGNED - misaligned)).await;
    let zero = clock::now();
    let transitions: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = transitions.clone();
    let mut starts: Vec<_> = (0..calls.len()).collect();
    starts.sort_by_key(|&n| (calls[n].at - calls[n].took, n));
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut permits: Vec<Option<Permit>> = calls.iter().map(|_| None).collect();
    let wait = async |time: u64| {
        let wait = Duration::from_millis(time).saturating_sub(clock::now().since(zero));
        if !wait.is_zero() {
            tokio::time::advance(wait).await;
        }
    };
    wait(calls[starts[0]].at - calls[starts[0]].took).await;
    // One stripe, as a replay has.
    let circuit = Circuit::new("live".try_into().unwrap(), policy, Vec::new(), Width::One);
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event {
            // A trace has no texts of failures.
            let transition = Transition { last_error: None, ..transition.clone() };
            seen.lock().unwrap().push((clock::now().since(zero), transition));
        }
    });
    let starts = starts.iter().map(|&n| (calls[n].at - calls[n].took, Some(n)));
    for (start, started) in starts.chain([(u64::MAX, None)]) {
        while let Some(&Reverse((end, n))) = running.peek()
            && end <= start
        {
            running.pop();
            wait(end).await;
            let Some(permit) = permits[n].take() else { continue };
            match calls[n].ending {
                0 => permit.settle(Outcome::Success),
                1 => permit.settle(Outcome::failure()),
                2 => permit.settle(Outcome::Ignored),
                _ => drop(permit),
            }
        }
        let Some(n) = started else { break };
        wait(start).await;
        permits[n] = circuit.try_acquire().ok();
        running.push(Reverse((calls[n].at, n)));
    }
    circuit.release_engine();
    std::mem::take(&mut *transitions.lock().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(3_000)
    })]

    #[test]
    fn a_replay_counts_running_calls_as_a_live_circuit_does(
        policy in policies(),
        calls in calls(),
    ) {
        let mut lines = String::new();
        for Call { at, took, ending } in &calls {
            let ending = ["success", "failure", "ignored", "cancelled"][*ending];
            writeln!(lines, r#"{{"at_ms":{at},"took_ms":{took},"outcome":"{ending}"}}"#).unwrap();
        }
        let replayed = Replay::new(policy.clone()).read(lines.as_bytes()).unwrap();
        let circuit = &replayed.policies[0].circuits[0];
        let transitions: Vec<_> =
            circuit.transitions.iter().map(|timed| (timed.at, timed.transition.clone())).collect();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        prop_assert_eq!(transitions, runtime.block_on(play(policy, &calls)));
    }
}
