//! The one reader of time.
//!
//! Two readings of one monotonic timeline:
//!
//! - [`now`] is exact. What is decided under a circuit's lock is decided by it.
//! - [`coarse`] is at most one [`step`] behind [`now`] and never ahead (Linux: the time of the
//!   kernel's last tick, 1 to 10 ms by its configuration). Paths without a lock use it to check
//!   whether what the circuit published has expired, so a bucket may end a tick late, and never
//!   early. Calls are timed by it if a tick is at most a hundredth of the slow-call limit. It costs
//!   6 ns instead of 17, on every call.
//!
//! A wait that was announced to a caller never ends a tick late: near the end of an open interval,
//! and of each second of it, the exact clock decides.
//!
//! With the feature `test-util` both are tokio's clock, so that `tokio::time::pause()` works. On
//! other systems than Linux both are the clock of the standard library.

use crate::timestamp::Timestamp;

#[cfg(all(test, breaker_loom))]
pub(crate) use imp::set;
pub(crate) use imp::{coarse, now, step};

#[cfg(all(target_os = "linux", not(feature = "test-util"), not(all(test, breaker_loom))))]
mod imp {
    use std::sync::OnceLock;

    use super::Timestamp;
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    #[inline]
    pub(crate) fn now() -> Timestamp {
        timestamp(clock_gettime(ClockId::Monotonic))
    }

    #[inline]
    pub(crate) fn coarse() -> Timestamp {
        timestamp(clock_gettime(ClockId::MonotonicCoarse))
    }

    /// The most nanoseconds that [`coarse`] can be behind [`now`].
    pub(crate) fn step() -> u64 {
        static STEP: OnceLock<u64> = OnceLock::new();
        *STEP.get_or_init(|| timestamp(clock_getres(ClockId::MonotonicCoarse)).as_nanos())
    }

    #[inline]
    #[expect(clippy::cast_sign_loss, reason = "this clock starts at zero and only grows")]
    fn timestamp(time: Timespec) -> Timestamp {
        Timestamp::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[cfg(all(any(not(target_os = "linux"), feature = "test-util"), not(all(test, breaker_loom))))]
mod imp {
    use std::sync::OnceLock;

    use super::Timestamp;
    use crate::timestamp::nanos;

    #[cfg(not(feature = "test-util"))]
    use std::time::Instant;
    #[cfg(feature = "test-util")]
    use tokio::time::Instant;

    /// The first reading is this many nanoseconds after the start of time. A paused clock can be
    /// behind the first reading, which another test's runtime may have made.
    const HEAD_START: u64 = 1 << 60;

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub(crate) fn now() -> Timestamp {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let now = Instant::now();
        let first = *FIRST.get_or_init(|| now);
        let ahead = nanos(now.saturating_duration_since(first));
        let behind = nanos(first.saturating_duration_since(now));
        Timestamp::from_nanos(HEAD_START.saturating_add(ahead).saturating_sub(behind))
    }

    pub(crate) use now as coarse;

    pub(crate) fn step() -> u64 {
        0
    }
}

/// Under the model checker time stands still until it is set: it explores orders, not durations.
#[cfg(all(test, breaker_loom))]
mod imp {
    use std::cell::Cell;
    use std::time::Duration;

    use super::Timestamp;

    // A model's threads all run on one thread of the system.
    thread_local!(static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) });

    pub(crate) fn set(now: Duration) {
        NOW.set(now);
    }

    pub(crate) fn now() -> Timestamp {
        Timestamp::default().after(NOW.get())
    }

    pub(crate) use now as coarse;

    pub(crate) fn step() -> u64 {
        0
    }
}
