//! The task that samples the circuits of a store.

use std::sync::Weak;

use tokio::time::{MissedTickBehavior, interval};

use super::samples::LENGTH;
use super::shared::Shared;

/// Runs until the service is gone.
pub(super) async fn run(shared: Weak<Shared>) {
    let mut ticks = interval(LENGTH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.sample();
    }
}
