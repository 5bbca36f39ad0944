//! One circuit in one process.

mod errors;
mod events;
mod execute;
mod history;
mod last_error;
mod reuse;
mod threads;
