//! Durations and moments in microseconds of a backend's clock.

use std::time::Duration;

pub(super) const SECOND: u64 = 1_000_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// Rounded up: what lasts at all lasts a microsecond.
pub(super) fn micros(duration: Duration) -> u64 {
    let micros = duration.as_nanos().div_ceil(1_000);
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// When something was that is of this age. Nothing was before the start of time.
pub(super) fn ago(age: Duration, now: u64) -> u64 {
    now.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}

/// How long it is until a moment; zero if it is over.
pub(super) fn left(until: u64, now: u64) -> Duration {
    Duration::from_micros(until.saturating_sub(now))
}

/// Cuts the end of something to its own length, which it exceeds if the clock went back.
pub(super) fn cut(until: &mut u64, length: u64, now: u64) {
    *until = (*until).min(now.saturating_add(length));
}

/// The clock in milliseconds, which generations and versions are of.
pub(super) fn millis(now: u64) -> u64 {
    now / 1_000
}
