//! What circuits count.

mod keyed;
mod kinds;
mod latency;
mod threads;
mod totals;
