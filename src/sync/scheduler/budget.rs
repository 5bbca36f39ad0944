//! What a store may spend on commands, and how fast.

use std::time::Duration;

use crate::timestamp::{Timestamp, nanos};

/// The price of a command: what a rate of one command a second earns in a second.
///
/// So a rate of n commands a second earns n a nanosecond, and no sum is rounded.
pub(super) const COMMAND: i64 = 1_000_000_000;
/// The price of a circuit in a command.
pub(super) const CIRCUIT: i64 = COMMAND / 10;
/// A burst is never smaller, in commands.
const LEAST_BURST: u32 = 10;
/// The rate is never lower: heartbeats alone take one command a second.
pub(super) const LEAST_RATE: u32 = 2;
/// An answer that took longer is slow.
const SLOW: Duration = Duration::from_millis(250);
/// The rate is halved once in this time: the answers to what was under way are slow together.
const BETWEEN_CUTS: Duration = Duration::from_millis(500);
/// The rate is raised each time that so long no answer was slow.
const BETWEEN_RAISES: Duration = Duration::from_secs(1);
const RAISES_TO_FULL: u32 = 4;
const MOST_CUT: u32 = 16;
/// The most commands under way at the full rate.
pub(super) const MOST_IN_FLIGHT: usize = 16;
const LEAST_IN_FLIGHT: usize = 2;

/// A balance that grows at a rate, and a rate that falls fast and rises slowly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    full: u32,
    rate: u32,
    balance: i64,
    /// The balance and the rate are those of this moment.
    at: Timestamp,
    raise_at: Timestamp,
    cut_from: Timestamp,
}

impl Budget {
    pub(super) fn new(per_second: u32, now: Timestamp) -> Self {
        let full = per_second.max(LEAST_RATE);
        let mut new = Self { full, rate: full, balance: 0, at: now, raise_at: now, cut_from: now };
        new.balance = new.burst();
        new
    }

    #[cfg(all(test, not(breaker_loom)))]
    pub(super) fn full(&self) -> u32 {
        self.full
    }

    #[cfg(all(test, not(breaker_loom)))]
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn balance(&self) -> i64 {
        self.balance
    }

    /// Returns the most that is saved up: half a second's worth.
    pub(super) fn burst(&self) -> i64 {
        i64::from((self.full / 2).max(LEAST_BURST)) * COMMAND
    }

    /// Returns how many commands may be under way: fewer at a lower rate.
    pub(super) fn slots(&self) -> usize {
        let share = MOST_IN_FLIGHT as u64 * u64::from(self.rate) / u64::from(self.full);
        usize::try_from(share).map_or(MOST_IN_FLIGHT, |share| share.max(LEAST_IN_FLIGHT))
    }

    pub(super) fn spend(&mut self, price: i64) {
        self.balance = self.balance.saturating_sub(price);
    }

    /// Lets time pass. A moment before the last one changes nothing.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(raise) = self.next_raise().filter(|raise| *raise <= now) {
            self.earn(raise);
            self.rate =
                (self.rate.saturating_add(self.full.div_ceil(RAISES_TO_FULL))).min(self.full);
            self.raise_at = raise.after(BETWEEN_RAISES);
        }
        self.earn(now);
    }

    /// An answer arrived, at the current moment.
    pub(super) fn answered(&mut self, took: Duration) {
        if took > SLOW {
            self.slow_down();
        }
    }

    /// Halves the rate, if it was not just halved, and puts off the next raise.
    pub(super) fn slow_down(&mut self) {
        self.raise_at = self.at.after(BETWEEN_RAISES);
        if self.at >= self.cut_from {
            self.rate = (self.rate / 2).max(self.full / MOST_CUT).max(LEAST_RATE);
            self.cut_from = self.at.after(BETWEEN_CUTS);
        }
    }

    /// Returns when the balance will be at least this, if nothing is spent.
    pub(super) fn reaches(mut self, balance: i64) -> Timestamp {
        loop {
            let missing = balance.saturating_sub(self.balance).max(0).unsigned_abs();
            let wait = Duration::from_nanos(missing.div_ceil(u64::from(self.rate)));
            let reached = self.at.after(wait);
            match self.next_raise().filter(|raise| *raise < reached) {
                Some(raise) => self.advance(raise),
                None => return reached,
            }
        }
    }

    /// Returns when one more command than these may be under way, if no answer is slow.
    pub(super) fn has_slot(mut self, in_flight: usize, extra: usize) -> Timestamp {
        while in_flight >= self.slots() + extra {
            match self.next_raise() {
                Some(raise) => self.advance(raise),
                None => return Timestamp::NEVER,
            }
        }
        self.at
    }

    fn next_raise(&self) -> Option<Timestamp> {
        (self.rate < self.full).then_some(self.raise_at)
    }

    fn earn(&mut self, now: Timestamp) {
        let elapsed = i64::try_from(nanos(now.since(self.at))).unwrap_or(i64::MAX);
        let earned = elapsed.saturating_mul(i64::from(self.rate));
        self.balance = self.balance.saturating_add(earned).min(self.burst());
        self.at = self.at.max(now);
    }
}
