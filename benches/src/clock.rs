//! The clocks whose price is printed beside the results, and the one that measures.

use std::time::Instant;

/// The standard library's.
#[expect(clippy::disallowed_methods, reason = "the crate has one reader of time; this is not it")]
#[inline]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of the kernel's last tick.
#[cfg(target_os = "linux")]
#[inline]
#[must_use]
pub fn coarse() -> rustix::time::Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse)
}
