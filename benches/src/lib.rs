//! What the two programs share.

pub mod allocations;
pub mod clock;
pub mod peers;
pub mod report;
pub mod rounds;
pub mod services;
pub mod watched;
