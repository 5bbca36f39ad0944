//! What circuits count.

mod keyed;
mod kinds;
mod threads;
mod totals;
