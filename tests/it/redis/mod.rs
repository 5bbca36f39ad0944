//! A real Redis, in real time.

mod access;
mod connection;
mod faults;
mod processes;
mod records;
