//! The window over which rates and counts are taken.

use std::time::Duration;

/// The window over which a policy takes its rates and counts.
///
/// [`Policy::window`](crate::Policy::window) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// The last `calls` results.
    Count {
        /// How many results.
        calls: u64,
    },
    /// The results of the last `length`, in `buckets` slices.
    ///
    /// A slice leaves the window as a whole, so the window covers between `length` less one slice
    /// and `length`.
    Time {
        /// The longest time that the window covers.
        length: Duration,
        /// How many slices.
        buckets: u32,
    },
    /// No window: the circuit counts only calls in a row.
    None,
}
