//! Evidence: what a circuit remembers of its calls while it is closed.
//!
//! Laws, for every kind of window:
//!
//! - The memory is fixed when the window is made; it does not grow with calls.
//! - The [`Tally`] is the sum of what is in the window, to the call.
//! - [`Evidence::successes`] of `n` leaves what `n` single successes would leave.

mod count;
mod time;

use std::time::Duration;

use crate::timestamp::Timestamp;
use count::CountWindow;
use time::TimeWindow;

/// What a circuit has counted: totals read from its window, and its streak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Calls in the window. Zero under a policy without a window, and in states without evidence.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
}

impl Tally {
    /// Failures per hundred calls in the window, rounded down; `None` while there are no calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<u8> {
        percent(self.failures, self.calls)
    }

    /// What is left of a total without one share of it.
    pub(super) fn without(self, share: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(share.calls),
            failures: self.failures.saturating_sub(share.failures),
            slow_calls: self.slow_calls.saturating_sub(share.slow_calls),
            consecutive_failures: self
                .consecutive_failures
                .saturating_sub(share.consecutive_failures),
        }
    }

    /// Slow calls per hundred calls in the window, rounded down; `None` while there are no calls.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<u8> {
        percent(self.slow_calls, self.calls)
    }
}

fn percent(part: u64, whole: u64) -> Option<u8> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u8::try_from(percent).ok()
}

/// The totals of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    calls: u64,
    failures: u64,
    slow: u64,
}

/// One result, as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

/// Which window a policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The last `calls` results.
    Count { calls: u64 },
    /// The results of the last `length`, in `buckets` slices.
    Time { length: Duration, buckets: u32 },
    /// No window: only the streak of failures counts.
    None,
}

#[derive(Clone, Debug)]
enum Window {
    Count(CountWindow),
    Time(TimeWindow),
    None,
}

/// The streak of failures and the window, together.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    streak: u64,
    window: Window,
}

impl Evidence {
    pub(crate) fn new(shape: Shape, now: Timestamp) -> Self {
        let window = match shape {
            Shape::Count { calls } => Window::Count(CountWindow::new(calls)),
            Shape::Time { length, buckets } => Window::Time(TimeWindow::new(length, buckets, now)),
            Shape::None => Window::None,
        };
        Self { streak: 0, window }
    }

    pub(crate) fn record(&mut self, mark: Mark) {
        self.streak = if mark.failed { self.streak.saturating_add(1) } else { 0 };
        match &mut self.window {
            Window::Count(window) => window.push(mark),
            Window::Time(window) => window.push(mark),
            Window::None => {}
        }
    }

    /// A run of `n` successes, none of them slow.
    pub(crate) fn successes(&mut self, n: u64) {
        if n == 0 {
            return;
        }
        self.streak = 0;
        match &mut self.window {
            Window::Count(window) => window.successes(n),
            Window::Time(window) => window.successes(n),
            Window::None => {}
        }
    }

    /// Lets go of what has become too old.
    pub(crate) fn slide(&mut self, now: Timestamp) {
        if let Window::Time(window) = &mut self.window {
            window.slide(now);
        }
    }

    pub(crate) fn has_window(&self) -> bool {
        !matches!(self.window, Window::None)
    }

    pub(crate) fn tally(&self) -> Tally {
        let Sums { calls, failures, slow } = match &self.window {
            Window::Count(window) => window.sums(),
            Window::Time(window) => window.sums(),
            Window::None => Sums::default(),
        };
        Tally { calls, failures, slow_calls: slow, consecutive_failures: self.streak }
    }

    /// When the current bucket ends, where there are buckets.
    pub(crate) fn bucket_end(&self) -> Option<Timestamp> {
        match &self.window {
            Window::Time(window) => Some(window.bucket_end()),
            Window::Count(_) | Window::None => None,
        }
    }
}
