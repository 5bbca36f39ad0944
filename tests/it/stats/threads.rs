//! Totals of many threads are what they recorded, to the call.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use tower_breaker::stats::Totals;
use tower_breaker::{Circuit, Outcome, Policy};

use crate::support::*;

const THREADS: u64 = 8;

/// How often a circuit is steered while the threads run.
const TURNS: usize = 320;

/// What a thread has recorded.
#[derive(Clone, Copy, Debug, Default)]
struct Recorded {
    succeeded: u64,
    failed: u64,
    ignored: u64,
    cancelled: u64,
    rejected: u64,
}

impl Recorded {
    fn permitted(&self) -> u64 {
        self.succeeded + self.failed + self.ignored + self.cancelled
    }

    /// Makes a call that ends at random.
    fn call(&mut self, circuit: &Circuit, random: &mut fastrand::Rng) {
        let Ok(permit) = circuit.try_acquire() else {
            self.rejected += 1;
            return;
        };
        match random.u32(..16) {
            0 | 1 => {
                self.failed += 1;
                permit.settle(Outcome::failure());
            }
            2 | 3 => {
                self.ignored += 1;
                permit.settle(Outcome::Ignored);
            }
            4 | 5 => {
                self.cancelled += 1;
                drop(permit);
            }
            _ => {
                self.succeeded += 1;
                permit.settle(Outcome::Success);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.cancelled += other.cancelled;
        self.rejected += other.rejected;
    }
}

/// Runs a thread for each seed, `meanwhile` beside them, and returns what they recorded.
fn record(run: impl Fn(u64) -> Recorded + Sync, meanwhile: impl Fn()) -> Recorded {
    let (start, running) = (Barrier::new(8), AtomicU64::new(THREADS));
    let (run, start, running) = (&run, &start, &running);
    thread::scope(|scope| {
        let thread = |seed| {
            scope.spawn(move || {
                start.wait();
                let recorded = run(seed);
                running.fetch_sub(1, Ordering::Release);
                recorded
            })
        };
        let threads: Vec<_> = (0..THREADS).map(thread).collect();
        while running.load(Ordering::Acquire) > 0 {
            meanwhile();
        }
        let mut sum = Recorded::default();
        for thread in threads {
            sum.add(thread.join().unwrap());
        }
        sum
    })
}

/// Whether no number has fallen.
fn grew(before: &Totals, after: &Totals) -> bool {
    let numbers = |totals: &Totals| {
        let Totals { succeeded, ignored, cancelled, stale, slow, rejected, probes, .. } = *totals;
        let times: Vec<_> = totals.times.iter().map(|(_, time)| time).collect();
        let rest = [succeeded, ignored, cancelled, stale, slow, rejected, probes];
        (rest, totals.failed.sum(), totals.transitioned(), times)
    };
    let ((a, failed, transitioned, times), (b, failed_b, transitioned_b, times_b)) =
        (numbers(before), numbers(after));
    a.iter().zip(b).all(|(a, b)| *a <= b)
        && failed <= failed_b
        && transitioned <= transitioned_b
        && times.iter().zip(times_b).all(|(a, b)| *a <= b)
}

/// A policy that trips again and again, or one that never does.
fn policies() -> [Policy; 4] {
    let never = Policy::builder().without_consecutive_failures().without_failure_rate();
    let patient = never.clone().failure_count(u64::from(u32::MAX)).time_window(s(3_600));
    let slow = patient.clone().slow_call_duration(s(1));
    let streak = Policy::only().consecutive_failures(u64::from(u32::MAX));
    let nothing = never.failure_count(100_000).count_window(100_000);
    [patient, slow, streak, nothing].map(|policy| policy.build().unwrap())
}

#[test]
fn the_totals_of_eight_threads_are_what_they_recorded() {
    for policy in policies() {
        let circuit = tower_breaker::Store::in_memory().circuit_with("test", policy);
        let run = |seed| {
            let (mut random, mut recorded) = (fastrand::Rng::with_seed(seed), Recorded::default());
            let circuit = circuit.clone();
            (0..20_000).for_each(|_| recorded.call(&circuit, &mut random));
            recorded
        };
        let recorded = record(run, || drop(circuit.snapshot()));
        let totals = circuit.snapshot().totals;
        assert_eq!(totals.transitioned(), 0, "{totals:?}");
        let counted = (totals.succeeded, totals.failed.sum(), totals.ignored, totals.cancelled);
        let Recorded { succeeded, failed, ignored, cancelled, .. } = recorded;
        assert_eq!(counted, (succeeded, failed, ignored, cancelled));
        assert_eq!((totals.stale, totals.rejected), (0, 0));
    }
}

#[test]
fn totals_are_exact_while_the_circuit_trips_recovers_and_is_steered() {
    let fragile = || {
        let policy = Policy::builder().consecutive_failures(2).open_for(ms(1)).backoff(1.0, ms(1));
        policy.probes(3).successes_to_close(2)
    };
    let policies = policies().map(|policy| policy.to_builder()).into_iter().chain([fragile()]);
    let policies: Vec<_> = policies.map(|policy| policy.build().unwrap()).collect();
    let store = store(fragile());
    let circuit = store.circuit("test");
    let (turn, last) = (AtomicUsize::new(0), std::sync::Mutex::new(Totals::default()));
    let run = |seed| {
        let (mut random, mut recorded) = (fastrand::Rng::with_seed(seed), Recorded::default());
        let circuit = circuit.clone();
        // More calls, if the thread that steers gets its turn late.
        for call in 0.. {
            if call >= 20_000 && turn.load(Ordering::Relaxed) >= TURNS {
                break;
            }
            recorded.call(&circuit, &mut random);
        }
        recorded
    };
    let steer = || {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        match turn % 16 {
            0 => drop(circuit.force_open("test")),
            1 => drop(circuit.disable("test")),
            2 => drop(circuit.metrics_only("test")),
            3 => drop(circuit.force_closed("test")),
            4 => drop(circuit.clear_override()),
            5 => drop(circuit.reset()),
            6 => drop(circuit.probe_now()),
            7 => store.set_policy("test", policies[turn / 16 % policies.len()].clone()),
            _ => {
                let (totals, mut last) = (circuit.snapshot().totals, last.lock().unwrap());
                assert!(grew(&last, &totals), "{last:?} {totals:?}");
                *last = totals;
            }
        }
        thread::yield_now();
    };
    let recorded = record(run, steer);
    let totals = circuit.snapshot().totals;
    assert_eq!(totals.permitted(), recorded.permitted());
    assert_eq!(totals.rejected, recorded.rejected);
    // What is stale has no kind.
    let stale = [
        recorded.succeeded - totals.succeeded,
        recorded.failed + recorded.cancelled - totals.failed.sum() - totals.cancelled,
        recorded.ignored - totals.ignored,
    ];
    assert_eq!(stale.iter().sum::<u64>(), totals.stale, "{totals:?}");
    assert!(totals.transitioned() > 10, "{totals:?}");
}

#[test]
fn sums_of_keyed_circuits_are_exact_over_evictions() {
    let policy = Policy::builder().consecutive_failures(3).open_for(ms(1)).build().unwrap();
    let store = tower_breaker::Store::builder().default_policy(policy).key_limit(12).build();
    let hosts = store.keyed("hosts");
    let others = store.keyed("others");
    let uncounted = AtomicU64::new(0);
    let run = |seed| {
        let (mut random, mut recorded) = (fastrand::Rng::with_seed(seed), Recorded::default());
        for _ in 0..10_000 {
            // Most calls of a few hot keys, the others of many.
            let key = if random.bool() { random.u32(..4) } else { random.u32(4..400) };
            match hosts.circuit(&key.to_string()) {
                Some(circuit) => recorded.call(&circuit, &mut random),
                None => drop(uncounted.fetch_add(1, Ordering::Relaxed)),
            }
        }
        recorded
    };
    let last = std::sync::Mutex::new(Totals::default());
    let read = || {
        let (totals, mut last) = (hosts.totals(), last.lock().unwrap());
        assert!(grew(&last, &totals), "{last:?} {totals:?}");
        *last = totals;
        let _ = others.circuit("other");
        thread::yield_now();
    };
    let recorded = record(run, read);
    let totals = hosts.totals();
    assert_eq!((totals.permitted(), totals.rejected), (recorded.permitted(), recorded.rejected));
    let made = totals.permitted() + totals.rejected + uncounted.into_inner();
    assert_eq!(made, THREADS * 10_000);
    assert!(totals.rejected > 0 && totals.transitioned() > 0, "{totals:?}");
    assert!(store.circuits().len() <= 12);
    assert_eq!(others.totals().permitted(), 0, "of another name");
}
