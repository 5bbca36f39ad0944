//! The same on a real Redis, in real time.

mod clock;
mod denied;
mod forged;
mod keys;
mod stall;
