//! One circuit in one process.

mod errors;
mod events;
mod execute;
mod reuse;
mod threads;
