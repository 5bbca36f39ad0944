//! What the programs share.

pub mod allocations;
pub mod clock;
pub mod instructions;
pub mod peers;
pub mod report;
pub mod rounds;
pub mod services;
pub mod watched;
