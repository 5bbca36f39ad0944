//! What is known of the servers' clocks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;

/// The best estimate is that of the last one to two of these. Clocks drift, so an old one is none.
const PERIOD: u64 = 30_000_000;

/// How far the clocks of servers are ahead of ours, by slot. Nodes of a cluster have clocks of
/// their own, and a slot has one node.
#[derive(Default)]
pub(super) struct Clocks(Mutex<HashMap<u16, Ahead>>);

/// In microseconds. Each answer shows it too large by the time that its command took to the server,
/// so the smallest is the best: a command that is stalled later is seen to be late.
#[derive(Clone, Copy)]
struct Ahead {
    best: i64,
    before: i64,
    since: u64,
}

impl Clocks {
    /// Takes note of the time of a server that a command has found, which was sent at `sent`.
    pub(super) fn found(&self, slot: u16, sent: u64, server: u64) {
        let ahead = server.cast_signed().wrapping_sub(sent.cast_signed());
        let mut clocks = self.lock();
        let new = Ahead { best: ahead, before: i64::MAX, since: sent };
        let known = clocks.entry(slot).or_insert(new);
        match sent.saturating_sub(known.since) {
            ..PERIOD => known.best = known.best.min(ahead),
            PERIOD..60_000_000 => *known = Ahead { before: known.best, ..new },
            _ => *known = new,
        }
    }

    /// Takes note of a time that contradicts what was known.
    pub(super) fn jumped(&self, slot: u16, sent: u64, server: u64) {
        self.lock().remove(&slot);
        self.found(slot, sent, server);
    }

    /// Returns the server's time, in microseconds, at this time of ours.
    pub(super) fn at(&self, slot: u16, time: u64) -> Option<u64> {
        let clocks = self.lock();
        let ahead = clocks.get(&slot)?;
        Some(time.checked_add_signed(ahead.best.min(ahead.before))?.max(1))
    }

    /// Returns the present time of the server whose clock is the furthest ahead, in milliseconds.
    pub(super) fn latest(&self) -> Option<u64> {
        let ahead = self.lock().values().map(|ahead| ahead.best.min(ahead.before)).max()?;
        Some(now().checked_add_signed(ahead)? / 1_000)
    }

    /// Another server may answer now, with another clock.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Ahead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our time, in microseconds.
pub(super) fn now() -> u64 {
    clock::now().as_nanos() / 1_000
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_shows_the_clock_best() {
        let clocks = Clocks::default();
        assert_eq!((clocks.at(0, 5), clocks.latest()), (None, None));
        for (sent, server) in [(0, 1_300), (10, 1_110), (20, 400_020)] {
            clocks.found(0, sent, server);
        }
        assert_eq!((clocks.at(0, 30), clocks.at(1, 30)), (Some(1_130), None));
    }

    #[test]
    fn an_old_estimate_is_given_up_and_a_wrong_one_at_once() {
        let clocks = Clocks::default();
        clocks.found(0, 0, 1_000);
        for sent in [PERIOD, 2 * PERIOD - 1] {
            clocks.found(0, sent, sent + 2_000);
            assert_eq!(clocks.at(0, sent), Some(sent + 1_000));
        }
        clocks.found(0, 2 * PERIOD, 2 * PERIOD + 3_000);
        assert_eq!(clocks.at(0, 0), Some(2_000));
        clocks.jumped(0, 2 * PERIOD, 2 * PERIOD + 9_000);
        assert_eq!(clocks.at(0, 0), Some(9_000));
        clocks.forget();
        assert_eq!(clocks.at(0, 0), None);
    }
}
