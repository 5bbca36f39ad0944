//! What a replica has counted on a closed circuit and not reported yet.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backend::{Count, Failures, Geometry, Report};
use crate::machine::Mark;
use crate::timestamp::Timestamp;

/// Times of consecutive failures that are kept apart; more are merged, the older time kept. So a
/// success of another replica ends rather too many of them than too few.
const MOST_TIMES: usize = 16;

/// Evidence with its age, since the last report.
///
/// The memory is bounded by the window's buckets and [`MOST_TIMES`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unreported {
    window: Option<Geometry>,
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    /// Failures after the last success, oldest first.
    failures: Vec<(Timestamp, u64)>,
    last_success: Option<Timestamp>,
    /// When the first call ended that failed or was slow.
    failing_since: Option<Timestamp>,
    /// Failures were reported, and no success since.
    streak_is_known: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Bucket {
    number: u64,
    /// Calls that failed or were slow.
    bad: u64,
    failures: u64,
    slow_calls: u64,
    /// The other calls.
    good: u64,
}

/// Which calls a report has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Those that failed or were slow: the circuit is quiet.
    Bad,
    All,
}

/// What a report has of the evidence.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) counts: Vec<Count>,
    pub(super) failures: Vec<Failures>,
    pub(super) last_success: Option<Duration>,
}

impl Unreported {
    pub(super) fn new(window: Option<Geometry>) -> Self {
        Self {
            window,
            buckets: VecDeque::new(),
            failures: Vec::new(),
            last_success: None,
            failing_since: None,
            streak_is_known: false,
        }
    }

    pub(super) fn window(&self) -> Option<Geometry> {
        self.window
    }

    pub(super) fn record(&mut self, mark: Mark, now: Timestamp) {
        if mark.failed {
            self.fail(now);
        } else {
            self.succeed(now);
        }
        if mark.failed || mark.slow {
            self.failing_since.get_or_insert(now);
        }
        if let Some(bucket) = self.bucket(now) {
            if mark.failed || mark.slow {
                bucket.bad += 1;
                bucket.failures += u64::from(mark.failed);
                bucket.slow_calls += u64::from(mark.slow);
            } else {
                bucket.good += 1;
            }
        }
    }

    /// Adds `n` consecutive successes, the last of them at `at`.
    pub(super) fn successes(&mut self, n: u64, at: Timestamp) {
        if n == 0 {
            return;
        }
        self.succeed(at);
        if let Some(bucket) = self.bucket(at) {
            bucket.good += n;
        }
    }

    /// When the first call ended that a report of a quiet circuit would have.
    pub(super) fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// Whether a success has ended a streak that the backend knows.
    pub(super) fn ends_known_streak(&self) -> bool {
        self.streak_is_known && self.last_success.is_some()
    }

    /// Takes what a report has. What it leaves out stays.
    pub(super) fn take(&mut self, detail: Detail, now: Timestamp) -> Taken {
        let mut taken = Taken {
            counts: Vec::new(),
            failures: self
                .failures
                .drain(..)
                .map(|(at, number)| Failures { age: now.since(at), number })
                .collect(),
            last_success: self.last_success.take().map(|at| now.since(at)),
        };
        // A success and the failure after it may share a reading of the clock.
        if let (Some(success), Some(first)) = (&mut taken.last_success, taken.failures.first()) {
            *success = (*success).max(first.age + Duration::from_micros(1));
        }
        self.streak_is_known =
            !taken.failures.is_empty() || self.streak_is_known && taken.last_success.is_none();
        self.failing_since = None;
        let Some(window) = self.window else { return taken };
        let (width, oldest) = (width(window), oldest(window, now));
        self.buckets.retain_mut(|bucket| {
            if bucket.number < oldest {
                return false;
            }
            let good = match detail {
                Detail::All => std::mem::take(&mut bucket.good),
                Detail::Bad => 0,
            };
            let calls = std::mem::take(&mut bucket.bad) + good;
            if calls > 0 {
                // In the middle of its bucket, as far as that has passed.
                let middle = bucket.number.saturating_mul(width).saturating_add(width / 2);
                taken.counts.push(Count {
                    age: now.since(Timestamp::from_nanos(middle)),
                    calls,
                    failures: std::mem::take(&mut bucket.failures),
                    slow_calls: std::mem::take(&mut bucket.slow_calls),
                });
            }
            bucket.good > 0
        });
        taken
    }

    fn fail(&mut self, now: Timestamp) {
        let full = self.failures.len() >= MOST_TIMES;
        match self.failures.last_mut() {
            Some((at, number)) if *at == now || full => *number += 1,
            _ => self.failures.push((now, 1)),
        }
    }

    fn succeed(&mut self, at: Timestamp) {
        self.failures.clear();
        self.last_success = Some(self.last_success.map_or(at, |last| last.max(at)));
    }

    fn bucket(&mut self, at: Timestamp) -> Option<&mut Bucket> {
        let window = self.window?;
        let number = at.as_nanos() / width(window);
        let is_new = self.buckets.back().is_none_or(|newest| newest.number < number);
        if is_new {
            let oldest = oldest(window, at);
            while self.buckets.front().is_some_and(|bucket| bucket.number < oldest) {
                self.buckets.pop_front();
            }
            self.buckets.push_back(Bucket { number, ..Bucket::default() });
        }
        // A time before the newest bucket belongs to it, as in the window of the machine.
        self.buckets.back_mut()
    }
}

/// The length of a bucket, in nanoseconds.
fn width(window: Geometry) -> u64 {
    window.bucket_millis().saturating_mul(1_000_000)
}

/// The number of the oldest bucket that is in the window.
fn oldest(window: Geometry, now: Timestamp) -> u64 {
    let current = now.as_nanos() / width(window);
    (current + 1).saturating_sub(u64::from(window.buckets.max(1)))
}

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.failures.is_empty() && self.last_success.is_none()
    }

    /// Puts what was taken into a report.
    pub(super) fn into_report(self, report: &mut Report) {
        report.counts = self.counts;
        report.failures = self.failures;
        report.last_success = self.last_success;
    }
}
