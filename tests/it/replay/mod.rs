//! Replays of traces.

mod fixtures;
mod lines;
mod live;
mod outage;
mod record;
