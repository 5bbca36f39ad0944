//! One circuit in one process.

mod errors;
mod events;
mod execute;
mod history;
mod reuse;
mod threads;
