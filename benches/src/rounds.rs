//! Rounds: every subject is measured once in each, so that noise hits all alike.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock;

/// Makes so many calls, and returns how many passed.
pub type Calls<'a> = Box<dyn FnMut(u64) -> u64 + Send + 'a>;

/// How long to measure, from the command line.
pub struct Options {
    /// Only whether everything runs; the figures mean nothing.
    pub smoke: bool,
    /// How many rounds.
    pub rounds: usize,
    /// How long a subject runs in a round.
    pub turn: Duration,
    /// Count instructions instead of time.
    pub instructions: bool,
    /// Make so many calls of the subject of this name and nothing else: what is counted.
    pub calls: Option<(u64, String)>,
    only: Vec<String>,
}

impl Options {
    /// `--smoke` is quick, as is a run that cargo did not start as a benchmark (`cargo test
    /// --benches`). `--instructions` counts instructions. Words choose the subjects that contain one of them.
    #[must_use]
    pub fn from_args(turn: Duration) -> Self {
        let (flags, only): (Vec<_>, Vec<_>) =
            std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
        let has = |flag: &str| flags.iter().any(|it| it == flag);
        let smoke = has("--smoke") || !has("--bench");
        let (rounds, turn) = if smoke { (1, Duration::ZERO) } else { (15, turn) };
        let calls = flags.iter().find_map(|it| it.strip_prefix("--calls=")?.parse().ok());
        let calls = calls.zip(only.first().cloned());
        Self { smoke, rounds, turn, instructions: has("--instructions"), calls, only }
    }

    /// Whether a subject of this name was asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Nanoseconds per call, of `calls` calls on this thread, and how many of them passed.
pub fn time(calls: u64, run: &mut dyn FnMut(u64) -> u64) -> (f64, u64) {
    let start = clock::now();
    let passed = run(calls);
    (per_call(start.elapsed(), calls), passed)
}

/// How many calls take about `turn`: a multiple of ten. Warms up what it measures.
pub fn calibrate(turn: Duration, run: &mut dyn FnMut(u64) -> u64) -> u64 {
    let mut calls = 1_000;
    loop {
        let (each, _) = time(calls, run);
        let spent = each * calls as f64;
        if spent >= turn.as_nanos() as f64 / 4.0 {
            let wanted = (turn.as_nanos() as f64 / each) as u64;
            return wanted.max(1_000).next_multiple_of(10);
        }
        calls *= 2;
    }
}

/// Nanoseconds per call and thread, of workers that run at once, each on a thread of its own, for
/// `turn`; and which share of the calls passed.
///
/// # Panics
///
/// If a worker does.
pub fn together(workers: Vec<Calls<'_>>, turn: Duration) -> (f64, f64) {
    const BATCH: u64 = 1_000;

    let absent = AtomicUsize::new(workers.len());
    let run = |mut worker: Calls<'_>| {
        let arrival = Arrival(&absent);
        worker(BATCH);
        drop(arrival);
        while absent.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
        let start = clock::now();
        let (mut calls, mut passed) = (0, 0);
        loop {
            passed += worker(BATCH);
            calls += BATCH;
            let spent = start.elapsed();
            if spent >= turn {
                return (spent, calls, passed);
            }
        }
    };
    let ended: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(|| run(worker))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker panicked")).collect()
    });
    let spent = ended.iter().map(|(spent, ..)| spent).sum();
    let calls: u64 = ended.iter().map(|(_, calls, _)| calls).sum();
    let passed: u64 = ended.iter().map(|(.., passed)| passed).sum();
    (per_call(spent, calls), passed as f64 / calls as f64)
}

/// A worker is there, or has panicked: the others must not wait for it for ever.
struct Arrival<'a>(&'a AtomicUsize);

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn per_call(spent: Duration, calls: u64) -> f64 {
    spent.as_nanos() as f64 / calls as f64
}

/// The value that so great a share of the others is below.
///
/// # Panics
///
/// If there are no values.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// The value in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
