//! Replicas that share a backend, and what every backend must do.

#[cfg(feature = "redis")]
mod agreement;
mod deadline;
mod faults;
mod laws;
mod partial;
mod rejoin;
mod replicas;
mod scale;
mod simulation;
