//! The window over which a policy takes its rates and counts.

use std::time::Duration;

/// The window over which a policy takes its rates and counts.
///
/// [`Policy::window`](crate::Policy::window) returns it. To choose one, use
/// [`time_window`](crate::policy::PolicyBuilder::time_window),
/// [`count_window`](crate::policy::PolicyBuilder::count_window) or
/// [`no_window`](crate::policy::PolicyBuilder::no_window).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// The last `calls` results.
    Count {
        /// How many results.
        calls: u64,
    },
    /// The results of the last `length`, in `buckets` buckets.
    ///
    /// The oldest bucket is dropped as a whole, so the window covers between `length` minus one
    /// bucket and `length`.
    Time {
        /// The longest time that the window covers.
        length: Duration,
        /// How many buckets the window has.
        buckets: u32,
    },
    /// No window. The circuit counts only consecutive calls.
    None,
}
