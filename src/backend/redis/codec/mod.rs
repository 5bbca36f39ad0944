//! What is sent to the scripts, and what comes back.
//!
//! Requests and answers are JSON. Unknown fields are ignored, and missing ones have their default,
//! so that versions can share a backend for as long as the number of the schema is the same.

mod history;
mod keys;
mod notice;
mod reply;
mod request;

pub(super) use keys::Keys;
pub(super) use notice::{MAX_CIRCUITS, changed, circuits, circuits_message};
pub(super) use reply::{Reply, late};
pub(super) use request::{BatchRequest, Request};

/// The number of the schema. Replicas of another one ignore what this one publishes.
const SCHEMA: u64 = 2;

/// Numbers of a script are doubles; up to this one they are exact.
const MOST: u64 = (1 << 53) - 1;
