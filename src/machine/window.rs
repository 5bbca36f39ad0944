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

/// Totals read from a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
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

    /// Failures since the last success.
    pub(crate) fn streak(&self) -> u64 {
        self.streak
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
        match &self.window {
            Window::Count(window) => window.tally(),
            Window::Time(window) => window.tally(),
            Window::None => Tally::default(),
        }
    }

    /// When the current bucket ends, where there are buckets.
    pub(crate) fn bucket_end(&self) -> Option<Timestamp> {
        match &self.window {
            Window::Time(window) => Some(window.bucket_end()),
            Window::Count(_) | Window::None => None,
        }
    }
}
