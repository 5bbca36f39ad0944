//! What hundreds of replicas, thousands of circuits, background failures and hours must not change.

mod budget;
mod evidence;
mod fleet;
mod replicas;
mod truth;
