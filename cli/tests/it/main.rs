//! The program as a whole, on servers of its own.

mod program;
mod serve;
mod server;
mod top;
