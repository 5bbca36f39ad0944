//! How long a circuit stays open: backoff, hints, cap and jitter.

use std::time::Duration;

use crate::policy::{Policy, WHOLE};
use crate::timestamp::nanos;

impl Policy {
    /// Returns how long a circuit stays open that probes have reopened `reopenings` times in a row:
    /// the longer of backoff and hint, up to the cap.
    ///
    /// Jitter lengthens and never shortens, by an even share of `draw` of `u64::MAX`. It comes
    /// after the cap, or all circuits at the cap would probe in step.
    pub(crate) fn open_interval(
        &self,
        reopenings: u32,
        hint: Option<Duration>,
        draw: u64,
    ) -> Duration {
        let backoff = nanos(self.open_for);
        let backoff = scaled(backoff, power(self.multiplier, reopenings));
        self.jittered(backoff.max(hint.map_or(0, nanos)), draw)
    }

    /// Returns how long a circuit stays open if the upstream asked for `hint`.
    pub(super) fn hinted_interval(&self, hint: Duration, draw: u64) -> Duration {
        self.jittered(nanos(hint), draw)
    }

    fn jittered(&self, interval: u64, draw: u64) -> Duration {
        let interval = interval.min(nanos(self.longest));
        let jitter = u128::from(interval) * u128::from(self.jitter) / u128::from(WHOLE);
        let drawn = u64::try_from((jitter * u128::from(draw)) >> 64).unwrap_or(u64::MAX);
        Duration::from_nanos(interval.saturating_add(drawn))
    }
}

/// How many fraction bits a [`power`] has.
const FRACTION_BITS: u32 = 32;

/// Raises a number of parts per million to the power of `n`, in binary fixed point. It saturates
/// far above every factor that an interval can use.
fn power(parts: u64, mut n: u32) -> u128 {
    let times = |a: u128, b: u128| a.saturating_mul(b) >> FRACTION_BITS;
    let mut square = (u128::from(parts) << FRACTION_BITS) / u128::from(WHOLE);
    let mut power = 1 << FRACTION_BITS;
    while n > 0 {
        if n % 2 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        n /= 2;
    }
    power
}

fn scaled(nanos: u64, factor: u128) -> u64 {
    u64::try_from(u128::from(nanos).saturating_mul(factor) >> FRACTION_BITS).unwrap_or(u64::MAX)
}
