//! Many threads on one circuit: every result is counted once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use tower_breaker::event::Event;
use tower_breaker::{Outcome, Policy, State};

use crate::support::*;

const THREADS: u64 = 8;

/// The next number of a generator that each thread has for itself, so that runs are repeatable.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn the_totals_of_eight_threads_are_what_they_recorded() {
    for window in ["time", "count"] {
        let policy = Policy::builder().without_consecutive_failures().failure_count(1_000_000);
        let policy = match window {
            "time" => policy.without_failure_rate().time_window(s(3_600)),
            _ => policy.without_failure_rate().count_window(1_000_000),
        };
        let circuit = circuit(policy);
        let (failures, start) = (AtomicU64::new(0), Barrier::new(8));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (circuit, failures, start) = (circuit.clone(), &failures, &start);
                scope.spawn(move || {
                    let mut seed = thread;
                    start.wait();
                    for call in 0..50_000 {
                        match next(&mut seed) % 16 {
                            0 => {
                                failures.fetch_add(1, Ordering::Relaxed);
                                fail(&circuit);
                            }
                            _ => succeed(&circuit),
                        }
                        if call % 10_000 == 0 {
                            assert!(circuit.snapshot().tally.calls > 0);
                        }
                    }
                });
            }
        });
        let snapshot = circuit.snapshot();
        assert_eq!(snapshot.tally.calls, THREADS * 50_000, "{window}");
        assert_eq!(snapshot.tally.failures, failures.into_inner(), "{window}");
        assert_eq!(snapshot.stale_results, 0);
    }
}

#[test]
fn every_result_counts_in_one_generation_or_is_stale_despite_overrides() {
    let policy = Policy::builder().without_consecutive_failures().count_window(1_000_000);
    let circuit = circuit(policy.without_failure_rate().failure_count(1_000_000));
    // The event of each override says what the generation had counted when it ended.
    let ended = Arc::new(AtomicU64::new(0));
    let observer = ended.clone();
    circuit.on_change(move |event| {
        if let Event::Transition(transition) = event {
            observer.fetch_add(transition.tally.calls, Ordering::Relaxed);
        }
    });
    let [running, changes, calls] = [THREADS, 0, 0].map(AtomicU64::new);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (circuit, running, changes, calls) = (circuit.clone(), &running, &changes, &calls);
            scope.spawn(move || {
                let mut seed = thread;
                let mut made = 0;
                // More calls, if the thread that overrides gets its turn late.
                while made < 20_000 || changes.load(Ordering::Relaxed) < 100 {
                    made += 1;
                    let outcome = match next(&mut seed) % 4 {
                        0 => Outcome::failure(),
                        _ => Outcome::Success,
                    };
                    hold(&circuit).settle(outcome);
                }
                calls.fetch_add(made, Ordering::Relaxed);
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while running.load(Ordering::Relaxed) > 0 {
            let n = changes.fetch_add(1, Ordering::Relaxed);
            circuit.force_closed(n.to_string());
        }
    });
    let snapshot = circuit.snapshot();
    let ended = ended.load(Ordering::Relaxed);
    assert!(snapshot.generation > 100, "{snapshot:?}");
    let counted = ended + snapshot.tally.calls + snapshot.stale_results;
    assert_eq!(counted, calls.into_inner());
}

#[test]
fn threads_that_race_to_probe_take_no_more_slots_than_there_are() {
    for round in 0..200 {
        let circuit = circuit(fragile().probes(3).open_for(std::time::Duration::from_nanos(1)));
        trip(&circuit);
        let (running, most, start) = (AtomicU64::new(0), AtomicU64::new(0), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..20 {
                        if let Ok(permit) = circuit.try_acquire() {
                            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            running.fetch_sub(1, Ordering::SeqCst);
                            permit.settle(Outcome::Ignored);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()), "round {round}");
        assert_eq!(circuit.snapshot().probes_out, 0);
        succeed(&circuit);
        assert_state(&circuit, State::Closed);
    }
}
