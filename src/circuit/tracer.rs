//! What a recording gets of a result.

use std::sync::Arc;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::timestamp::Timestamp;

/// Gets every result. Called without any lock. It runs no user code, and does not block.
pub(crate) type Tracer = Arc<dyn Fn(Traced) + Send + Sync>;

/// How a call ended.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "replay"), expect(dead_code, reason = "only recordings read it"))]
pub(crate) struct Traced {
    pub(crate) at: Timestamp,
    /// `None` if it is not known when the call began.
    pub(crate) took: Option<Duration>,
    /// `None` if it was cancelled.
    pub(crate) outcome: Option<Outcome>,
}
