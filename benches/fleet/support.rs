//! What the simulation of the tests needs from their support.

#[path = "../../tests/it/support/traffic.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
pub(crate) mod traffic;

use std::time::Duration;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[expect(clippy::disallowed_methods, reason = "the paused clock")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
