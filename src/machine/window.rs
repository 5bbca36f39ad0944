//! Evidence: what a circuit remembers of its calls while it is closed.
//!
//! Laws, for every kind of window:
//!
//! - The memory is fixed when the window is made; it does not grow with calls.
//! - The [`Tally`] is the sum of what is in the window, to the call.
//! - [`Evidence::successes`] of `n` does the same as `n` single successes.

mod count;
mod mark;
mod tally;
mod time;

use crate::policy::Window;
use crate::timestamp::Timestamp;
use count::CountWindow;
pub(crate) use mark::Mark;
use mark::Sums;
pub use tally::Tally;
use time::TimeWindow;

#[derive(Clone, Debug)]
enum Kept {
    Count(CountWindow),
    Time(TimeWindow),
    None,
}

/// The runs and the window, together.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    streak: u64,
    unanswered: u64,
    /// Running calls that are slow already.
    overdue: u64,
    window: Kept,
}

impl Evidence {
    pub(crate) fn new(window: Window, now: Timestamp) -> Self {
        let window = match window {
            Window::Count { calls } => Kept::Count(CountWindow::new(calls)),
            Window::Time { length, buckets } => Kept::Time(TimeWindow::new(length, buckets, now)),
            Window::None => Kept::None,
        };
        Self { streak: 0, unanswered: 0, overdue: 0, window }
    }

    pub(crate) fn record(&mut self, mark: Mark) {
        if mark.failed {
            self.streak = self.streak.saturating_add(1);
            self.unanswered = self.unanswered.saturating_add(1);
        } else {
            (self.streak, self.unanswered) = (0, 0);
        }
        match &mut self.window {
            Kept::Count(window) => window.push(mark),
            Kept::Time(window) => window.push(mark),
            Kept::None => {}
        }
    }

    /// Returns how many consecutive calls were cancelled or failed, and how many consecutive calls
    /// failed.
    pub(crate) fn run(&self) -> (u64, u64) {
        (self.unanswered, self.streak)
    }

    /// Records an answer that is no other evidence.
    pub(crate) fn completed(&mut self) {
        self.unanswered = self.streak;
    }

    /// Adds `n` consecutive successes, none of them slow.
    pub(crate) fn successes(&mut self, n: u64) {
        if n == 0 {
            return;
        }
        (self.streak, self.unanswered) = (0, 0);
        match &mut self.window {
            Kept::Count(window) => window.successes(n),
            Kept::Time(window) => window.successes(n),
            Kept::None => {}
        }
    }

    /// Adds `n` calls that were cancelled and are in no window.
    pub(crate) fn cancelled(&mut self, n: u64) {
        self.unanswered = self.unanswered.saturating_add(n);
    }

    pub(crate) fn set_overdue(&mut self, n: u64) {
        self.overdue = n;
    }

    pub(crate) fn overdue(&self) -> u64 {
        self.overdue
    }

    /// Drops what has become too old.
    pub(crate) fn slide(&mut self, now: Timestamp) {
        if let Kept::Time(window) = &mut self.window {
            window.slide(now);
        }
    }

    pub(crate) fn has_window(&self) -> bool {
        !matches!(self.window, Kept::None)
    }

    pub(crate) fn tally(&self) -> Tally {
        let Sums { calls, failures, slow } = match &self.window {
            Kept::Count(window) => window.sums(),
            Kept::Time(window) => window.sums(),
            Kept::None => Sums::default(),
        };
        Tally {
            calls: calls.saturating_add(self.overdue),
            failures,
            slow_calls: slow.saturating_add(self.overdue),
            consecutive_failures: self.streak,
            unanswered: self.unanswered,
        }
    }

    /// Returns when the current bucket ends, if there are buckets.
    pub(crate) fn bucket_end(&self) -> Option<Timestamp> {
        match &self.window {
            Kept::Time(window) => Some(window.bucket_end()),
            Kept::Count(_) | Kept::None => None,
        }
    }
}
